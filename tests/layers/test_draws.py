"""Numbers of samples: functions of seed, position, purpose and place."""

import math

import pytest
import torch

from itpn_d2.layers import Draws, Reseeded, drawing, draws_of
from itpn_d2.layers.draws import path_table


def test_numbers_belong_to_the_sample():
    together = Draws(7, [3, 11, 12, 10**12])
    whole = together.uniform("masks", 5, 6), together.uniform("masks", 5, 6), together.seeds("points")
    parts = [Draws(7, [3]), Draws(7, [11, 12]), Draws(7, [10**12])]
    assert torch.equal(whole[0], torch.cat([d.uniform("masks", 5, 6) for d in parts]))
    assert torch.equal(whole[1], torch.cat([d.uniform("masks", 5, 6) for d in parts]))
    assert whole[2] == [seed for d in parts for seed in d.seeds("points")]
    assert torch.equal(Draws(7, [3]).uniform("a", 4), Draws(7, [3]).uniform("a", 9)[:, :4])


def test_anything_else_gives_other_numbers():
    first = Draws(0, [5])
    seen = [first.uniform("a", 100), first.uniform("a", 100)]
    for seed, position, purpose in ((1, 5, "a"), (0, 6, "a"), (0, 5, "b"), (-1, 5, "a"), (0, 0, "a")):
        seen.append(Draws(seed, [position]).uniform(purpose, 100))
    table = torch.cat(seen)
    assert len(table.flatten().unique()) == table.numel()
    assert torch.corrcoef(table).fill_diagonal_(0).abs().max() < 0.4


def test_numbers_are_uniform_and_independent():
    x = Draws(3, range(1000)).uniform("a", 1000)
    assert x.min() >= 0 and x.max() < 1
    assert x.mean().item() == pytest.approx(0.5, abs=2e-3)
    assert x.var().item() == pytest.approx(1 / 12, abs=1e-3)
    counts = torch.histc(x, 256)
    expected = x.numel() / 256
    chi = ((counts - expected).square() / expected).sum().item()
    assert 150 < chi < 380  # 255 degrees of freedom
    for a, b in ((x[:, 1:], x[:, :-1]), (x[1:], x[:-1])):  # neighbours in place and in position
        r = torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1].item()
        assert abs(r) * math.sqrt(a.numel()) < 4.5


def test_generators_and_seeds():
    one, other = Draws(0, [1, 2]).generators("masks")
    again = Draws(0, [1]).generators("masks")[0]
    first = torch.rand(3, generator=one)
    assert torch.equal(first, torch.rand(3, generator=again))
    assert not torch.equal(first, torch.rand(3, generator=other))


def test_a_block_has_draws_for_its_own_batch_alone():
    assert draws_of(2) is None and path_table(2) is None
    draws = Draws(0, [1, 2])
    with drawing(draws):
        assert draws_of(2) is draws and draws_of(3) is None
        assert path_table(2).shape[0] == 2 and path_table(3) is None
        with drawing(None):
            assert draws_of(2) is None and path_table(2) is None
        assert draws_of(2) is draws
    assert draws_of(2) is None
    with pytest.raises(ZeroDivisionError), drawing(draws):
        raise ZeroDivisionError
    assert draws_of(2) is None


def test_torchs_generator_is_seeded_for_each_image():
    def values(positions):
        with drawing(Draws(0, positions)):
            turns = Reseeded("a", len(positions))
        found = []
        for _ in positions:
            turns.next_image()
            found.append(torch.rand(2).tolist())
        return found

    assert values([4, 5]) == [*values([4]), *values([5])]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    Reseeded("a", 2).next_image()  # nothing to draw from
    assert torch.equal(torch.get_rng_state(), state)
