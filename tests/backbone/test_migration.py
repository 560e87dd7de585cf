"""Who leaves: by the metric, by window, whatever the order and the padding; and what becomes of them."""

import pytest
import torch

from itpn_d2.backbone import METRICS, TokenMigration
from itpn_d2.layers import cut_windows
from itpn_d2.layers.windows import Windows, keep_count

CPU = torch.device("cpu")
TYPES = [torch.float32, torch.bfloat16]
each_type = pytest.mark.parametrize("dtype", TYPES, ids=["fp32", "bf16"])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_metric_by_definition():
    tokens = torch.randn(2, 9, 5, dtype=torch.float64)
    content = torch.arange(9) < torch.tensor([[9], [4]])
    scores = METRICS["mean_dissimilarity"](tokens, content)
    for image, (size, row) in enumerate(zip((9, 4), scores, strict=True)):
        unit = tokens[image] / tokens[image].norm(dim=1, keepdim=True)
        mean = unit[:size].mean(0)
        expected = 1 - unit @ mean / mean.norm()
        assert torch.allclose(row[:size], expected[:size], atol=1e-12)
    assert torch.allclose(METRICS["mean_dissimilarity"](tokens, None)[0], scores[0], atol=1e-12)


@each_type
def test_what_looks_like_the_mean_leaves(dtype):
    tokens = torch.ones(1, 20, 8) + 0.05 * torch.randn(1, 20, 8)
    unlike = [3, 11, 17]
    tokens[0, unlike] = torch.randn(3, 8)
    split = TokenMigration(8, 4, keep=0.15).split(tokens.to(dtype), None, Windows.single(20, CPU), 0)
    assert sorted(split.staying[0].tolist()) == unlike
    assert split.content is None


@each_type
def test_everyone_stays_or_leaves(dtype):
    tokens = torch.randn(3, 35, 6, dtype=dtype)
    split = TokenMigration(6, 4).split(tokens, None, Windows.single(35, CPU), 1)
    assert split.staying.shape == (3, keep_count(35, 0.7))
    both = torch.cat((split.staying, split.leaving), 1).sort(1).values
    assert torch.equal(both, torch.arange(35).expand(3, -1))


@each_type
@pytest.mark.parametrize("metric", METRICS)
def test_the_choice_follows_a_permutation(dtype, metric):
    migration = TokenMigration(16, 4, keep=0.4, metric=metric)
    tokens = torch.randn(2, 50, 16).to(dtype)
    order = torch.randperm(50)
    plain, moved = (
        migration.split(x, None, Windows.single(50, CPU), 0).staying for x in (tokens, tokens[:, order])
    )
    assert torch.equal(order[moved].sort(1).values, plain.sort(1).values)


@each_type
@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (3, 10)])
def test_every_window_keeps_the_same_share(dtype, grid):
    windows, order = cut_windows(grid, 3, CPU)
    tokens = torch.randn(2, windows.total, 6).to(dtype)
    split = TokenMigration(6, 4, keep=0.5).split(tokens, None, windows, 0)
    owner = torch.repeat_interleave(torch.arange(windows.count), windows.lengths)
    for staying, leaving in zip(split.staying, split.leaving, strict=True):
        assert torch.equal(owner[staying].bincount(minlength=windows.count), keep_count(windows.lengths, 0.5))
        assert torch.equal(torch.cat((staying, leaving)).sort().values, torch.arange(windows.total))
        assert (owner[staying].diff() >= 0).all()  # still in window-major order
    assert torch.equal(split.windows.lengths, keep_count(windows.lengths, 0.5))
    # within each window the highest scores
    score = METRICS["mean_dissimilarity"](tokens.float(), None)
    for image in range(2):
        for window in range(windows.count):
            own = (owner == window).nonzero()[:, 0]
            best = own[score[image, own].argsort(descending=True)][: keep_count(len(own), 0.5)]
            kept = split.staying[image][owner[split.staying[image]] == window]
            assert set(kept.tolist()) == set(best.tolist())


