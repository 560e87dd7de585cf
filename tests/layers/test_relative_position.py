"""Relative position biases against their definitions, at the stored grid and at others."""

import pytest
import torch

from itpn_d2.layers import Attention, DecomposedBias, TableBias

GRID = (3, 4)


def offsets(grid):
    places = [(r, c) for r in range(grid[0]) for c in range(grid[1])]
    return [[(a[0] - b[0] + grid[0] - 1, a[1] - b[1] + grid[1] - 1) for b in places] for a in places]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_table_by_definition():
    layer = TableBias(GRID, num_heads=2)
    torch.nn.init.normal_(layer.table)
    bias = layer(torch.zeros(1, 2, 12, 5), GRID)
    expected = torch.stack([torch.stack([layer.table[0, r, c] for r, c in row]) for row in offsets(GRID)])
    assert torch.equal(bias[0], expected.permute(2, 0, 1))


def test_decomposed_by_definition():
    layer = DecomposedBias(GRID, head_dim=5).double()
    torch.nn.init.normal_(layer.rows)
    torch.nn.init.normal_(layer.columns)
    q = torch.randn(2, 3, 12, 5, dtype=torch.float64)
    bias = layer(q, GRID)
    for i, row in enumerate(offsets(GRID)):
        for j, (r, c) in enumerate(row):
            expected = q[:, :, i] @ (layer.rows[0, r, 0] + layer.columns[0, 0, c])
            assert torch.allclose(bias[:, :, i, j], expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["table", "decomposed"])
@pytest.mark.parametrize("grid", [(3, 4), (5, 2), (1, 1)])
def test_attention_at_other_grids(kind, grid):
    layer = Attention(8, 2, True, kind, GRID)
    for p in layer.rel_pos.parameters():
        torch.nn.init.normal_(p)
    n = grid[0] * grid[1]
    x = torch.randn(2, n, 8)
    out = layer(x, None, grid)
    plain = Attention(8, 2, True)
    plain.load_state_dict(layer.state_dict(), strict=False)
    assert out.isfinite().all() and (n == 1 or not torch.allclose(out, plain(x)))
    # a masked key has no influence, whatever its bias
    if n > 1:
        mask = (torch.arange(n) < n - 1)[None, None, None]
        changed = x.clone()
        changed[:, -1] += 1
        kept = slice(0, n - 1)
        assert torch.allclose(layer(x, mask, grid)[:, kept], layer(changed, mask, grid)[:, kept], atol=1e-6)


@pytest.mark.parametrize("kind", ["table", "decomposed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_image_of_a_padded_batch_has_its_own_bias(kind, dtype):
    layer = Attention(8, 2, True, kind, GRID).to(dtype)
    for p in layer.rel_pos.parameters():
        torch.nn.init.normal_(p)
    grids, (h, w) = [(3, 4), (5, 2), (1, 1), (2, 6)], (5, 6)
    maps = torch.randn(4, h, w, 8, dtype=dtype)
    mask = torch.zeros(4, h, w, dtype=torch.bool)
    for one, (rows, columns) in zip(mask, grids, strict=True):
        one[:rows, :columns] = True
    together = layer(maps.flatten(1, 2), mask.flatten(1)[:, None, None], (h, w), grids=torch.tensor(grids))
    for one, found, grid in zip(maps, together.unflatten(1, (h, w)), grids, strict=True):
        own = one[: grid[0], : grid[1]]
        alone = layer(own.flatten(0, 1)[None], None, grid)[0].unflatten(0, grid)
        atol = 2e-6 if dtype == torch.float32 else 3e-2
        torch.testing.assert_close(found[: grid[0], : grid[1]], alone, atol=atol, rtol=0)


def test_the_grid_must_be_whole():
    with pytest.raises(ValueError, match="all 5 tokens"):
        Attention(8, 2, True, "table", GRID)(torch.zeros(1, 5, 8), None, (2, 3))
    with pytest.raises(ValueError, match="choose none, table or decomposed"):
        Attention(8, 2, True, "other")
