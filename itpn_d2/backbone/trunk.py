"""The part that both trunks share: how an image, or some of its patches, runs through the three stages."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..layers import (
    DecomposedBias,
    ImageSizes,
    PatchEmbed,
    PositionCache,
    ResampleRule,
    TableBias,
    in_stripes,
    resample_to_each,
    token_grids,
    token_mask,
)
from ..layers.recording import is_stand_in
from ..layers.units import map_to_tokens, tokens_to_map
from ..lazy.options import nearest, options_of
from .acceleration import TokenState, run_stage3
from .checkpointing import Block, CheckpointingSpec, set_checkpointing
from .checks import check_rate, check_sizes
from .gathering import TokenGathering
from .migration import TokenMigration

TOKEN_STRIDE = 16
Grid = tuple[int, int]
MigrationSpec = TokenMigration | Mapping[str, Any] | None
GatheringSpec = TokenGathering | Mapping[str, Any] | None
Part = TypeVar("Part", TokenMigration, TokenGathering)


class Trunk(nn.Module):
    """Image ``(B, in_channels, H, W)`` to channel-last maps ``f1, f2, f3`` at strides 4, 8, 16.

    H and W are multiples of 16; any such size works, position tables are resampled to the token grid. A
    subclass builds ``patch_embed``, ``stage1``, ``merge1``, ``stage2``, ``merge2``, ``pos_embed`` ``(1, h, w,
    C3)``, ``stage3`` and ``norm``.

    Nothing before stage 3 mixes two 16x16 patches, so pre-training may call the parts one by one, on a subset
    of the patches in unit layout: :meth:`local_stages`, then :meth:`global_stage`.
    """

    patch_embed: PatchEmbed
    stage1: nn.ModuleList
    merge1: nn.Module
    stage2: nn.ModuleList
    merge2: nn.Module
    pos_embed: nn.Parameter
    stage3: nn.ModuleList
    norm: nn.Module
    migration: TokenMigration | None
    gathering: TokenGathering | None

    def __init__(
        self,
        channels: tuple[int, int, int],
        depths: tuple[int, int, int],
        num_heads: int,
        pos_resample: ResampleRule = "size",
    ):
        super().__init__()
        check_sizes(channels=channels, depths=depths, num_heads=num_heads)
        self.channels, self.depths, self.num_heads = tuple(channels), tuple(depths), num_heads
        self.migration, self.gathering = None, None
        self._positions = PositionCache(pos_resample)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Parameters of more than one dimension that are not decayed."""
        return {"pos_embed"}

    @property
    def has_relative_positions(self) -> bool:
        """Whether stage 3 needs to know the grid of its tokens."""
        return any(isinstance(m, (TableBias, DecomposedBias)) for m in self.modules())

    def blocks(self) -> dict[str, list[Block]]:
        """The blocks of each stage, ``stage1`` to ``stage3``."""
        stages = {"stage1": self.stage1, "stage2": self.stage2, "stage3": self.stage3}
        return {name: [b for b in stage if isinstance(b, Block)] for name, stage in stages.items()}

    def set_grad_checkpointing(self, spec: CheckpointingSpec = True) -> None:
        """Choose the blocks whose activations are recomputed in the backward pass: see
        :func:`~itpn_d2.backbone.checkpointing.set_checkpointing`; the parts are ``stage1`` to ``stage3``."""
        set_checkpointing(self.blocks(), spec)

    def accelerate(self, migration: MigrationSpec = None, gathering: GatheringSpec = None) -> None:
        """Turn on token migration and token gathering in :meth:`forward`, in place; None turns one off.

        Neither changes the other weights or their names, so this may be called before or after weights are
        loaded. Code that runs the parts one by one, such as masked pre-training, is not affected.

        Args:
            migration: arguments of :class:`TokenMigration` except the first two, or such a module.
            gathering: the same of :class:`TokenGathering`.

        Raises:
            ValueError: the trunk has relative positions, which need the complete grid of tokens; a module is
                for another width; or an argument is out of range.
        """
        if (migration is not None or gathering is not None) and self.has_relative_positions:
            raise ValueError(
                "token migration and gathering can't be combined with relative positions, which need the "
                "complete grid of tokens: build the trunk with rel_pos='none'"
            )
        self.migration = self._part(TokenMigration, "migration", migration)
        self.gathering = self._part(TokenGathering, "gathering", gathering)

    def _part(self, kind: type[Part], name: str, given: Part | Mapping[str, Any] | None) -> Part | None:
        dim, depth = self.channels[2], self.depths[2]
        if given is None:
            return None
        if isinstance(given, Mapping):
            known = [option for option in options_of(kind, {}).named if option not in ("dim", "depth")]
            for option in given:
                if option not in known:
                    raise ValueError(f"{name} takes no {option}; {nearest(str(option), known)}")
            part = kind(dim, depth, **given)
        else:
            part = given
        if part.dim != dim or part.depth != depth:
            raise ValueError(
                f"{name} is for dim {part.dim} and depth {part.depth}, but stage 3 has {dim} and {depth}: "
                "give these values, or a dict without them"
            )
        like = self.pos_embed
        return part.to(like.device, like.dtype)

    def positions(self, grid: Grid) -> Tensor:
        """The position table ``(1, *grid, C3)``."""
        return self._positions(self.pos_embed, grid)

    def add_positions(self, x: Tensor, grids: Tensor | None = None) -> Tensor:
        """Add the position embedding to ``(B, H, W, C)``; ``grids`` ``(B, 2)`` gives each image's own rows
        and columns of tokens when the batch is padded, and padding gets none."""
        grid = (x.shape[1], x.shape[2])
        if grids is None:
            return x + self.positions(grid)
        return x + resample_to_each(self.pos_embed, grids, grid, self._positions.rule)

    def local_stages(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Stages 1 and 2 with the merges, on a map or on units: embedded patches ``(..., 4h, 4w, C1)`` to f1
        of that size, f2 ``(..., 2h, 2w, C2)`` and the input of stage 3 ``(..., h, w, C3)``."""
        for block in self.stage1:
            x = block(x)
        f1 = x
        x = self.merge1(f1)
        for block in self.stage2:
            x = block(x)
        return f1, x, self.merge2(x)

    def global_stage(
        self,
        tokens: Tensor,
        key_mask: Tensor | None = None,
        grid: Grid | None = None,
        grids: Tensor | None = None,
    ) -> Tensor:
        """Stage 3 and the final norm on tokens ``(B, N, C3)`` that have their positions.

        ``grid`` is needed with relative positions only, and then N must be the whole grid; so is ``grids``
        ``(B, 2)``, each image's own, where the batch is padded.
        """
        for block in self.stage3:
            tokens = block(tokens, key_mask, grid, None, grids)
        return self.norm(tokens)

    def forward(self, image: Tensor, image_sizes: ImageSizes | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Features of a batch.

        Args:
            image: ``(B, in_channels, H, W)``, padded at the right and bottom.
            image_sizes: (height, width) in pixels of each image without its padding, as integers or as a
                tensor ``(B, 2)``, see :func:`itpn_d2.layers.token_grids`; None when nothing is padded. Real
                tokens then neither attend to padding nor take their positions from the padded grid, so an
                image's features do not depend on the batch it is in.

        Returns:
            f1 ``(B, H/4, W/4, C1)``, f2 ``(B, H/8, W/8, C2)``, f3 ``(B, H/16, W/16, C3)``.
        """
        f1, f2, tokens, grid, content, grids = self._before_stage3(image, image_sizes)
        if self.migration is not None or self.gathering is not None:
            state = self._accelerated_stage3(tokens, grid, content, grids)
            tokens = self.norm(state.gathered())
        else:
            key_mask = None if content is None else content[:, None, None]
            tokens = self.global_stage(tokens, key_mask, grid, grids)
        return f1, f2, tokens_to_map(tokens, grid)

    def exit_blocks(self, image: Tensor, image_sizes: ImageSizes | None = None) -> Tensor:
        """``(B, H/16, W/16)`` how many blocks of stage 3 each token goes through before it migrates;
        arguments as of :meth:`forward`."""
        _, _, tokens, grid, content, grids = self._before_stage3(image, image_sizes)
        state = self._accelerated_stage3(tokens, grid, content, grids)
        return tokens_to_map(state.exits(self.depths[2])[..., None], grid).squeeze(-1)

    def _accelerated_stage3(
        self, tokens: Tensor, grid: Grid, content: Tensor | None, grids: Tensor | None
    ) -> TokenState:
        return run_stage3(self.stage3, self.migration, self.gathering, tokens, grid, content, grids)

    def _before_stage3(
        self, image: Tensor, image_sizes: ImageSizes | None
    ) -> tuple[Tensor, Tensor, Tensor, Grid, Tensor | None, Tensor | None]:
        """f1, f2, the tokens with their positions, their grid, which of them are real (None: all), and each
        image's own grid ``(B, 2)`` where the batch is padded."""
        if not is_stand_in(image) and (image.shape[-2] % TOKEN_STRIDE or image.shape[-1] % TOKEN_STRIDE):
            raise ValueError(
                f"image size {tuple(image.shape[-2:])} is not a multiple of {TOKEN_STRIDE}: "
                f"pad it at the right and bottom (ITPNBackbone and the classifier do)"
            )
        grid = (image.shape[-2] // TOKEN_STRIDE, image.shape[-1] // TOKEN_STRIDE)
        x = self.patch_embed(image)
        # stochastic depth draws per sample, which stripes would not keep together
        f1, f2, x = self.local_stages(x) if self.training else in_stripes(self.local_stages, x, rows=grid[0])
        content, grids = None, None
        if image_sizes is not None:
            grids = token_grids(image_sizes, TOKEN_STRIDE, grid, image.shape[0], x.device)
        if grids is not None:
            content = token_mask(grids, grid).flatten(1)
        tokens = map_to_tokens(self.add_positions(x, grids))
        return f1, f2, tokens, grid, content, grids


def drop_path_rates(largest: float, depths: tuple[int, ...]) -> list[list[float]]:
    """Stochastic-depth rates of the blocks of each stage, growing linearly over all of them."""
    check_rate(drop_path=largest)
    rates = torch.linspace(0, largest, sum(depths), device="cpu").tolist()
    first, second = depths[0], depths[0] + depths[1]
    return [rates[:first], rates[first:second], rates[second:]]


def init_linears(module: nn.Module) -> None:
    """Truncated normal .02 weights and zero biases for every linear layer (both references)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
