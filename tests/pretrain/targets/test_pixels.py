"""Pixel targets: order, normalisation and squares."""

import pytest
import torch

from pretrain.targets import Pixels

IMAGE = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def test_row_column_channel_order():
    tokens = Pixels(normalise=False).tokens(IMAGE, 16)
    assert tokens.shape == (2, 6, 768)
    assert torch.equal(tokens[:, 4], IMAGE[:, :, 16:, 16:32].permute(0, 2, 3, 1).flatten(1))


def test_unbiased_variance():
    raw, found = Pixels(normalise=False).tokens(IMAGE, 16), Pixels().tokens(IMAGE, 16)
    expected = (raw - raw.mean(-1, keepdim=True)) / (raw.var(-1, keepdim=True, unbiased=True) + 1e-6).sqrt()
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.isfinite(Pixels().tokens(torch.ones(1, 3, 16, 16), 16)).all()


def test_squares_of_a_token():
    pixels = Pixels(normalise=False)
    lower_left = pixels.split(pixels.tokens(IMAGE, 16), 16, 2)[:, 1, 2]
    assert torch.equal(lower_left, IMAGE[:, :, 8:16, 16:24].permute(0, 2, 3, 1).flatten(1))
    with pytest.raises(ValueError, match="3x3"):
        pixels.split(pixels.tokens(IMAGE, 16), 16, 3)


def test_size_error():
    with pytest.raises(ValueError, match="32x48"):
        Pixels().tokens(IMAGE, 32)
