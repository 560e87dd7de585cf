"""The parity tool passes on good fixtures and fails on changed ones."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "data" / "fixtures"
spec = importlib.util.spec_from_file_location("check_parity", ROOT / "tools" / "check_parity.py")
check_parity = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_parity)


FASTMIM = [("fastmim_hog", 8), ("fastmim_vit", 12), ("fastmim_swin", 11)]


@pytest.mark.parametrize(("name", "compared"), [("fast_itpn_cls", 19), ("fast_itpn_pretrain", 7), *FASTMIM])
def test_fixture(name, compared, capsys):
    assert check_parity.main([str(FIXTURES / f"{name}.safetensors")]) == 0
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


def test_strict_fails_on_what_is_not_compared():
    assert check_parity.main([str(FIXTURES / "fast_itpn_pretrain.safetensors"), "--strict"]) == 1


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("fastmim_vit", "mask_token"),
        ("fastmim_vit", "pos_embed"),
        ("fastmim_swin", "encoder.layers.0.blocks.1.attn.relative_position_bias_table"),
        ("fastmim_swin", "decoder_norm.bias"),
    ],
)
def test_a_changed_fastmim_weight_is_noticed(name, weight, tmp_path):
    path = copy_of(name, tmp_path)
    tensors = load_file(path)
    tensors[f"weights/{weight}"].flatten()[0] += 0.1
    save_file(tensors, path)
    assert check_parity.main([str(path)]) == 1


def test_unknown_family_and_missing_file(tmp_path, capsys):
    path = copy_of("fast_itpn_cls", tmp_path)
    sidecar = json.loads(path.with_suffix(".json").read_text())
    sidecar["build"]["family"] = "other"
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    assert check_parity.main([str(path)]) == 2
    assert "family other" in capsys.readouterr().out
    assert check_parity.main([str(tmp_path / "absent.safetensors")]) == 2
