"""Probing on two processes: the numbers of one."""

import json

import pytest
import torch
from detectron2.utils import comm

from itpn_d2.backbone import create_model
from itpn_d2.data import labelled_source
from pretrain.data import TestView, build_image_loader
from pretrain.probe import TrunkFeatures, extract_features, knn_accuracy, linear_probe
from pretrain.probe.__main__ import parser
from pretrain.probe.classifiers import _Regression
from pretrain.probe.gathering import add_up, gather_rows, share_of
from pretrain.probe.run import report
from tests.engine.forked import forked
from tests.pretrain.probe.test_classifiers import clusters
from tests.pretrain.probe.test_command import arguments, places  # noqa: F401


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Seven noisy images of two classes: no two processes have as many."""
    from PIL import Image

    root = tmp_path_factory.mktemp("labelled")
    for number in range(7):
        place = root / f"class{number % 2}"
        place.mkdir(exist_ok=True)
        noise = torch.randint(
            0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8
        )
        Image.fromarray(noise.numpy()).save(place / f"{number}.png")
    return root


def seen_by(root):
    torch.manual_seed(0)
    trunk = create_model("fast_itpn_nano", channels=[8, 16, 32], depths=[1, 1, 2], num_heads=2)
    loader = build_image_loader(labelled_source(str(root)), TestView(32), 2)
    read = len(loader.sampler)
    features, labels = extract_features(TrunkFeatures(trunk), loader)
    accuracy = knn_accuracy(features, labels, features.flip(0), labels, k=3, shared=True)
    return read, features, labels, accuracy


def test_each_process_sees_a_part_and_knows_all(labelled, tmp_path):
    _, features, labels, accuracy = seen_by(labelled)
    found = forked(2, lambda: seen_by(labelled), tmp_path)
    assert sorted(read for read, *_ in found) == [3, 4]
    for _, others, other_labels, other in found:
        torch.testing.assert_close(others, features, rtol=1e-5, atol=1e-6)
        assert torch.equal(other_labels, labels) and other == accuracy


def test_more_processes_than_images(tmp_path):
    def rows():
        own = torch.arange(6.0).reshape(2, 3) if comm.get_rank() == 1 else torch.zeros(0, 0)
        everyone = gather_rows(own)
        features, labels = torch.eye(2), torch.arange(2)
        return everyone.tolist(), knn_accuracy(features, labels, features, labels, k=1, shared=True)

    for found in forked(3, rows, tmp_path):
        assert found == ([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], {"top1": 100.0})


@pytest.mark.parametrize("world", [2, 3])
def test_the_linear_classifier_is_fitted_by_all(tmp_path, world):
    """Of each the same, and that of one process but for rounding, which float64 makes small; a few rows, too,
    of which some processes have none."""
    x, y = clusters(40, 5, spread=1.0)

    def fit():
        own = _Regression(share_of(x.double()), share_of(y), len(x), add_up)
        assert len(own.x) < len(x) or comm.get_world_size() == 1
        weights = own.fit(1e-2, x.new_zeros(8, 5).double(), x.new_zeros(5).double(), 100)
        few = linear_probe(x[:2], torch.arange(2), x[:1], y[:1], shared=True)
        return weights, linear_probe(x, y, *clusters(30, 5, spread=1.0, seed=1), shared=True), few

    (weight, bias), accuracy, few = fit()
    assert weight.abs().max() > 0.1 and accuracy == linear_probe(x, y, *clusters(30, 5, spread=1.0, seed=1))
    found = forked(world, fit, tmp_path)
    for (other, other_bias), other_accuracy, other_few in found:
        assert max((other - weight).abs().max(), (other_bias - bias).abs().max()) < 1e-10
        assert torch.equal(other, found[0][0][0]) and other_accuracy == accuracy and other_few == few


def test_the_command_on_two_processes(places, tmp_path):  # noqa: F811
    out = places / "out.json"
    args = parser().parse_args(arguments(places, "--device", "cpu", "--json", str(out)))
    report(args)
    alone = json.loads(out.read_text())
    out.unlink()
    forked(2, lambda: report(args), tmp_path)
    assert json.loads(out.read_text()) == alone
