import pytest
import torch
from torch import nn

from itpn_d2.layers import PositionCache, resample_grid, resample_to_each


@pytest.mark.parametrize("grid", [(6, 6), (3, 9), (1, 1)])
def test_resampling_keeps_a_constant(grid):
    table = torch.full((1, 4, 4, 3), 2.5)
    out = resample_grid(table, grid)
    assert out.shape == (1, *grid, 3)
    assert torch.allclose(out, torch.full_like(out, 2.5), atol=1e-5)


def test_native_grid_is_untouched():
    table = torch.randn(1, 4, 6, 3)
    assert resample_grid(table, (4, 6)) is table


@pytest.mark.parametrize("rule", ["size", "scale", "scale_always"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_each_image_of_a_batch_has_the_table_of_its_own_grid(rule, dtype):
    """Larger, smaller, of one token, of the table's own grid, and with one side of it; nothing beyond."""
    torch.manual_seed(0)
    table = torch.randn(1, 4, 6, 5, dtype=dtype)
    grids = [(4, 6), (7, 9), (2, 3), (1, 1), (4, 9), (11, 6), (12, 13)]
    with torch.autocast("cpu", torch.bfloat16):
        found = resample_to_each(table, torch.tensor(grids), (12, 13), rule)
    assert found.shape == (7, 12, 13, 5) and found.dtype == dtype
    atol = 2e-2 if dtype == torch.bfloat16 else 1e-5
    for one, (h, w) in zip(found, grids, strict=True):
        torch.testing.assert_close(one[:h, :w], resample_grid(table, (h, w), rule)[0], atol=atol, rtol=0)
        assert not one[h:].any() and not one[:, w:].any()


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


@torch.no_grad()
@pytest.mark.parametrize("grid", [(4, 6), (8, 8)], ids=["another", "its own"])
def test_a_traced_table_follows_the_size(grid):
    """It is neither the cache's, of the example's size, nor taken as it is because it fits the example."""
    cache, table = PositionCache(), torch.randn(1, 8, 8, 4)
    cache(table, grid)  # as an earlier prediction leaves it
    traced = torch.jit.trace(lambda x: x + cache(table, (x.shape[1], x.shape[2])), torch.rand(1, *grid, 4))
    other = torch.rand(1, 5, 7, 4)
    torch.testing.assert_close(traced(other), other + resample_grid(table, (5, 7)))
