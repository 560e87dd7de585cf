"""Writing pictures and tables whole or not at all."""

import os
from pathlib import Path

import cv2
import numpy as np


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
