import itertools

import numpy as np
import pytest

from itpn_d2.data import ResumableBatchSampler


def take(count, **options):
    options = {"length": 23, "total_batch_size": 4, "seed": 3, **options}
    return list(itertools.islice(ResumableBatchSampler(**options), count))


@pytest.mark.parametrize("sizes", [None, [(4 + i % 3, 5) for i in range(23)]])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_every_world_size_sees_the_same_batches(world, sizes):
    shares = [take(20, rank=r, world_size=world, sizes=sizes) for r in range(world)]
    joined = [sum(parts, []) for parts in zip(*shares, strict=True)]
    assert joined == take(20, sizes=sizes)


@pytest.mark.parametrize("start", [0, 1, 7, 13])
@pytest.mark.parametrize("repeats", [None, [1.0 + 0.1 * i for i in range(23)]])
def test_starting_later_is_skipping(start, repeats):
    assert take(5, start_iter=start, repeats=repeats) == take(start + 5, repeats=repeats)[start:]


def test_an_epoch_visits_everything_once():
    places = sum(take(23), [])  # 92 samples: four epochs
    for epoch in range(4):
        assert sorted(i for _, i in places[epoch * 23 : epoch * 23 + 23]) == list(range(23))
    assert [p for p, _ in places] == list(range(92))
    orders = {tuple(i for _, i in places[e * 23 : e * 23 + 23]) for e in range(4)}
    assert len(orders) == 4


def test_grouping_keeps_wide_and_tall_apart():
    sizes = [(10, 5) if i % 2 else (5, 10) for i in range(23)]
    for batch in take(30, sizes=sizes):
        assert len({sizes[i][0] > sizes[i][1] for _, i in batch}) == 1


def test_repeats_set_the_frequency():
    places = sum(take(500, repeats=[2.5] + [1.0] * 22), [])
    counts = [sum(i == k for _, i in places) for k in (0, 1)]
    assert counts[0] / counts[1] == pytest.approx(2.5, rel=0.1)


@pytest.mark.parametrize(
    "options", [dict(total_batch_size=3, world_size=2), dict(length=0), dict(total_batch_size=0)]
)
def test_refuses(options):
    with pytest.raises(ValueError):
        take(1, **options)


@pytest.mark.parametrize("shuffle", [False, True])
def test_order_is_numpys_shuffle_of_each_epoch(shuffle):
    length, batch = 70_001, 1000  # more than is made into a list at a time
    places = sum(take(141, length=length, total_batch_size=batch, shuffle=shuffle), [])
    expected = []
    for epoch in range(3):
        indices = np.arange(length)
        if shuffle:
            np.random.default_rng([3, epoch]).shuffle(indices)
        expected += indices.tolist()
    assert places == list(enumerate(expected))[: 141 * batch]


def test_starting_late_does_not_walk_there():
    assert take(1, start_iter=10**12)[0][0][0] == 4 * 10**12
