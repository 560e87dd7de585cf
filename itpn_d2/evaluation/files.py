"""Writing pictures and tables whole or not at all, and what all pictures have."""

import os
from pathlib import Path

import cv2
import numpy as np

_CAPTION = 22  # pixels


def partial_name(path: Path) -> Path:
    """Where to write before the rename; keeps the suffix, by which writers choose the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


def save_png(path: Path, image: np.ndarray) -> None:
    """Write an RGB uint8 image."""
    partial = partial_name(path)
    if not cv2.imwrite(str(partial), np.ascontiguousarray(image[..., ::-1])):
        raise OSError(f"{path}: could not be written")
    os.replace(partial, path)


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """An RGB uint8 image under a white strip with a line of text."""
    strip = np.full((_CAPTION, image.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (4, _CAPTION - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate((strip, image))
