"""A picture of what a pre-trained model predicts for the patches that it does not see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from torch import Tensor

from itpn_d2.evaluation.files import save_png
from itpn_d2.normalisation import IMAGENET

_TITLES = ("input", "masked input", "prediction", "target")
_TITLE_HEIGHT, _GAP = 34, 8  # pixels
_HIDDEN = 128  # grey of a masked patch
_BINS = 9  # orientations of HOG, 20 degrees each
_EPS = 1e-6  # of the pixel target's variance
_PERCENTILES = (2.0, 98.0)  # of PCA scores; the tails may saturate


@dataclass
class Panel:
    """One image and its prediction.

    Attributes:
        image: ``(3, H, W)`` uint8 RGB, the input of the model before masking and normalisation.
        mask: ``(rows, columns)`` bool, True where masked; H and W are multiples of rows and columns.
        prediction, target: ``(N, width)``, N row-major tokens of ``stride`` x ``stride`` pixels.
        kind: what a token holds. ``pixels``: (row, column, channel). ``hog``: (channel, cell row, cell
            column), channel = colour * 9 + bin, bin k being gradients of 20k to 20(k + 1) degrees from the
            vertical. ``features``: any vector.
        stride: side of a token in pixels.
        normalised: pixels are divided by their own patch's deviation; those of ``image`` undo it.
        pixel_mean, pixel_std: by which the image was normalised, in 0..255; only pixels need them.
    """

    image: Tensor
    mask: Tensor
    prediction: Tensor
    target: Tensor
    kind: Literal["pixels", "hog", "features"]
    stride: int
    normalised: bool = True
    pixel_mean: Sequence[float] = IMAGENET.mean
    pixel_std: Sequence[float] = IMAGENET.std

    def __post_init__(self) -> None:
        if self.kind not in ("pixels", "hog", "features"):
            raise ValueError(f"kind {self.kind!r}: choose pixels, hog or features")
        height, width = self.image.shape[-2:]
        rows, columns = self.mask.shape
        if height % rows or width % columns or height % self.stride or width % self.stride:
            raise ValueError(
                f"image {height}x{width}: must divide into the mask's {rows}x{columns} units and into "
                f"tokens of {self.stride} pixels"
            )
        tokens = self.grid[0] * self.grid[1]
        if self.prediction.shape != self.target.shape or len(self.target) != tokens:
            raise ValueError(
                f"prediction {tuple(self.prediction.shape)} and target {tuple(self.target.shape)}: "
                f"both need {tokens} tokens, {self.grid[0]}x{self.grid[1]}, of the same width"
            )
        values = self.target.shape[1]
        if self.kind == "pixels" and values != 3 * self.stride**2:
            raise ValueError(f"{values} values per token; pixels have {3 * self.stride**2}")
        if self.kind == "hog" and (values % (3 * _BINS) or self.stride % _side(values)):
            raise ValueError(f"{values} values per token; HOG has {3 * _BINS} for each cell of a square")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.image.shape[-2] // self.stride, self.image.shape[-1] // self.stride


def to_panels(
    predicted: Mapping[str, Any],
    normalised: bool = True,
    pixel_mean: Sequence[float] = IMAGENET.mean,
    pixel_std: Sequence[float] = IMAGENET.std,
) -> list[Panel]:
    """A panel for each image of what :meth:`pretrain.methods.Method.predict` returns; the rest as in
    :class:`Panel`."""
    images = predicted["image"].float().round().clamp(0, 255).byte()
    parts = (predicted[name] for name in ("mask", "prediction", "target"))
    kind, stride = predicted["kind"], predicted["stride"]
    return [
        Panel(image, mask, prediction, target, kind, stride, normalised, pixel_mean, pixel_std)
        for image, mask, prediction, target in zip(images, *parts, strict=True)
    ]


def _array(tokens: Tensor) -> np.ndarray:
    return tokens.detach().double().cpu().numpy()


def _side(width: int) -> int:
    """HOG cells along the side of a token."""
    cells = width // (3 * _BINS)
    side = round(cells**0.5)
    return side if side * side == cells else width  # a width that no stride is a multiple of


def _enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    return image.repeat(factor, 0).repeat(factor, 1)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _pixels(panel: Panel, tokens: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Tokens of pixels as an image ``(H, W, 3)``."""
    (rows, columns), s = panel.grid, panel.stride
    mean, std = np.array(panel.pixel_mean), np.array(panel.pixel_std)
    if panel.normalised:
        own = ((image - mean) / std).reshape(rows, s, columns, s, 3).transpose(0, 2, 1, 3, 4)
        own = own.reshape(rows * columns, -1)
        tokens = tokens * np.sqrt(own.var(1, ddof=1, keepdims=True) + _EPS) + own.mean(1, keepdims=True)
    cut = tokens.reshape(rows, columns, s, s, 3).transpose(0, 2, 1, 3, 4)
    return _to_bytes(cut.reshape(rows * s, columns * s, 3) * std + mean)


