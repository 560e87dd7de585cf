"""Predicting an image window by window."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of windows that cover ``length`` (at least ``window``) pixels: every ``stride``, the last
    one flush with the end."""
    count = max(0, math.ceil((length - window) / stride)) + 1
    return [min(i * stride, length - window) for i in range(count)]


def slide(
    predict: Callable[[Tensor], Tensor], image: Tensor, window: Size, stride: Size, batch: int = 1
) -> Tensor:
    """Logits ``(K, H, W)`` of an image ``(C, H, W)``: the mean over all windows that hold a pixel.

    Args:
        predict: windows ``(N, C, h, w)`` to logits ``(N, K, h, w)``.
        image: normalised; a side shorter than the window is padded by zeros for it.
        window, stride: (height, width) in pixels.
        batch: windows that are predicted at once.
    """
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, max(0, window[1] - width), 0, max(0, window[0] - height)))
    rows = window_starts(padded.shape[-2], window[0], stride[0])
    columns = window_starts(padded.shape[-1], window[1], stride[1])
    places = [(y, x) for y in rows for x in columns]
    total: Tensor | None = None
    count = torch.zeros(padded.shape[-2:], device=image.device)
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        windows = torch.stack([padded[:, y : y + window[0], x : x + window[1]] for y, x in some])
        for (y, x), logits in zip(some, predict(windows).float(), strict=True):
            if total is None:
                total = logits.new_zeros(logits.shape[0], *padded.shape[-2:])
            total[:, y : y + window[0], x : x + window[1]] += logits
            count[y : y + window[0], x : x + window[1]] += 1
    assert total is not None  # there is always a window
    return (total / count)[:, :height, :width]
