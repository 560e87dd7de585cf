"""A fresh start into the folder of another run: refused, or the earlier run is moved aside."""

from pathlib import Path

import pytest
import torch

from itpn_d2.engine import Run, earlier
from itpn_d2.engine.earlier import make_room
from itpn_d2.errors import ConfigError
from tests.engine.test_nothing_is_lost import small


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITPN_D2_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def left_by_a_run(folder: Path, *names: str, tag: str | None = "model_0000007.pth") -> Path:
    folder.mkdir(exist_ok=True)
    for name in names or ("model_0000003.pth", "model_0000007.pth", "model_best.pth", "metrics.json"):
        (folder / name).write_text(name)
    if tag is not None:
        (folder / "last_checkpoint").write_text(tag)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_second_start_is_refused_and_changes_nothing(tmp_path):
    Run(small(tmp_path, "train.max_iter=1", "train.seed=1")).train()
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file() and p.name != "log.txt"}
    with pytest.raises(ConfigError) as refused:
        Run(small(tmp_path, "train.max_iter=2", "train.seed=2")).train()
    for words in (str(tmp_path), "model_final.pth", "--resume", "train.overwrite=True", "train.output_dir"):
        assert words in str(refused.value)
    assert before == {n: (tmp_path / n).read_bytes() for n in before}

    Run(small(tmp_path, "train.max_iter=1", "train.seed=3", "train.overwrite=True")).train()
    moved = tmp_path / "earlier_1"
    assert {"model_final.pth", "last_checkpoint", "config.yaml", "metrics.json"} <= names(moved)
    assert all((moved / n).read_bytes() == before[n] for n in ("model_final.pth", "config.yaml"))
    assert (tmp_path / "model_final.pth").read_bytes() != before["model_final.pth"]
    assert (tmp_path / "metrics.json").read_text().count("\n") == 1
    said = (tmp_path / "log.txt").read_text()
    assert "train.overwrite=True" in said and str(moved) in said
    assert torch.load(moved / "model_final.pth", weights_only=True)["iteration"] == 0
    Run(small(tmp_path, "train.max_iter=2")).train(resume=True)  # the new run, not the earlier one
    assert "Starting training from iteration 1" in (tmp_path / "log.txt").read_text()


def test_nothing_to_refuse(tmp_path):
    for overwrite in (False, True):
        make_room(tmp_path, overwrite)
        left_by_a_run(tmp_path, "config.yaml", "metrics.json", "model_other.pth", tag=None)
        make_room(tmp_path, overwrite)
    assert names(tmp_path) == {"config.yaml", "metrics.json", "model_other.pth"}


@pytest.mark.parametrize("tag", ["model_0000007.pth", "model_9999999.pth", "", None])
def test_checkpoints_count_whatever_their_tag_says(tmp_path, tag):
    left_by_a_run(tmp_path, tag=tag)
    with pytest.raises(ConfigError, match=tag or "model_0000007|last_checkpoint"):
        make_room(tmp_path, overwrite=False)


def test_every_earlier_run_is_kept(tmp_path):
    left_by_a_run(tmp_path, "model_0000001.pth", "model_mine.pth", "events.out.tfevents.1", "log.txt")
    make_room(tmp_path, overwrite=True)
    left_by_a_run(tmp_path, "model_0000002.pth")
    make_room(tmp_path, overwrite=True)
    assert names(tmp_path) == {"earlier_1", "earlier_2", "model_mine.pth", "log.txt"}
    assert names(tmp_path / "earlier_1") == {"model_0000001.pth", "last_checkpoint", "events.out.tfevents.1"}
    assert names(tmp_path / "earlier_2") == {"model_0000002.pth", "last_checkpoint"}


def test_an_interrupted_move_is_done_to_its_end(tmp_path, monkeypatch):
    left_by_a_run(tmp_path)
    replace = Path.replace

    def stop(path, target):
        if path.name == "metrics.json":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(earlier.Path, "replace", stop)
        make_room(tmp_path, overwrite=True)
    with pytest.raises(ConfigError):
        make_room(tmp_path, overwrite=False)
    make_room(tmp_path, overwrite=True)
    assert names(tmp_path) == {"earlier_1", "earlier_2"}


@pytest.mark.parametrize("start", ["model_0000003.pth", "model_best.pth"])
def test_what_the_run_starts_from_is_not_moved(tmp_path, start):
    left_by_a_run(tmp_path)
    with pytest.raises(ConfigError, match="train.init_checkpoint"):
        make_room(tmp_path, overwrite=True, start=str(tmp_path / "." / start))
    make_room(tmp_path, overwrite=True, start="itpn://somewhere/model_best.pth")
