import pytest
import torch
from torch import nn

from itpn_d2.layers import PositionCache, content_sizes, resample_grid, token_mask


@pytest.mark.parametrize("grid", [(6, 6), (3, 9), (1, 1)])
def test_resampling_keeps_a_constant(grid):
    table = torch.full((1, 4, 4, 3), 2.5)
    out = resample_grid(table, grid)
    assert out.shape == (1, *grid, 3)
    assert torch.allclose(out, torch.full_like(out, 2.5), atol=1e-5)


def test_native_grid_is_untouched():
    table = torch.randn(1, 4, 6, 3)
    assert resample_grid(table, (4, 6)) is table


def test_cache_follows_the_parameter():
    table = nn.Parameter(torch.randn(1, 4, 4, 3))
    cache = PositionCache(capacity=2)
    with torch.no_grad():
        first = cache(table, (5, 7))
        assert cache(table, (5, 7)) is first
        table.add_(1.0)
        assert torch.allclose(cache(table, (5, 7)), first + 1, atol=1e-5)
        for side in range(5, 12):
            cache(table, (side, side))
        assert len(cache._tables) <= 2
    assert cache(table, (5, 7)).requires_grad  # training never reads the cache


def test_cache_filled_under_inference_mode_serves_training_loops():
    table = nn.Parameter(torch.randn(1, 4, 4, 3))
    cache = PositionCache()
    with torch.inference_mode():
        cache(table, (5, 5))
    x = torch.randn(1, 5, 5, 3, requires_grad=True)
    with torch.no_grad():
        kept = cache(table, (5, 5))
    (x * kept).sum().backward()  # an inference tensor would refuse to be saved for backward
    assert torch.equal(x.grad, kept)


def test_content_sizes_finds_zero_padding():
    images = torch.zeros(4, 3, 32, 48)
    images[0, :, :20, :33] = 1
    images[1] = -1
    images[2, 1, 5, 6] = 1  # black inside, one pixel in one channel
    assert content_sizes(images) == [(20, 33), (32, 48), (6, 7), (32, 48)]  # an empty image counts whole


def test_token_mask():
    mask = token_mask([(1, 2), (2, 3)], (2, 3), torch.device("cpu"))
    assert mask.tolist() == [[[True, True, False], [False] * 3], [[True] * 3] * 2]