def _glyphs(size: int) -> np.ndarray:
    """``(9, size, size)`` in 0..1: for each bin a line along the edge whose gradients it counts."""
    fine, shift = 4, 4  # drawn at four times the size: small glyphs need smooth lines
    glyphs = np.zeros((_BINS, fine * size, fine * size), np.uint8)
    middle, reach = (fine * size - 1) / 2, 0.45 * fine * size
    for k, glyph in enumerate(glyphs):
        # The gradient of angle a, taken as atan2(gx, gy), points to (x, y) = (sin a, cos a), y downwards.
        angle = np.deg2rad(180 / _BINS * (k + 0.5))
        step = reach * np.array([np.cos(angle), -np.sin(angle)])
        ends = [tuple(int(v) for v in np.rint((middle + s * step) * 2**shift)) for s in (-1, 1)]
        cv2.line(glyph, *ends, 255, thickness=max(1, fine * size // 10), lineType=cv2.LINE_AA, shift=shift)
    return glyphs.reshape(_BINS, size, fine, size, fine).mean((2, 4)) / 255


def _cells(panel: Panel, tokens: np.ndarray) -> np.ndarray:
    """Tokens of HOG as non-negative votes ``(cell rows, cell columns, bins)``, colours averaged."""
    (rows, columns), side = panel.grid, _side(tokens.shape[1])
    votes = tokens.reshape(rows, columns, 3, _BINS, side, side).mean(2)
    return votes.transpose(0, 3, 1, 4, 2).reshape(rows * side, columns * side, _BINS).clip(0)


def _hog(panel: Panel, scale: int) -> list[np.ndarray]:
    """Prediction and target as glyphs, equally bright where equally strong."""
    pair = [_cells(panel, _array(tokens)) for tokens in (panel.prediction, panel.target)]
    peaks = pair[1].max(-1)
    bright = float(np.percentile(peaks[peaks > 0], 98)) if peaks.any() else 1.0
    glyphs = _glyphs(panel.stride * scale // _side(panel.target.shape[1]))
    drawn = []
    for votes in pair:
        rows = [
            (line[:, :, None, None] * glyphs).max(1).transpose(1, 0, 2).reshape(glyphs.shape[1], -1)
            for line in votes / bright
        ]
        drawn.append(_to_bytes(np.concatenate(rows) * 255)[..., None].repeat(3, -1))
    return drawn


class _Colours:
    """PCA of all targets' tokens, its first three scores as red, green and blue."""

    def __init__(self, targets: list[np.ndarray]):
        tokens = np.concatenate(targets)
        self.mean = tokens.mean(0)
        axes = np.linalg.eigh(np.cov(tokens - self.mean, rowvar=False).reshape(self.mean.size, -1))[1]
        axes = axes[:, ::-1][:, :3]
        largest = np.abs(axes).argmax(0)  # an axis has no sign of its own: make its largest entry positive
        self.axes = axes * np.sign(axes[largest, np.arange(axes.shape[1])])
        self.low, self.high = np.percentile((tokens - self.mean) @ self.axes, _PERCENTILES, axis=0)

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """``(N, width)`` to uint8 ``(N, 3)``; colours that the features have no score for stay grey."""
        scores = (tokens - self.mean) @ self.axes
        colours = np.full((len(tokens), 3), 127.5)
        colours[:, : scores.shape[1]] = 255 * (scores - self.low) / np.maximum(self.high - self.low, 1e-12)
        return _to_bytes(colours)


def _row(panel: Panel, colours: _Colours | None, side: int) -> list[np.ndarray]:
    """Input, masked input, prediction and target at an integer multiple of the image's size."""
    small = panel.image.permute(1, 2, 0).cpu().numpy()
    scale = -(-side // max(small.shape[:2]))
    image = _enlarge(small, scale)
    mask = panel.mask.cpu().numpy().astype(bool)
    hidden = mask.repeat(image.shape[0] // mask.shape[0], 0).repeat(image.shape[1] // mask.shape[1], 1)
    if panel.kind == "hog":
        prediction, target = _hog(panel, scale)
    else:
        pair = []
        for tokens in (_array(panel.prediction), _array(panel.target)):
            if panel.kind == "pixels":
                pair.append(_enlarge(_pixels(panel, tokens, small.astype(np.float64)), scale))
            else:
                assert colours is not None
                pair.append(_enlarge(colours(tokens).reshape(*panel.grid, 3), panel.stride * scale))
        prediction, target = pair
    shown = hidden if mask.any() else np.ones_like(hidden)
    masked = np.where(hidden[..., None], np.uint8(_HIDDEN), image)
    return [image, masked, np.where(shown[..., None], prediction, image), target]


def prediction_picture(panels: Sequence[Panel], side: int = 240) -> np.ndarray:
    """RGB uint8 picture with one row per image: input, masked input, prediction, target.

    The prediction is shown on masked patches, between the visible ones of the input; everywhere when none is
    masked. HOG is drawn as lines along the edges, features in the colours of a PCA that the targets of all
    panels share and that predictions are projected by.

    Args:
        side: least length in pixels of an image's longer side; smaller ones are enlarged by an integer.

    Raises:
        ValueError: no panel, or features of several widths.
    """
    if not panels:
        raise ValueError("no panel to draw")
    features = [_array(p.target) for p in panels if p.kind == "features"]
    if len({f.shape[1] for f in features}) > 1:
        raise ValueError("features of several widths: draw those of each teacher in a separate picture")
    colours = _Colours(features) if features else None
    rows = [_row(panel, colours, side) for panel in panels]
    height, width = (max(row[0].shape[i] for row in rows) + _GAP for i in (0, 1))
    canvas = np.full((_TITLE_HEIGHT + len(rows) * height, len(_TITLES) * width, 3), 255, np.uint8)
    for column, title in enumerate(_TITLES):
        place = (column * width + 4, _TITLE_HEIGHT - 10)
        cv2.putText(canvas, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 1, cv2.LINE_AA)
        for i, row in enumerate(rows):
            picture, y, x = row[column], _TITLE_HEIGHT + i * height, column * width
            canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return canvas


def draw_predictions(panels: Sequence[Panel], path: str | Path, side: int = 240) -> None:
    """Write :func:`prediction_picture` as PNG, whole or not at all."""
    save_png(Path(path), prediction_picture(panels, side))
