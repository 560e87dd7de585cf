"""What a run's folder says about the checkpoint to resume from, and what a damaged one is answered."""

import pytest
import torch
from torch import nn

from itpn_d2.checkpoint import Checkpointer, CheckpointError, Classes, atomic_save, last_checkpoint


class State:
    """A checkpointable that reads its state as an optimizer does: by keys."""

    def __init__(self):
        self.number = 0

    def state_dict(self):
        return {"number": self.number, "iteration": 4}

    def load_state_dict(self, state):
        self.number = state["number"] + 0


def checkpointer(folder, **parts):
    return Checkpointer(nn.Linear(2, 2), str(folder), **parts)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty; write model_0000009.pth into .*last_checkpoint.*start anew"),
        (b"  \n", "the file is empty"),
        (b"\xff\xfe\x00\x01", "holds no file name"),
        (b"model\x00.pth", "holds no file name"),
        (b"x" * 5000, "holds no file name"),
        (b"model_0000005.pth", "names model_0000005.pth, which is not there"),
        (b"../elsewhere.pth", "not a file of this folder"),
        (b"/etc/hostname", "not a file of this folder"),
        (b"sub/model.pth", "not a file of this folder"),
        (b"..", "not a file of this folder"),
    ],
)
def test_malformed_tags(tmp_path, content, words):
    run = tmp_path / "run"
    for number in (4, 9):
        checkpointer(run).save(f"model_{number:07d}")
    atomic_save({}, tmp_path / "elsewhere.pth")
    (run / "last_checkpoint").write_bytes(content)
    for way in (lambda: last_checkpoint(run), checkpointer(run).has_checkpoint):
        with pytest.raises(CheckpointError, match=f"last_checkpoint: .*{words}"):
            way()


def test_a_tag_that_is_missing(tmp_path):
    assert last_checkpoint(tmp_path) is None and last_checkpoint(tmp_path / "nowhere") is None
    checkpointer(tmp_path).save("model_0000004")
    (tmp_path / "last_checkpoint").unlink()
    assert last_checkpoint(tmp_path).name == "model_0000004.pth"  # killed before it was written
    checkpointer(tmp_path).save("model_final")
    assert last_checkpoint(tmp_path).name == "model_final.pth"
    (tmp_path / "last_checkpoint").unlink()
    with pytest.raises(
        CheckpointError, match=r"missing, although there are .*model_final.pth.*write model_0000004.pth into"
    ):
        last_checkpoint(tmp_path)
    (tmp_path / "last_checkpoint").mkdir()
    with pytest.raises(CheckpointError, match="not a file"):
        last_checkpoint(tmp_path)


def test_a_final_file_that_was_removed(tmp_path):
    """The run goes on from the newest before it, and writes it again."""
    saver = checkpointer(tmp_path, trainer=State())
    saver.save("model_0000004", iteration=4)
    saver.save("model_final", iteration=4)
    (tmp_path / "model_final.pth").unlink()
    assert saver.get_checkpoint_file().endswith("model_0000004.pth")
    saver.resume_or_load("", resume=True)
    saver.complete(4)
    assert (tmp_path / "model_final.pth").is_file()


@pytest.mark.parametrize(
    "state",
    [
        None,
        5,
        "text",
        [1],
        {},
        {"number": None},
        {"number": "x"},
        {"number": 1, "iteration": "x"},
        {"number": 1, "iteration": -1},
        {"number": 1, "iteration": 1.5},
        {"number": torch.zeros(2), "iteration": None},
    ],
    ids=str,
)
def test_malformed_states(tmp_path, state):
    model = nn.Linear(2, 2)
    atomic_save({"model": model.state_dict(), "trainer": state}, tmp_path / "model_0000004.pth")
    saver = Checkpointer(model, str(tmp_path), trainer=State())
    with pytest.raises(
        CheckpointError, match=r"model_0000004.pth: its 'trainer' can't be resumed.*earlier.*weights"
    ):
        saver.load(str(tmp_path / "model_0000004.pth"))


def test_a_state_that_is_missing(tmp_path):
    atomic_save({"model": nn.Linear(2, 2).state_dict()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x.pth: contains no 'trainer'.*train.init_checkpoint="):
        checkpointer(tmp_path, trainer=State()).load(str(tmp_path / "x.pth"))
    with pytest.raises(CheckpointError, match="not a checkpoint of this model.*train.init_checkpoint"):
        Checkpointer(nn.Linear(3, 2), str(tmp_path), trainer=State()).load(str(tmp_path / "x.pth"))


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (["b", "a"], "their order differs: number 0 is 'a' in the file and 'b' here"),
        (["a", "c"], "their names differ: number 1 is 'b' in the file and 'c' here"),
        (["a"], r"it has 2 \(a, b\), but the model here has 1 \(a\)"),
    ],
)
def test_classes_travel_with_the_weights(tmp_path, here, words):
    checkpointer(tmp_path, classes=Classes(["a", "b"])).save_weights("x")
    path = str(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=f"x.pth: trained with other classes.*{words}"):
        checkpointer("", classes=Classes(here)).load(path, [], complete=True)
    for same in (Classes(["a", "b"]), Classes(), None):
        found = checkpointer("", classes=same).load(path, [], complete=True)
        assert Classes.of(found["classes"]).names == {"names": ["a", "b"]}
    checkpointer("", classes=Classes(here)).load(path, [])  # to train on, they may differ


@pytest.mark.parametrize("stored", [None, 5, [], {"names": 5}, {"names": [1, 2]}, {"names": "ab"}])
def test_classes_that_are_none(stored):
    assert not Classes.of(stored).names


def test_a_damaged_checkpoint_names_an_earlier_one(tmp_path):
    for number in (4, 9):
        checkpointer(tmp_path, trainer=State()).save(f"model_{number:07d}")
    (tmp_path / "model_0000009.pth").write_bytes(b"PK cut")
    with pytest.raises(CheckpointError, match=r"to go on from an earlier one, write model_0000004.pth into"):
        checkpointer(tmp_path, trainer=State()).resume_or_load("", resume=True)
    with pytest.raises(CheckpointError) as error:  # only weights are wanted: nothing is resumed
        checkpointer(tmp_path).load(str(tmp_path / "model_0000009.pth"))
    assert "earlier one" not in str(error.value)
