"""HOG against a loop in float64, and its layouts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pretrain.targets import HOG

FIXTURE = Path(__file__).resolve().parents[2] / "data" / "fixtures" / "fastmim_hog.safetensors"


def loop_hog(image, cell=8, bins=9):
    """The definition, pixel by pixel: ``(3, H, W)`` float64 to ``(3 * bins, H/cell, W/cell)``."""
    colours, height, width = image.shape
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    kernel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], dtype=np.float64)
    out = np.zeros((colours, bins, height // cell, width // cell))
    for c in range(colours):
        for y in range(height):
            for x in range(width):
                window = padded[c, y : y + 3, x : x + 3]
                gx, gy = (window * kernel).sum(), (window * kernel.T).sum()
                k = math.floor(math.atan2(gx, gy) / math.pi * bins) % bins
                out[c, k, y // cell, x // cell] += math.hypot(gx, gy)
    norms = np.sqrt((out**2).sum(1, keepdims=True))
    return (out / np.maximum(norms, 1e-12)).reshape(colours * bins, height // cell, width // cell)


@pytest.mark.parametrize(("cell", "bins"), [(8, 9), (4, 6)])
def test_agrees_with_the_loop(cell, bins):
    # multiples of 1/64: every sum of the Sobel kernels is exact, so that no pixel sits in another bin
    generator = torch.Generator().manual_seed(3)
    image = torch.randint(-256, 256, (2, 3, 24, 16), generator=generator) / 64
    found = HOG(bins, cell)(image)
    expected = np.stack([loop_hog(i.double().numpy(), cell, bins) for i in image])
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - expected).max() < 1e-6


def test_reproduces_the_stored_tensors():
    tensors = load_file(FIXTURE)
    entries = json.loads(FIXTURE.with_suffix(".json").read_text())["tensors"]
    image = tensors["input/images"]
    ours = {
        "hog_map": HOG()(image),
        "hog_map_unnormalised": HOG(normalise=False)(image),
        "tokens_stride16": HOG().tokens(image, 16),
        "tokens_stride32": HOG().tokens(image, 32),
    }
    for name, value in ours.items():
        key = f"output/{name}"
        assert (value - tensors[key]).abs().max() <= entries[key]["atol"], name


def test_tokens_hold_the_cells_of_their_square():
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    hog = HOG()
    tokens = hog.tokens(image, 32)
    assert tokens.shape == (2, 6, hog.width(32)) == (2, 6, 432)
    # token 4 is row 1, column 1
    expected = hog(image)[:, :, 4:8, 4:8].flatten(1)
    assert torch.equal(tokens[:, 4], expected)
    # its upper right quarter
    quarter = hog.split(tokens, 32, 2)[:, 4, 1]
    assert torch.equal(quarter, hog(image)[:, :, 4:6, 6:8].flatten(1))


def test_float32_without_gradient_under_autocast():
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = HOG()(image)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert torch.equal(found, HOG()(image))


def test_flat_image_gives_zeros_and_border_columns_have_no_horizontal_gradient():
    assert HOG()(torch.ones(1, 3, 16, 16)).abs().max() == 0
    image = torch.randn(1, 3, 9, 8, generator=torch.Generator().manual_seed(1))
    votes = HOG(normalise=False, cell=1)(image)[0].unflatten(0, (3, 9))
    for column in (votes[:, :, 1:-1, 0], votes[:, :, 1:-1, -1]):
        assert column[:, 0].min() > 0
        assert column[:, 1:].max() == 0


def test_errors_name_the_sizes():
    with pytest.raises(ValueError, match="20x16 is not a multiple"):
        HOG()(torch.zeros(1, 3, 20, 16))
    with pytest.raises(ValueError, match="stride 12"):
        HOG().tokens(torch.zeros(1, 3, 24, 24), 12)
    with pytest.raises(ValueError, match="bins 0"):
        HOG(bins=0)
    with pytest.raises(ValueError, match="3x3 squares"):
        HOG().split(torch.zeros(1, 1, 108), 16, 3)
