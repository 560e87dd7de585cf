"""The parity tool passes on good fixtures and fails on changed ones."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "data" / "fixtures"
sys.path.insert(0, str(ROOT / "tools"))  # as when the script is run
spec = importlib.util.spec_from_file_location("check_parity", ROOT / "tools" / "check_parity.py")
check_parity = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_parity)


@pytest.mark.parametrize(
    ("name", "compared"),
    [
        ("dino_detrex", 37),
        ("dino_official", 32),
        ("fast_itpn_cls", 19),
        ("fast_itpn_pretrain", 29),
        ("fastmim_hog", 8),
        ("fastmim_swin", 11),
        ("fastmim_vit", 12),
        ("itpn_clip_mfm", 18),
        ("itpn_cls_rpe", 17),
        ("itpn_det", 26),
        ("itpn_pixel_mim", 17),
        ("itpn_pixel_pyramid", 25),
        ("itpn_seg", 11),
        ("maskdino_instance", 37),
        ("maskdino_panoptic", 51),
        ("maskdino_semantic", 18),
    ],
)
def test_fixture(name, compared, capsys):
    assert check_parity.main([str(FIXTURES / f"{name}.safetensors"), "--strict"]) == 0
    assert f"{compared} compared, 0 above tolerance" in capsys.readouterr().out


def copy_of(name, folder):
    for suffix in ("json", "safetensors"):
        shutil.copy(FIXTURES / f"{name}.{suffix}", folder / f"{name}.{suffix}")
    return folder / f"{name}.safetensors"


@pytest.mark.parametrize(
    "weight", ["blocks.0.mlp.ffn_ln.bias", "blocks.6.gamma_2", "blocks.5.attn.v_bias", "pos_embed"]
)
def test_a_changed_weight_is_noticed(weight, tmp_path):
    path = copy_of("fast_itpn_cls", tmp_path)
    tensors = load_file(path)
    tensors[f"weights/{weight}"] += 0.01
    save_file(tensors, path)
    assert check_parity.main([str(path)]) == 1


def test_strict_fails_on_what_is_not_compared(tmp_path):
    path = copy_of("fast_itpn_cls", tmp_path)
    assert check_parity.main([str(path), "--strict"]) == 0
    sidecar = json.loads(path.with_suffix(".json").read_text())
    case = next(iter(sidecar["build"]["variants"].values()))["cases"][0]
    case["outputs"].append("something_else")
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    assert check_parity.main([str(path)]) == 0
    assert check_parity.main([str(path), "--strict"]) == 1


def test_unknown_family_and_missing_file(tmp_path, refused):
    path = copy_of("fast_itpn_cls", tmp_path)
    sidecar = json.loads(path.with_suffix(".json").read_text())
    sidecar["build"]["family"] = "other"
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    with refused("family other"):
        check_parity.main([str(path)])
    with refused(r"absent\.safetensors: no such file"):
        check_parity.main([str(tmp_path / "absent.safetensors")])
    path.with_suffix(".json").write_text("{")
    with refused(r"fast_itpn_cls\.safetensors: it can't be read"):
        check_parity.main([str(path)])
