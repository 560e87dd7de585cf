"""The trunk and its pyramid over masked images: patches dropped, or replaced by a token.

All results are in unit layout, ``(B, N, h, w, C)``: every layer but stage 3 works on one patch at a time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from itpn_d2.backbone import IntegralBackbone, Trunk
from itpn_d2.layers.units import gather_units, image_to_cells, map_to_units

from ..targets.base import token_grid


@dataclass
class Features:
    """The result of an encoding: the trunk's stages and the pyramid's levels, with N patches each.

    Attributes:
        stages: f1 ``(B, N, 4, 4, C1)``, f2 ``(B, N, 2, 2, C2)``, f3 ``(B, N, 1, 1, C3)``, the last one normed
            where the trunk has a final norm.
        levels: p4 ``(B, N, 1, 1, D)``, p3 ``(B, N, 2, 2, D)``, p2 ``(B, N, 4, 4, D)``.
    """

    stages: tuple[Tensor, Tensor, Tensor]
    levels: tuple[Tensor, ...]


def visible_patches(mask: Tensor) -> Tensor:
    """Indices ``(B, K)`` of the patches that a mask ``(B, N)`` leaves, in order.

    Raises:
        ValueError: the samples keep different numbers of patches.
    """
    kept = (~mask).sum(1)
    count = int(kept[0])
    if (kept != count).any():
        raise ValueError("dropping patches needs the same number of visible ones in every sample")
    return (~mask).nonzero()[:, 1].reshape(len(mask), count)


def _stages(
    trunk: Trunk, x: Tensor, positions: Tensor, grid: tuple[int, int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    f1, f2, tokens = trunk.local_stages(x)
    tokens = tokens.flatten(1, 3) + positions
    return f1, f2, trunk.global_stage(tokens, grid=grid)[:, :, None, None]


def trunk_visible(trunk: Trunk, image: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The trunk's three stages on some of the patches; see :func:`encode_visible`.

    Args:
        image: ``(B, 3, H, W)``, normalised.
        visible: indices ``(B, K)`` into the row-major patches.

    Returns:
        f1 ``(B, K, 4, 4, C1)``, f2 ``(B, K, 2, 2, C2)`` and f3 ``(B, K, 1, 1, C3)``.

    Raises:
        ValueError: the trunk has relative positions.
    """
    if trunk.has_relative_positions:
        raise ValueError(
            "patches can't be dropped with relative positions: build the trunk with rel_pos='none'"
        )
    grid = token_grid(image, 16)
    cells = map_to_units(image_to_cells(image, trunk.patch_embed.size), 4)
    embedded = trunk.patch_embed.project(gather_units(cells, visible))
    positions = gather_units(trunk.positions(grid).flatten(1, 2).expand(len(image), -1, -1), visible)
    return _stages(trunk, embedded, positions, None)


def encode_visible(backbone: IntegralBackbone, image: Tensor, visible: Tensor) -> Features:
    """Drop the masked patches before the patch embedding, so that they cost nothing.

    Args:
        image: ``(B, 3, H, W)``, normalised.
        visible: indices ``(B, K)`` into the row-major patches.

    Raises:
        ValueError: the trunk has relative positions, which need the whole grid.
    """
    stages = trunk_visible(backbone.trunk, image, visible)
    return Features(stages, backbone.pyramid.top_down(*stages))


def encode_masked_patches(
    backbone: IntegralBackbone,
    image: Tensor,
    mask: Tensor | None = None,
    token: Tensor | None = None,
    stem_gradient: float = 1.0,
) -> Features:
    """Put ``token (4, 4, C1)`` in the place of the embedded cells of masked patches, before stage 1.

    Nothing of a masked patch reaches the pyramid, not through the laterals either.

    Args:
        image: ``(B, 3, H, W)``, normalised.
        mask: ``(B, N)`` bool, True = masked; None for no masking.
        stem_gradient: factor on the gradient of the patch embedding.
    """
    grid = token_grid(image, 16)
    trunk = backbone.trunk
    x = map_to_units(trunk.patch_embed(image), 4)
    if stem_gradient != 1:
        x = x.detach() + stem_gradient * (x - x.detach())
    if mask is not None and token is not None:
        x = torch.where(mask[:, :, None, None, None], token.to(x.dtype), x)
    stages = _stages(trunk, x, trunk.positions(grid).flatten(1, 2), grid)
    return Features(stages, backbone.pyramid.top_down(*stages))
