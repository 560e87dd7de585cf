"""Common functions of all pictures: colours, captions, grids, and saving."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import OutputError
from ..files import written_whole

_CAPTION, _GAP = 22, 8  # pixels


def save_png(path: Path, image: np.ndarray) -> None:
    """Write an RGB uint8 image ``(H, W, 3)``, whole or not at all.

    Raises:
        OutputError: it can't be written.
    """
    good, content = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    if not good:
        raise OutputError(f"{path}: an image of shape {image.shape} can't be written as PNG")
    # not cv2.imwrite, which breaks off at names that are not UTF-8
    with written_whole(path) as partial:
        partial.write_bytes(content.tobytes())


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """An RGB uint8 image under a white strip with a line of text.

    ``(H, W, 3)`` to a picture that is higher by the strip.
    """
    strip = np.full((_CAPTION, image.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (4, _CAPTION - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate((strip, image))


def palette(count: int) -> list[tuple[float, float, float]]:
    """One colour per class, 0..1 RGB, independent of the rest of the picture (golden-ratio hues)."""
    hues = (np.arange(count) * 0.618034) % 1.0
    hsv = np.stack((hues * 179, np.full(count, 220), np.full(count, 255)), 1).astype(np.uint8)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] / 255.0
    return [(float(r), float(g), float(b)) for r, g, b in rgb]


def class_colours(metadata: Any, kind: str, count: int) -> list[tuple[float, float, float]]:
    """Colours of at least ``count`` classes, 0..1 RGB: those of the dataset (``thing_colors``,
    ``stuff_colors``) where it has them, else ours."""
    known = metadata.get(f"{kind}_colors", None) or ()
    if len(known) < count:
        return palette(count)
    return [(r / 255, g / 255, b / 255) for r, g, b in known]


def grid(pairs: Sequence[tuple[np.ndarray, np.ndarray]], columns: int) -> np.ndarray:
    """RGB uint8 picture of image pairs, each side by side, ``columns`` pairs a row.

    Both images of a pair are ``(H, W, 3)`` and of one height.
    """
    joined = [
        np.concatenate((left, np.full((len(left), _GAP // 4, 3), 255, np.uint8), right), 1)
        for left, right in pairs
    ]
    height, width = max(p.shape[0] for p in joined) + _GAP, max(p.shape[1] for p in joined) + _GAP
    columns = min(columns, len(joined))
    canvas = np.full((-(-len(joined) // columns) * height, columns * width, 3), 255, np.uint8)
    for i, pair in enumerate(joined):
        y, x = i // columns * height, i % columns * width
        canvas[y : y + pair.shape[0], x : x + pair.shape[1]] = pair
    return canvas
