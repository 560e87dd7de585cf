"""python -m itpn_d2.model_zoo"""

import hashlib

import pytest
import torch

from itpn_d2 import create_model
from itpn_d2.checkpoint import atomic_save, from_native
from itpn_d2.model_zoo import Weights
from itpn_d2.model_zoo.__main__ import main
from itpn_d2.model_zoo.entries import ENTRIES, WEIGHTS
from itpn_d2.model_zoo.table import document

FILE = "fast_itpn_tiny_1600e_1k.pt"


def test_list(capsys):
    assert main(["list", "--task", "pretraining", "--pretrained"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and any("distillation_fast_itpn_tiny" in x and FILE in x for x in lines)
    assert main(["list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(ENTRIES)
    main(["list", "--task", "detection", "--no-pretrained"])
    assert "none published" in capsys.readouterr().out


def test_show(capsys, refused):
    assert main(["show", "fast_itpn_tiny_224", "Quickstart/mask_rcnn_fast_itpn_nano"]) == 0
    out = capsys.readouterr().out
    for words in ("85.1 top-1", "quoted", "measured here", "none published", FILE, "MIT", "58.395", "ring"):
        assert words in out
    with refused("no model 'nothing'"):
        main(["show", "nothing"])


def test_download(capsys, site, monkeypatch, cache, refused):
    site.files["/x.pth"] = b"x"
    weights = Weights("x.pth", "a test", "none", f"{site.address}/x.pth", hashlib.sha256(b"x").hexdigest())
    monkeypatch.setitem(WEIGHTS, "x.pth", weights)
    assert main(["download", "x.pth", "itpn://x.pth"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(cache / "x.pth")] * 2
    assert main(["verify", "x.pth"]) == 0
    assert "sha256 is right" in capsys.readouterr().out
    (cache / "x.pth").write_bytes(b"changed")
    assert main(["verify", "x.pth", FILE]) == 1
    out = capsys.readouterr().out
    assert "was expected" in out and f"{FILE}: not in {cache}" in out
    with refused(f"place {FILE} at {cache / FILE}"):
        main(["download", "distillation_fast_itpn_tiny"])
    with refused("nothing"):
        main(["download", "nothing"])


def test_verify_without_digest_states_the_one_it_has(capsys, cache):
    assert main(["verify"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(set(WEIGHTS.values()))
    assert main(["verify", FILE]) == 1
    assert capsys.readouterr().out == f"{FILE}: not in {cache}\n"
    cache.mkdir(parents=True)
    (cache / FILE).write_bytes(b"some bytes")
    assert main(["verify", FILE]) == 0
    assert hashlib.sha256(b"some bytes").hexdigest() in capsys.readouterr().out
    assert main(["verify", "--load", FILE]) == 1
    assert "not a checkpoint" in capsys.readouterr().out


@pytest.mark.slow
def test_verify_loads_into_the_model(capsys, cache):
    torch.manual_seed(0)
    state = from_native(create_model("fast_itpn_tiny", pyramid=True).state_dict())
    atomic_save({"module": {k: v.half() for k, v in state.items()}}, cache / FILE)
    assert main(["verify", "--load", "distillation_fast_itpn_tiny"]) == 0
    assert "loaded" in capsys.readouterr().out


def test_table(capsys, tmp_path):
    assert main(["table", str(tmp_path / "Z.md")]) == 0 and main(["table"]) == 0
    assert (tmp_path / "Z.md").read_text(encoding="utf-8") == document() == capsys.readouterr().out
