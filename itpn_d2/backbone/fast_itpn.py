"""Fast-iTPN trunk (TPAMI'24): patch embedding, two attention-free stages, one stage of global attention."""

import torch
from torch import nn

from ..layers import Attention, PatchEmbed, PatchMerge, SwiGLU
from .blocks import AttentionBlock, MlpBlock
from .checks import check_positive, check_sizes
from .trunk import GatheringSpec, Grid, MigrationSpec, Trunk, drop_path_rates, init_linears


class FastITPN(Trunk):
    """Stages 1-2 of MLPs with an inner norm, stage 3 of attention and SwiGLU with layer scale.

    Args:
        channels: width of the three stages.
        depths: number of blocks of the three stages.
        num_heads: heads of stage 3.
        stage_mlp_ratio, mlp_ratio: hidden width over width, stages 1-2 and stage 3.
        layer_scale: initial value of the stage-3 layer scale, None for none.
        pos_grid: rows and columns of the learned position table.
        drop_path: largest stochastic-depth rate, growing linearly over all blocks.
        final_norm: LayerNorm on f3. The pyramid needs it; a classifier that norms after pooling does not.
        migration, gathering: see :meth:`Trunk.accelerate`.
    """

    def __init__(
        self,
        channels: tuple[int, int, int],
        depths: tuple[int, int, int],
        num_heads: int,
        stage_mlp_ratio: float = 3.0,
        mlp_ratio: float = 3.0,
        layer_scale: float | None = 0.1,
        pos_grid: Grid = (14, 14),
        drop_path: float = 0.0,
        final_norm: bool = True,
        in_channels: int = 3,
        norm_eps: float = 1e-6,
        migration: MigrationSpec = None,
        gathering: GatheringSpec = None,
    ):
        super().__init__(channels, depths, num_heads)
        check_sizes(pos_grid=pos_grid, in_channels=in_channels)
        check_positive(
            stage_mlp_ratio=stage_mlp_ratio, mlp_ratio=mlp_ratio, layer_scale=layer_scale, norm_eps=norm_eps
        )
        c1, c2, c3 = channels
        rates = drop_path_rates(drop_path, self.depths)

        def stage(dim: int, drops: list[float]) -> nn.ModuleList:
            return nn.ModuleList(
                MlpBlock(dim, int(dim * stage_mlp_ratio), True, drop, norm_eps) for drop in drops
            )

        self.patch_embed = PatchEmbed(in_channels, c1)
        self.stage1 = stage(c1, rates[0])
        self.merge1 = PatchMerge(c1, c2, norm_eps)
        self.stage2 = stage(c2, rates[1])
        self.merge2 = PatchMerge(c2, c3, norm_eps)
        self.pos_embed = nn.Parameter(torch.zeros(1, *pos_grid, c3))
        self.stage3 = nn.ModuleList(
            AttentionBlock(
                c3,
                Attention(c3, num_heads),
                SwiGLU(c3, int(c3 * mlp_ratio), norm_eps),
                layer_scale,
                drop,
                norm_eps,
            )
            for drop in rates[2]
        )
        self.norm = nn.LayerNorm(c3, eps=norm_eps) if final_norm else nn.Identity()
        self.reset_parameters()
        self.accelerate(migration, gathering)

    def reset_parameters(self) -> None:
        """The reference's initialisation: truncated normal .02 for stage-3 linears and positions; layers that
        stand for convolutions (patch embedding, stages 1-2, merges) keep PyTorch's default for a convolution
        of that size, which is also its default for the equivalent linear layer."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        init_linears(self.stage3)
