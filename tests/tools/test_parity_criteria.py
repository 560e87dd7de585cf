"""Fixtures of losses and results: good ones pass, a changed rule is noticed."""

import json

import pytest
from safetensors.torch import load_file, save_file

from tests.tools.test_check_parity import FIXTURES, check_parity, copy_of


@pytest.mark.parametrize(
    "name, compared", [("dino_criterion", 150), ("maskdino_criterion", 312), ("maskdino_inference", 8)]
)
def test_fixture(name, compared, capsys):
    assert check_parity.main([str(FIXTURES / f"{name}.safetensors"), "--strict"]) == 0
    assert f"{compared} compared, 0 above tolerance" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, keys, value",
    [
        ("dino_criterion", ("loss", "giou_eps"), 1e-7),
        ("dino_criterion", ("loss", "alpha"), 0.3),
        ("dino_criterion", ("denoising", "unused_slots"), "left out"),
        ("dino_criterion", ("matcher", "cost_giou"), 0.0),
        ("maskdino_criterion", ("loss", "eos_weight"), 0.2),
        ("maskdino_criterion", ("loss", "things"), 5),
        ("maskdino_criterion", ("matcher", "cost_mask"), 0.0),
        ("maskdino_inference", ("inference", "temperature"), 0.5),
        ("maskdino_inference", ("inference", "overlap_threshold"), 0.3),
        ("maskdino_inference", ("inference", "top_k"), 3),
    ],
)
def test_a_changed_rule_is_noticed(name, keys, value, tmp_path):
    path = copy_of(name, tmp_path)
    sidecar = json.loads(path.with_suffix(".json").read_text())
    block = sidecar["build"]
    for key in keys[:-1]:
        block = block[key]
    assert block[keys[-1]] != value
    block[keys[-1]] = value
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    assert check_parity.main([str(path)]) == 1


def test_a_share_of_pixels_may_differ(tmp_path):
    path = copy_of("maskdino_inference", tmp_path)
    tensors = load_file(path)
    segments = tensors["output/inference/96x128/transform/panoptic_map"]
    segments[0, :4] += 1  # 4 of 4380: less than a thousandth
    save_file(tensors, path)
    assert check_parity.main([str(path)]) == 0
    segments[1, :4] += 1
    save_file(tensors, path)
    assert check_parity.main([str(path)]) == 1


def test_what_the_matcher_cannot_do_is_said(tmp_path, refused):
    path = copy_of("maskdino_criterion", tmp_path)
    sidecar = json.loads(path.with_suffix(".json").read_text())
    sidecar["build"]["matcher"]["things"] = 3
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    with refused("a matcher that knows things"):
        check_parity.main([str(path)])
