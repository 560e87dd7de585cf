"""Making tensors of a checkpoint fit a model of another image size or of other input bands."""

import torch
from torch import Tensor

from ..layers import resample_grid

Adapted = tuple[Tensor, str]
# grids (1, h, w, C) that follow the model's
_GRIDS = ("pos_embed", "rel_pos.table", "rel_pos.rows", "rel_pos.columns")


def adapt_bands(kernel: Tensor, bands: int) -> Tensor:
    """Kernel ``(out, in, ...)`` for another number of input bands: one takes the sum over all, more are
    repeated in order and scaled by in / bands. This is timm's rule for three input bands, for any number."""
    if bands == 1:
        return kernel.sum(1, keepdim=True)
    index = torch.arange(bands, device=kernel.device) % kernel.shape[1]
    return kernel[:, index] * (kernel.shape[1] / bands)


def describe_bands(old: int, new: int) -> str:
    """Describe what :func:`adapt` did with the input bands of a patch embedding, for the load report."""
    return f"input bands {old} -> {new}, " + ("summed" if new == 1 else f"repeated, times {old}/{new}")


def adapt(name: str, value: Tensor, like: Tensor) -> Adapted | None:
    """A tensor of an iTPN or Fast-iTPN trunk in the shape of ``like``, and a description of the change; None
    if it does not fit.

    Args:
        name: in our names; value: as in the file, float32.
    """
    if value.ndim != like.ndim:
        return None
    if name.endswith(_GRIDS) and value.ndim == 4 and value.shape[-1] == like.shape[-1]:
        old, new = value.shape[1:3], like.shape[1:3]
        words = f"grid {old[0]}x{old[1]} -> {new[0]}x{new[1]}, bicubic"
        return resample_grid(value, (new[0], new[1])), words
    if name.endswith("patch_embed.proj.weight") and value.ndim == 2 and len(value) == len(like):
        cells = 16
        if value.shape[1] % cells or like.shape[1] % cells:
            return None
        old_bands, bands = value.shape[1] // cells, like.shape[1] // cells
        kernel = adapt_bands(value.unflatten(1, (old_bands, cells)), bands)
        return kernel.flatten(1), describe_bands(old_bands, bands)
    return None
