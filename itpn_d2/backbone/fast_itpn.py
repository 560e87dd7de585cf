"""Fast-iTPN trunk (TPAMI'24): patch embedding, two attention-free stages, one stage of global attention."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers import PatchEmbed, PatchMerge, PositionCache, token_mask
from ..layers.units import map_to_tokens, tokens_to_map
from .blocks import AttentionBlock, MlpBlock

TOKEN_STRIDE = 16


class FastITPN(nn.Module):
    """Image ``(B, in_channels, H, W)`` to channel-last maps ``f1, f2, f3`` at strides 4, 8, 16.

    H and W are multiples of 16; any such size works, the position embedding is resampled to the token grid.

    Args:
        channels: width of the three stages.
        depths: number of blocks of the three stages.
        num_heads: heads of stage 3.
        stage_mlp_ratio, mlp_ratio: hidden width over width, stages 1-2 and stage 3.
        layer_scale: initial value of the stage-3 layer scale, None for none.
        pos_grid: rows and columns of the learned position table.
        drop_path: largest stochastic-depth rate, growing linearly over all blocks.
        final_norm: LayerNorm on f3. The pyramid needs it; a classifier that norms after pooling does not.
    """

    def __init__(
        self,
        channels: tuple[int, int, int],
        depths: tuple[int, int, int],
        num_heads: int,
        stage_mlp_ratio: float = 3.0,
        mlp_ratio: float = 3.0,
        layer_scale: float | None = 0.1,
        pos_grid: tuple[int, int] = (14, 14),
        drop_path: float = 0.0,
        final_norm: bool = True,
        in_channels: int = 3,
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        self.channels, self.depths, self.num_heads = tuple(channels), tuple(depths), num_heads
        c1, c2, c3 = channels
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()

        def stage(dim: int, first: int, depth: int) -> nn.ModuleList:
            return nn.ModuleList(
                MlpBlock(dim, int(dim * stage_mlp_ratio), True, rates[first + i], norm_eps)
                for i in range(depth)
            )

        self.patch_embed = PatchEmbed(in_channels, c1)
        self.stage1 = stage(c1, 0, depths[0])
        self.merge1 = PatchMerge(c1, c2, norm_eps)
        self.stage2 = stage(c2, depths[0], depths[1])
        self.merge2 = PatchMerge(c2, c3, norm_eps)
        self.pos_embed = nn.Parameter(torch.zeros(1, *pos_grid, c3))
        self.stage3 = nn.ModuleList(
            AttentionBlock(c3, num_heads, int(c3 * mlp_ratio), layer_scale, rate, norm_eps)
            for rate in rates[depths[0] + depths[1] :]
        )
        self.norm = nn.LayerNorm(c3, eps=norm_eps) if final_norm else nn.Identity()
        self.checkpoint_stages: frozenset[int] = frozenset()
        self._positions = PositionCache()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The reference's initialisation: truncated normal .02 for stage-3 linears and positions; layers that
        stand for convolutions (patch embedding, stages 1-2, merges) keep PyTorch's default for a convolution
        of that size, which is also its default for the equivalent linear layer."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.stage3.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Parameters of more than one dimension that are not decayed."""
        return {"pos_embed"}

    def set_grad_checkpointing(self, stages: bool | tuple[int, ...] = True) -> None:
        """Recompute the activations of the given stages (1, 2, 3; True for all) in the backward pass."""
        chosen = (1, 2, 3) if stages is True else stages or ()
        if not set(chosen) <= {1, 2, 3}:
            raise ValueError(f"checkpoint stages {chosen}: choose from 1, 2, 3")
        self.checkpoint_stages = frozenset(chosen)

    def _run(self, stage: int, block: nn.Module, *inputs: Tensor | None) -> Tensor:
        if stage in self.checkpoint_stages and self.training and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def add_positions(self, x: Tensor, grids: list[tuple[int, int]] | None = None) -> Tensor:
        """Add the position embedding to ``(B, H, W, C)``; ``grids`` gives each image's own rows and columns
        of tokens when the batch is padded, and padding gets none."""
        if grids is None:
            return x + self._positions(self.pos_embed, (x.shape[1], x.shape[2]))
        tables = []
        for h, w in grids:
            table = self._positions(self.pos_embed, (h, w))
            tables.append(nn.functional.pad(table, (0, 0, 0, x.shape[2] - w, 0, x.shape[1] - h)))
        return x + torch.cat(tables)

    def forward(
        self, image: Tensor, image_sizes: list[tuple[int, int]] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features of a batch.

        Args:
            image: ``(B, in_channels, H, W)``, padded at the right and bottom.
            image_sizes: (height, width) in pixels of each image without its padding, or None when nothing is
                padded. Real tokens then neither see padding nor take their positions from the padded grid, so
                an image's features do not depend on the batch it is in.

        Returns:
            f1 ``(B, H/4, W/4, C1)``, f2 ``(B, H/8, W/8, C2)``, f3 ``(B, H/16, W/16, C3)``.
        """
        if image.shape[-2] % TOKEN_STRIDE or image.shape[-1] % TOKEN_STRIDE:
            raise ValueError(
                f"image size {tuple(image.shape[-2:])} is not a multiple of {TOKEN_STRIDE}: "
                f"pad it at the right and bottom (ITPNBackbone and the classifier do)"
            )
        x = self.patch_embed(image)
        for block in self.stage1:
            x = self._run(1, block, x)
        f1 = x
        x = self.merge1(f1)
        for block in self.stage2:
            x = self._run(2, block, x)
        f2 = x
        x = self.merge2(f2)
        grid = (x.shape[1], x.shape[2])
        key_mask, grids = None, None
        if image_sizes is not None:
            grids = [(-(-h // TOKEN_STRIDE), -(-w // TOKEN_STRIDE)) for h, w in image_sizes]
            if all(g == grid for g in grids):
                grids = None
            else:
                key_mask = token_mask(grids, grid, x.device).flatten(1)[:, None, None]
        tokens = map_to_tokens(self.add_positions(x, grids))
        for block in self.stage3:
            tokens = self._run(3, block, tokens, key_mask)
        return f1, f2, tokens_to_map(self.norm(tokens), grid)
