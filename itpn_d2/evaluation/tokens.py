"""Drawing over the image which tokens exit stage 3 at which depth."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from .files import captioned, save_png

_GAP = 8  # pixels
_FADED = 0.8  # how far a token that has left goes towards white


def exit_picture(image: np.ndarray, exits: np.ndarray, depth: int, side: int = 320) -> np.ndarray:
    """RGB uint8 picture: the image, then, for each depth at which tokens exit, the image with the exited
    tokens faded, an outline around the remaining ones, and a caption.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        exits: ``(rows, columns)`` blocks of stage 3 that the token of each 16x16 pixels goes through, as
            :meth:`itpn_d2.backbone.Trunk.exit_blocks` gives them for this image.
        depth: blocks of stage 3.
        side: longer side of each panel, in pixels.

    Raises:
        ValueError: the map does not cover the image.
    """
    height, width = image.shape[:2]
    if exits.shape != (-(-height // 16), -(-width // 16)):
        raise ValueError(
            f"exits of {exits.shape[0]}x{exits.shape[1]} tokens for an image of {height}x{width} pixels: "
            f"give the map of the same image, without padding"
        )
    scale = side / max(height, width)
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    drawn = cv2.resize(np.ascontiguousarray(image), shape[::-1], interpolation=how)
    panels = [captioned(drawn, f"{exits.size} tokens")]
    # the last row and column of tokens may reach beyond the image
    rows = np.minimum((np.arange(shape[0]) / scale / 16).astype(int), exits.shape[0] - 1)
    columns = np.minimum((np.arange(shape[1]) / scale / 16).astype(int), exits.shape[1] - 1)
    for block in sorted(set(exits[exits < depth].tolist())):
        staying = exits > block
        mask = staying[rows[:, None], columns[None]]
        faded = drawn + (255 - drawn.astype(float)) * _FADED
        panel = np.where(mask[..., None], drawn, faded.astype(np.uint8))
        outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        panel = cv2.drawContours(np.ascontiguousarray(panel), outline, -1, (220, 40, 40), 1)
        panels.append(captioned(panel, f"block {block + 1} of {depth}: {staying.mean():.0%}"))
    gap = np.full((len(panels[0]), _GAP, 3), 255, np.uint8)
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], 1)


def save_exit_picture(
    path: str | Path, images: Sequence[np.ndarray], exits: Sequence[np.ndarray], depth: int
) -> None:
    """Write :func:`exit_picture` of each image, one below the other, as PNG, whole or not at all.

    Args:
        images, exits, depth: as there, ``(H, W, 3)`` and ``(rows, columns)`` each.

    Raises:
        ValueError: no image, not one map for each, or as :func:`exit_picture`.
    """
    if not images:
        raise ValueError("no image to draw")
    rows = [exit_picture(image, exit, depth) for image, exit in zip(images, exits, strict=True)]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(r, ((0, _GAP), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows]
    save_png(Path(path), np.concatenate(padded))
