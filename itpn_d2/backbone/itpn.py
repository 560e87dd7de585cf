"""iTPN trunk (CVPR'23), a HiViT: attention-free stages without inner norm, plain MLPs, relative positions."""

import torch
from torch import nn

from ..layers import Attention, Mlp, PatchEmbed, PatchMerge, ResampleRule
from ..layers.attention import RelativePosition
from .blocks import AttentionBlock, MlpBlock
from .checks import check_positive, check_sizes
from .trunk import GatheringSpec, Grid, MigrationSpec, Trunk, drop_path_rates, init_linears


class ITPN(Trunk):
    """The first version of the trunk.

    The pixel form has no layer scale; the CLIP form has one in every block, also of stages 1-2. There is no
    norm between stage 3 and the pyramid.

    Args:
        channels: width of the three stages.
        depths: number of blocks of the three stages.
        num_heads: heads of stage 3.
        stage_mlp_ratio, mlp_ratio: hidden width over width, stages 1-2 and stage 3.
        layer_scale: initial value of the layer scale of all blocks, None for none.
        rel_pos: relative position bias of stage 3: none, table, or decomposed (the reference's detectors).
        rel_pos_grid: token grid that the bias is stored for; None for ``pos_grid``.
        pos_grid: rows and columns of the position table.
        pos_resample: how the table follows other grids, see :func:`itpn_d2.layers.resample_grid`; ``scale``
            is the reference's.
        drop_path: largest stochastic-depth rate, growing linearly over all blocks.
        final_norm: LayerNorm on f3, which only a classifier with ``norm_then_mean`` pooling asks for.
        norm_eps: 1e-6 in pre-training and classification; the reference's detectors have 1e-5.
        migration, gathering: see :meth:`Trunk.accelerate`; they need ``rel_pos="none"``.
    """

    def __init__(
        self,
        channels: tuple[int, int, int],
        depths: tuple[int, int, int],
        num_heads: int,
        stage_mlp_ratio: float = 3.0,
        mlp_ratio: float = 4.0,
        layer_scale: float | None = None,
        rel_pos: RelativePosition = "none",
        rel_pos_grid: Grid | None = None,
        pos_grid: Grid = (14, 14),
        pos_resample: ResampleRule = "scale",
        drop_path: float = 0.0,
        final_norm: bool = False,
        in_channels: int = 3,
        norm_eps: float = 1e-6,
        migration: MigrationSpec = None,
        gathering: GatheringSpec = None,
    ):
        super().__init__(channels, depths, num_heads, pos_resample)
        check_sizes(pos_grid=pos_grid, in_channels=in_channels)
        check_positive(
            stage_mlp_ratio=stage_mlp_ratio, mlp_ratio=mlp_ratio, layer_scale=layer_scale, norm_eps=norm_eps
        )
        c1, c2, c3 = channels
        rates = drop_path_rates(drop_path, self.depths)
        bias_grid = tuple(rel_pos_grid or pos_grid)

        def stage(dim: int, drops: list[float]) -> nn.ModuleList:
            return nn.ModuleList(
                MlpBlock(dim, int(dim * stage_mlp_ratio), False, drop, norm_eps, layer_scale)
                for drop in drops
            )

        self.patch_embed = PatchEmbed(in_channels, c1, norm_eps=norm_eps)
        self.stage1 = stage(c1, rates[0])
        self.merge1 = PatchMerge(c1, c2, norm_eps, joint_norm=True)
        self.stage2 = stage(c2, rates[1])
        self.merge2 = PatchMerge(c2, c3, norm_eps, joint_norm=True)
        self.pos_embed = nn.Parameter(torch.zeros(1, *pos_grid, c3))
        self.stage3 = nn.ModuleList(
            AttentionBlock(
                c3,
                Attention(c3, num_heads, True, rel_pos, (bias_grid[0], bias_grid[1])),
                Mlp(c3, int(c3 * mlp_ratio), norm_eps=norm_eps),
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
        """Truncated normal .02 for all linear layers and positions; the patch embedding keeps PyTorch's
        default for a convolution."""
        for part in (self.stage1, self.merge1, self.stage2, self.merge2, self.stage3):
            init_linears(part)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