@each_type
@pytest.mark.parametrize("window", [3, 14])
def test_padding_stays_no_longer_than_content(dtype, window):
    """Two drops in a padded batch choose what they choose alone; padding is not content, nor a filler."""
    migration = TokenMigration(6, 4, keep=0.6)
    real, grid = (4, 5), (6, 7)
    windows, order = cut_windows(grid, window, CPU)
    order = torch.arange(windows.total) if order is None else order
    own_windows, own_order = cut_windows(real, window, CPU)
    own_order = torch.arange(own_windows.total) if own_order is None else own_order
    alone = torch.randn(1, 20, 6).to(dtype)
    maps = 9 * torch.ones(1, *grid, 6).to(dtype)
    maps[:, :4, :5] = alone.unflatten(1, real)
    inside = torch.zeros(grid, dtype=torch.bool)
    inside[:4, :5] = True

    def cells(tokens, content, windows, names):
        chosen = []
        for drop in (0, 1):
            split = migration.split(tokens, content, windows, drop)
            tokens, names = tokens[:, split.staying[0]], [names[i] for i in split.staying[0].tolist()]
            windows, content = split.windows, split.content
            counts = [True] * len(names) if content is None else content[0].tolist()
            chosen.append({name for name, c in zip(names, counts, strict=True) if c})
        return chosen

    places = [(i // 7, i % 7) for i in order.tolist()]
    batched = cells(maps.flatten(1, 2)[:, order], inside.flatten()[order][None], windows, places)
    own = cells(alone[:, own_order], None, own_windows, [(i // 5, i % 5) for i in own_order.tolist()])
    assert batched == own
    assert len(own[1]) < len(own[0]) < 20


def test_leaving_tokens_keep_what_they_had(micro):
    """After one drop before block 2, the others are the dense trunk's input of that block, normed."""
    image = torch.randn(2, 3, 96, 160)
    dense, model = micro(), micro(migration={"keep": 0.4, "at": (0.5,)})
    inputs = []
    dense.trunk.stage3[2].register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    full = dense.trunk(image)[2].flatten(1, 2)
    out = model.trunk(image)[2].flatten(1, 2)
    stashed = dense.trunk.norm(inputs[0])
    same = (out == stashed).all(-1)
    assert same.sum(1).tolist() == [60 - keep_count(60, 0.4)] * 2
    split = model.trunk.migration.split(inputs[0], None, Windows.single(60, CPU), 0)
    assert torch.equal(same.nonzero()[:, 1].reshape(2, -1), split.leaving.sort(1).values)
    assert not (out == full).all(-1).any()


def test_affine_starts_as_identity_and_takes_leaving_tokens_only(micro):
    image = torch.randn(2, 3, 96, 160)
    plain, affine = micro(migration={}), micro(migration={"affine": True})
    assert set(affine.state_dict()) - set(plain.state_dict()) == {
        "trunk.migration.scale",
        "trunk.migration.shift",
    }
    first, second = plain.trunk(image)[2], affine.trunk(image)[2]
    assert torch.equal(first, second)
    with torch.no_grad():
        affine.trunk.migration.scale[1].mul_(-1)
    changed = (affine.trunk(image)[2] != first).any(-1).flatten(1)
    present = keep_count(60, 0.7)
    assert changed.sum(1).tolist() == [present - keep_count(present, 0.7)] * 2


@pytest.mark.parametrize(
    "options, words",
    [
        ({"keep": 0.0}, "migration keep 0.0.*ratio in"),
        ({"keep": (0.5, 0.5)}, "3 of them"),
        ({"at": (0.5, 0.25, 0.75)}, "increasing fractions"),
        ({"at": (0.25, 0.5, 1.0)}, "increasing fractions"),
        ({"metric": "colour"}, "'colour'.*mean_dissimilarity"),
    ],
)
def test_wrong_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        TokenMigration(8, 4, **options)


@pytest.mark.parametrize("gathering", [None, {"window": 3}])
def test_exits_tell_who_went_how_far(micro, padded, gathering):
    image, sizes = padded
    model = micro(migration={"keep": 0.5, "at": (0.25, 0.75)}, gathering=gathering)
    exits = model.trunk.exit_blocks(image, sizes)
    assert exits.shape == (2, 10, 12)
    for i, (h, w) in enumerate(sizes):
        own = exits[i, : h // 16, : w // 16]
        assert torch.equal(own, model.trunk.exit_blocks(image[i : i + 1, :, :h, :w])[0])
        assert set(own.flatten().tolist()) == {1, 3, 4}
        if gathering is None:
            here = keep_count(own.numel(), 0.5)
            assert (own > 1).sum() == here and (own == 4).sum() == keep_count(here, 0.5)
    assert (micro(gathering=gathering).trunk.exit_blocks(image, sizes) == 4).all()
