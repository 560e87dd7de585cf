"""Files appear whole or not at all, and what dead processes leave is removed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from itpn_d2 import files
from itpn_d2.errors import OutputError
from itpn_d2.files import (
    cache_root,
    commit,
    partial_name,
    remove_partials,
    write_json,
    write_text,
    written_whole,
)


def test_text_and_json(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "é\udcff")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"\xc3\xa9\\udcff"
    write_json(tmp_path / "a.json", {"x": [1.5, float("nan"), {"y": float("inf")}], "z": "é"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1.5, None, {"y": None}], "z": "é"}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_exception_leaves_the_old_content(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), written_whole(path) as partial:
        assert partial.parent == path.parent and partial.suffix == ".bin"
        partial.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path):
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("make", [lambda p: p.write_text("x"), lambda p: None], ids=["file", "missing"])
def test_places_that_cannot_be_written_are_named(tmp_path, make):
    blocked = tmp_path / "blocked"
    make(blocked)
    target = blocked / "a.json" if blocked.is_file() else Path("/proc/nope/a.json")
    with pytest.raises(OutputError, match=r"a\.json: "):
        write_json(target, 1)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder: can't be written"):
        write_text(tmp_path / "folder", "a folder stands in the way")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said_so(tmp_path, monkeypatch):
    (tmp_path / "full").symlink_to("/dev/full")
    monkeypatch.setattr(files, "partial_name", lambda path: tmp_path / "full")
    with pytest.raises(OutputError, match=r"results\.json: can't be written \(the disk of .* is full"):
        write_text(tmp_path / "results.json", "x" * 100)


def test_a_full_disk_behind_another_librarys_error(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_is_full", lambda folder: True)
    with pytest.raises(OutputError, match=r"model\.pth: .* is full"), written_whole(tmp_path / "model.pth"):
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")


def test_long_names_and_folders(tmp_path):
    write_text(tmp_path / ("é" * 120 + ".txt"), "x")
    folder = partial_name(tmp_path / "scenes")
    folder.mkdir()
    (folder / "a").write_text("x")
    commit(folder, tmp_path / "scenes")
    assert (tmp_path / "scenes" / "a").read_text() == "x"


def test_what_dead_processes_left_is_removed(tmp_path):
    living = partial_name(tmp_path / "a.pth")
    living.write_text("of this process")
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    pid = dead.stdout.strip()
    left = [living.with_name(living.name.replace(f".{os.getpid()}.", f".{pid}.")), tmp_path / "keep.pth"]
    left[0].write_text("half")
    left[1].write_text("whole")
    folder = tmp_path / left[0].name.replace("a.", "b.", 1).replace(".pth", "")
    (folder / "inner").mkdir(parents=True)
    elsewhere = tmp_path / ".a.another-host.1.partial.pth"
    elsewhere.write_text("of another machine")
    assert set(remove_partials(tmp_path)) == {left[0], folder}
    assert living.exists() and left[1].exists() and elsewhere.exists()
    old = time.time() - 30 * 24 * 3600
    os.utime(elsewhere, (old, old))
    assert remove_partials(tmp_path) == [elsewhere]
    assert remove_partials(tmp_path / "nowhere") == []


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"step": 1}, path)
    program = (
        "import sys, torch\n"
        "from itpn_d2.files import written_whole\n"
        "with written_whole(sys.argv[1]) as partial:\n"
        "    partial.write_bytes(b'half')\n"
        "    print('writing', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert torch.load(path) == {"step": 1} and len(list(tmp_path.iterdir())) == 2
    assert len(remove_partials(tmp_path)) == 1 and list(tmp_path.iterdir()) == [path]


def test_a_home_that_cannot_be_written_to(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    assert cache_root() == tmp_path / "cache"
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "file"))
    fallback = cache_root()
    assert fallback.is_dir() if fallback.exists() else fallback.parent.is_dir()
    assert "ITPN_D2_CACHE" in caplog.text
    monkeypatch.setenv("ITPN_D2_CACHE", "~nobody-of-this-name/cache")  # a home that is not known
    assert cache_root() == fallback
    monkeypatch.delenv("ITPN_D2_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    assert cache_root() == fallback
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home" / ".cache" / "itpn_d2"
