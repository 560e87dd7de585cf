"""Counts, reproducibility and the statistics of block-wise masks."""

import pytest
import torch

from pretrain.masking import BlockMasking, GridMasking, RandomMasking


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("grid", "ratio"), [((8, 8), 0.75), ((4, 4), 0.75), ((14, 14), 0.6), ((3, 5), 0.9)])
def test_random_masks_keep_the_same_number(grid, ratio):
    for masking in (RandomMasking(ratio), GridMasking(ratio, block=32)):
        mask = masking(6, grid, generator())
        assert mask.dtype == torch.bool
        assert (~mask).sum(1).tolist() == [int(grid[0] * grid[1] * (1 - ratio))] * 6
        assert not torch.equal(mask[:3], mask[3:])


def test_every_cell_is_masked_equally_often():
    share = RandomMasking(0.75)(4000, (4, 4), generator()).float().mean(0)
    assert (share - 0.75).abs().max() < 0.03


@pytest.mark.parametrize(("grid", "count", "mean"), [((14, 14), 75, 74.5), ((16, 16), 105, 104.4)])
def test_block_masks_have_the_published_statistics(grid, count, mean):
    counts = BlockMasking(count)(600, grid, generator()).sum(1).float()
    assert abs(counts.mean().item() - mean) < 0.4
    assert counts.max() <= count
    assert counts.min() >= count - 15
    assert 0.55 < (counts == count).float().mean() < 0.8


def test_block_masks_are_blocks():
    mask = BlockMasking(75)(200, (14, 14), generator()).reshape(-1, 14, 14).float()
    pairs = (mask[:, 1:] * mask[:, :-1]).sum() / mask[:, 1:].sum()
    assert pairs > 0.7  # 0.38 for independent cells


def test_exact_block_masks():
    counts = BlockMasking(75, exact=True)(200, (14, 14), generator()).sum(1)
    assert counts.tolist() == [75] * 200


def test_largest_block_limits_a_rectangle():
    one = BlockMasking(16, min_block=4, max_block=4, aspect=(1, 1), attempts=1)
    for mask in one(20, (14, 14), generator()).reshape(-1, 14, 14):
        if mask.sum() == 4:  # refused after the first: one 2x2 square
            rows, columns = mask.nonzero().unbind(1)
            assert rows.max() - rows.min() == 1
            assert columns.max() - columns.min() == 1
        assert mask.sum() <= 16


@pytest.mark.parametrize(
    "masking", [RandomMasking(), GridMasking(), BlockMasking(20), BlockMasking(20, exact=True)]
)
def test_a_seed_gives_the_same_masks(masking):
    first = masking(3, (8, 8), generator(5))
    assert torch.equal(first, masking(3, (8, 8), generator(5)))
    torch.manual_seed(5)
    assert torch.equal(first, masking(3, (8, 8)))
    assert not torch.equal(first, masking(3, (8, 8)))


def test_errors():
    with pytest.raises(ValueError, match="ratio 1.5"):
        RandomMasking(1.5)
    with pytest.raises(ValueError, match="ratio"):
        RandomMasking(1)
    with pytest.raises(ValueError, match="block 0"):
        GridMasking(block=0)
    with pytest.raises(ValueError, match="4x4 grid has no 20"):
        BlockMasking(20)(1, (4, 4))
    with pytest.raises(ValueError, match="out of range"):
        BlockMasking(20, aspect=(2, 1))
