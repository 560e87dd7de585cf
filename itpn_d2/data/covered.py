"""What objects cover of an augmented image: boxes and masks from one look at each object.

Detectron2 makes a mask of every object, from all masks the boxes, and of all that stay a copy. Here the box
of polygons comes from their run lengths, and only the masks that stay are drawn, each within its box.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import BitMasks, Boxes


@dataclass(frozen=True)
class Covered:
    """The pixels of an object.

    Attributes:
        box: x0, y0, x1, y1 around them; all 0 where there is none.
        pixels: COCO's run lengths, or a mask ``(H, W)`` that is not 0 where the object is.
    """

    box: tuple[int, int, int, int]
    pixels: dict[str, Any] | np.ndarray

    def draw(self, mask: np.ndarray) -> None:
        """Set the pixels in a mask of the image, ``(H, W)`` bool, which is False so far."""
        x0, y0, x1, y1 = self.box
        if x1 <= x0:
            return
        if isinstance(self.pixels, dict):
            mask[y0:y1, x0:x1] = mask_util.decode(_from_column(self.pixels, x0))[y0:y1, : x1 - x0]
        else:
            mask[y0:y1, x0:x1] = self.pixels[y0:y1, x0:x1]


def _from_column(code: dict[str, Any], column: int) -> dict[str, Any]:
    """Run lengths without the empty columns in front: the first number, by which those that follow are not
    told, becomes smaller (five bits a character, the lowest first, 32 where more follow)."""
    (height, width), text = code["size"], code["counts"]
    end = next(i for i, c in enumerate(text) if not (c - 48) & 32) + 1
    run = sum(((c - 48) & 31) << 5 * i for i, c in enumerate(text[:end])) - column * height
    first = bytearray()
    while run >= 16 or not first:  # a last character of 16 and more would be a minus
        first.append((run & 31 | 32) + 48)
        run >>= 5
    first.append(run + 48)
    return {"size": [height, width - column], "counts": bytes(first) + text[end:]}


def covered(segmentation: Any, height: int, width: int) -> Covered:
    """What an augmented segmentation covers: polygons ``[array(2n), ...]``, by COCO's rasteriser, or a mask
    ``(height, width)``."""
    if isinstance(segmentation, np.ndarray):
        return Covered(pixel_box(segmentation), segmentation)
    if not len(segmentation):
        return Covered((0, 0, 0, 0), np.zeros((height, width), np.bool_))
    width, height = (_reach(segmentation, k, size) for k, size in enumerate((width, height)))
    code = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    x, y, w, h = (int(v) for v in mask_util.toBbox(code))
    return Covered((x, y, x + w, y + h) if w and h else (0, 0, 0, 0), code)


def _reach(polygons: Sequence[Any], axis: int, size: int) -> int:
    """How far polygons can cover columns (axis 0) or rows: the rest need not be looked at. Nothing is cut off
    in front, since rounding depends on where the corners lie."""
    furthest = max(float(np.max(p[axis::2])) for p in polygons)
    return min(size, max(1, math.ceil(furthest) + 2)) if math.isfinite(furthest) else size


def pixel_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 around what is not 0 in a mask ``(H, W)``; all 0 where nothing is."""
    bits = mask.view(np.uint8) if mask.dtype in (np.bool_, np.uint8) else (mask != 0).view(np.uint8)
    if bits.flags.f_contiguous:  # columns first, as COCO's decoder has them: the same question, turned
        y, x, height, width = cv2.boundingRect(bits.T)
    else:
        x, y, width, height = cv2.boundingRect(np.ascontiguousarray(bits))
    return (x, y, x + width, y + height) if width else (0, 0, 0, 0)


def boxes_around(objects: Sequence[Covered]) -> Boxes:
    """The tightest boxes, float32 ``(N, 4)``; those of objects without a pixel are 0."""
    return Boxes(torch.tensor([o.box for o in objects], dtype=torch.float32).reshape(-1, 4))


def bit_masks(objects: Sequence[Covered], height: int, width: int) -> BitMasks:
    """Masks bool ``(N, height, width)``."""
    masks = np.zeros((len(objects), height, width), dtype=np.bool_)
    for mask, found in zip(masks, objects, strict=True):
        found.draw(mask)
    return BitMasks(torch.from_numpy(masks))
