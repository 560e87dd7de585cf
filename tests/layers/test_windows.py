"""Windows against their definition, and attention in them against masked global attention."""

from fractions import Fraction
from math import ceil

import pytest
import torch
from torch.nn import functional as F

from itpn_d2.engine.flops import flop_counter
from itpn_d2.layers import WindowLayout, cut_windows, window_attention
from itpn_d2.layers.windows import Windows, keep_count

CPU = torch.device("cpu")
GRIDS = [((6, 6), 3), ((7, 5), 3), ((2, 3), 14), ((5, 9), 4), ((8, 3), 4), ((1, 7), 2), ((6, 8), 8)]


def by_hand(grid, window):
    """The row-major tokens of every window."""
    found = {}
    for row in range(grid[0]):
        for column in range(grid[1]):
            found.setdefault((row // window, column // window), []).append(row * grid[1] + column)
    return [found[key] for key in sorted(found)]


@pytest.mark.parametrize("grid, window", GRIDS)
def test_windows_by_hand(grid, window):
    windows, order = cut_windows(grid, window, CPU)
    expected = by_hand(grid, window)
    total = grid[0] * grid[1]
    found = torch.arange(total) if order is None else order
    assert found.tolist() == [token for tokens in expected for token in tokens]
    assert windows.lengths.tolist() == [len(tokens) for tokens in expected]
    assert (windows.total, windows.count) == (total, len(expected))
    assert windows.longest == max(len(tokens) for tokens in expected)
    x = torch.randn(2, total, 3)
    spread = windows.spread(x)
    assert spread.shape == (2, len(expected), windows.longest, 3)
    start = 0
    for slots, tokens in zip(spread.unbind(1), expected, strict=True):
        assert torch.equal(slots[:, : len(tokens)], x[:, start : start + len(tokens)])
        start += len(tokens)
    assert torch.equal(windows.join(spread), x)


@pytest.mark.parametrize("ratio", [0.7, 0.1, 0.35, 1.0, 1 / 3])
def test_counts_are_rounded_up_exactly(ratio):
    counts = torch.arange(1, 300)
    exact = [ceil(Fraction(round(ratio * 10_000), 10_000) * n) for n in counts.tolist()]
    assert [keep_count(n, ratio) for n in counts.tolist()] == exact == keep_count(counts, ratio).tolist()
    assert min(exact) >= 1


@pytest.mark.parametrize("grid, window", GRIDS)
@pytest.mark.parametrize("ratio", [0.7, 0.5])
def test_keeping_and_dropping_share_each_window(grid, window, ratio):
    windows, _ = cut_windows(grid, window, CPU)
    kept, gone = windows.keep(ratio), windows.drop(ratio)
    assert torch.equal(kept.lengths + gone.lengths, windows.lengths)
    for part in (kept, gone):
        assert part.total == part.lengths.sum() and part.longest == part.lengths.max()
    x = torch.randn(1, kept.total)
    assert torch.equal(kept.join(kept.spread(x)), x)


@pytest.mark.parametrize("grid, window", GRIDS)
@pytest.mark.parametrize("shared", [0, 1, 4])
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_by_definition(grid, window, shared, private, masked):
    torch.manual_seed(0)
    windows, _ = cut_windows(grid, window, CPU)
    total = windows.total
    q, k, v = torch.randn(3, 2, total + shared, 2, 5, dtype=torch.float64)
    content = None
    if masked:
        content = torch.rand(2, total) < 0.6
        content[:, total - int(windows.lengths[-1]) :] = False  # an image that ends before the last window
        content[:, 0] = True
    layout = WindowLayout.of(windows, shared, 2, content, private)
    assert masked or windows.slots is not None or layout.window_mask is None  # no mask where none is needed
    # not every kernel gives a finite result where there is no key
    assert layout.window_mask is None or layout.window_mask.any(-1).all()
    out = window_attention(torch.stack((q, k, v), 2), layout)

    owner = torch.repeat_interleave(torch.arange(windows.count), windows.lengths)
    seen = torch.zeros(2, total + shared, total + shared, dtype=torch.bool)
    seen[:, :total, :total] = owner[:, None] == owner
    seen[:, :total, total:] = not private
    seen[:, total:] = True
    real = torch.ones(2, total + shared, dtype=torch.bool)
    if masked:
        real[:, :total] = content
    mask = seen & real[:, None]
    expected = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask[:, None]
    ).transpose(1, 2)
    assert out.isfinite().all()
    sees = mask.any(-1)  # a window without content gives something finite that nobody looks at
    assert torch.allclose(out[sees], expected[sees], atol=1e-12)


@pytest.mark.parametrize("shared", [0, 4])
def test_products_grow_with_the_number_of_windows(shared):
    counts = []
    for columns in (2, 4, 8):
        windows, _ = cut_windows((4, 4 * columns), 4, CPU)
        qkv = torch.randn(1, windows.total + shared, 3, 2, 8)
        with flop_counter() as counter:
            window_attention(qkv, WindowLayout.of(windows, shared, 1))
        counts.append(counter.get_total_flops())
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0]) > 0
    if not shared:
        assert counts[1] == 2 * counts[0]


def test_one_window_has_no_tables():
    assert Windows.single(5, CPU).slots is None
