"""Sine-cosine tables."""

import pytest
import torch

from pretrain.positions import sincos_2d


def test_first_half_is_the_column():
    table = sincos_2d(16, (3, 5))[0].unflatten(0, (3, 5))
    assert torch.equal(table[0, :, :8], table[2, :, :8])
    assert torch.equal(table[:, 0, 8:], table[:, 4, 8:])
    assert table[1, 2, 0] == torch.tensor(2.0, dtype=torch.float64).sin().float()


def test_resampled_coordinates():
    native = sincos_2d(16, (4, 4), native_grid=(4, 4))
    assert torch.equal(native, sincos_2d(16, (4, 4)))
    # the centre of an odd grid is the middle of the native one
    centre = sincos_2d(16, (3, 3), native_grid=(5, 5))[0, 4]
    assert torch.allclose(centre, sincos_2d(16, (5, 5))[0, 12], atol=1e-7)


def test_prefix_rows_are_zero_and_width_is_checked():
    table = sincos_2d(8, (2, 2), num_prefix=2)
    assert table.shape == (1, 6, 8)
    assert table[:, :2].abs().max() == 0
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_2d(10, (2, 2))
