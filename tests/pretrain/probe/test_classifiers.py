"""k-NN against a loop; the linear probe on data whose answer is known."""

import math

import pytest
import torch

from pretrain.probe import knn_accuracy, linear_probe


def clusters(count, classes=3, width=8, spread=0.3, seed=0):
    """Gaussian clusters around fixed centres; labels in turn."""
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % classes
    noise = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return centres[labels] + spread * noise, labels


def loop_knn(train, labels, test, test_labels, k, temperature, top=1):
    right = 0
    for query, truth in zip(test.double(), test_labels.tolist(), strict=True):
        near = []
        for vector, label in zip(train.double(), labels.tolist(), strict=True):
            near.append((float(query @ vector / (query.norm() * vector.norm())), label))
        votes: dict[int, float] = {}
        for similarity, label in sorted(near, reverse=True)[:k]:
            votes[label] = votes.get(label, 0.0) + math.exp(similarity / temperature)
        right += truth in sorted(votes, key=lambda label: -votes[label])[:top]
    return 100 * right / len(test)


@pytest.mark.parametrize("k, temperature", [(1, 0.07), (5, 0.07), (20, 1.0), (500, 0.5)])
@pytest.mark.parametrize("chunk", [7, 4096])
def test_knn_agrees_with_a_loop(k, temperature, chunk):
    data = (*clusters(60, 7, spread=1.5), *clusters(40, 7, spread=1.5, seed=1))
    found = knn_accuracy(*data, k=k, temperature=temperature, chunk=chunk)
    assert found["top1"] == pytest.approx(loop_knn(*data, k, temperature))
    if k == 500:  # every class has votes, so that the fifth place is decided by them
        assert found["top5"] == pytest.approx(loop_knn(*data, k, temperature, top=5))
    assert 20 < found["top1"] < 100 and found["top1"] <= found["top5"]


def test_knn_looks_at_angles():
    train, labels = clusters(30)
    test, truth = clusters(30, seed=1)
    scales = torch.linspace(0.01, 100, 30)[:, None]
    data = (train, labels, test, truth)
    assert knn_accuracy(*data, k=3) == knn_accuracy(train * scales, labels, test / scales, truth, k=3)
    assert knn_accuracy(train, labels, train, labels, k=1) == {"top1": 100.0}


def test_knn_never_holds_all_similarities():
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    data = (*clusters(1000, width=2), *clusters(1000, width=2, seed=1))
    with Watch():
        knn_accuracy(*data, k=5, chunk=50)
    assert largest <= max(50 * (50 + 5), 1000 * 3)


@pytest.mark.parametrize("options", [{"k": 0}, {"chunk": 0}, {"temperature": 0}])
def test_knn_refuses(options):
    with pytest.raises(ValueError, match="have to be positive"):
        knn_accuracy(*clusters(6), *clusters(6), **options)


def test_linear_separates_what_can_be_separated():
    train, labels = clusters(120, 7, spread=0.05)
    test, truth = clusters(70, 7, spread=0.05, seed=1)
    units = torch.logspace(-3, 3, 8)  # standardised away
    offset = torch.linspace(-50, 50, 8)
    result = linear_probe(train * units + offset, labels, test * units + offset, truth)
    assert result["top1"] == result["top5"] == 100.0
    assert "top5" not in linear_probe(*clusters(30), *clusters(30))


def test_linear_needs_more_than_angles():
    """Rings of one direction and two lengths: k-NN on angles is blind there, a linear probe is not."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    features = torch.ones(200, 4) * (1.0 + labels[:, None]) + 0.01 * torch.randn(200, 4, generator=generator)
    data = (features[:100], labels[:100], features[100:], labels[100:])
    assert linear_probe(*data)["top1"] == 100.0 and knn_accuracy(*data)["top1"] < 90


def test_linear_is_at_chance_on_noise():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(1200, 16, generator=generator), torch.arange(1200) % 4
    result = linear_probe(features[:800], labels[:800], features[800:], labels[800:])
    assert abs(result["top1"] - 25) < 8  # 3.7 standard deviations of 400 guesses


def test_linear_is_deterministic_and_leaves_random_numbers_alone():
    data = (*clusters(90, 6, spread=1.5), *clusters(60, 6, spread=1.5, seed=1))
    state = torch.random.get_rng_state()
    first = linear_probe(*data)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        assert linear_probe(*data) == first


def test_linear_chooses_the_strength_by_what_it_did_not_fit():
    """Many useless directions and few examples: with next to no L2 they are all learnt by heart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    features = torch.randn(400, 60, generator=generator)
    features[:, 0] += 2.0 * labels
    data = (features[:100], labels[:100], features[100:], labels[100:])
    free = linear_probe(*data, strengths=(10.0, 1.0, 1e-1, 1e-5))
    weak = linear_probe(*data, strengths=(1e-5,))
    assert free["l2"] > 1e-5 and weak["l2"] == 1e-5
    assert free["top1"] > weak["top1"] + 5


def test_linear_stands_constant_features():
    train, labels = clusters(60, spread=0.05)
    test, truth = clusters(30, spread=0.05, seed=1)
    pad = torch.full((60, 2), 7.0)
    data = (torch.cat((train, pad), 1), labels, torch.cat((test, 5 * pad[:30]), 1), truth)
    assert linear_probe(*data)["top1"] == 100.0
    with pytest.raises(ValueError, match="at least two"):
        linear_probe(train[:1], labels[:1], test, truth)
