"""The command: a table, a converted file, or one line that says why not."""

import pytest
import torch

from itpn_d2 import create_model
from itpn_d2.checkpoint import atomic_save, load_state_file
from itpn_d2.commands import convert


@pytest.fixture
def source(tmp_path):
    model = create_model("itpn_nano", channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2, pos_grid=(4, 4))
    atomic_save({"model": model.state_dict(), "epoch": 3}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_show_and_convert(source, tmp_path, capsys):
    assert convert.main([str(source)]) == 0
    assert "iTPN v1, 8/16/32 x 1/1/2 blocks" in capsys.readouterr().out
    official = tmp_path / "official.pth"
    assert convert.main([str(source), str(official), "--to", "official", "--wrapper", "none"]) == 0
    out = capsys.readouterr().out
    assert "official.pth (layout official)" in out and "(epoch)" in out
    assert "absolute_pos_embed" in load_state_file(official)
    assert convert.main([str(official), str(tmp_path / "b.safetensors")]) == 0
    first, last = load_state_file(source)["model"], load_state_file(tmp_path / "b.safetensors")
    assert all(torch.equal(last[f"trunk.{k}"], v) for k, v in first.items())


def test_failures_name_the_file_and_leave_nothing(source, tmp_path, refused):
    (tmp_path / "text.pth").write_text("hello")
    before = sorted(p.name for p in tmp_path.iterdir())
    for arguments in (["text.pth"], ["text.pth", "x.pth"], ["absent.pth"], ["a.pth", "text.pth"]):
        with refused(arguments[-1 if arguments[0] == "a.pth" else 0]):
            convert.main([str(tmp_path / a) for a in arguments])
    assert sorted(p.name for p in tmp_path.iterdir()) == before
