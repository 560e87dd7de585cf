"""Folders of shards, as a process writes and reads them; tests/engine/test_shards_of_runs.py has several."""

import os
import pickle
import resource
import shutil
import signal
import zipfile

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from itpn_d2.checkpoint import Checkpointer, CheckpointError, atomic_save, last_checkpoint, load_state_file
from itpn_d2.checkpoint.resume import stored_iteration
from itpn_d2.checkpoint.shard_files import CONTENTS, load_rest, load_shards
from itpn_d2.errors import OutputError


@pytest.fixture(scope="module")
def mesh():
    """A group of this process alone, whose shards are the whole."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


class Part:
    """A checkpointable with everything that one may hold."""

    def __init__(self, model):
        self.model = model
        self.step, self.best = torch.tensor(3.0), [1.5, None]

    def state_dict(self):
        moments = {0: {"step": self.step, "exp_avg": next(self.model.parameters()).detach() * 2}}
        return {
            "iteration": 4,
            "optimizer": {"state": moments},
            "hooks": {"best": self.best},
            "pair": (1, "x"),
        }

    def like(self):
        return {"optimizer": {"state": {0: next(self.model.parameters())}}}

    def load_state_dict(self, state):
        self.loaded = state


def made(mesh, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 5))
    model.register_buffer("columns", torch.randn(2, 5).t())  # not in a row
    model.register_buffer("short", torch.randn(3).bfloat16())
    if mesh is not None:
        fully_shard(model, mesh=mesh)
    return model


def saver(model, folder, **options):
    return Checkpointer(model, str(folder), sharded=True, trainer=Part(model), **options)


def numbers(model):
    return {
        k: (v.full_tensor() if isinstance(v, DTensor) else v).clone() for k, v in model.state_dict().items()
    }


@pytest.fixture
def written(mesh, tmp_path):
    """A folder, and the weights in it."""
    model = made(mesh)
    checkpointer = saver(model, tmp_path)
    checkpointer.save("model_0000004", iteration=4)
    checkpointer.wait()
    return tmp_path / "model_0000004.dcp", numbers(model)


def same(found, weights):
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_it_holds_what_was_there_when_it_was_begun(mesh, tmp_path):
    model = made(mesh)
    checkpointer = saver(model, tmp_path)
    before, part = numbers(model), checkpointer.checkpointables["trainer"]
    checkpointer.save("model_0000004", iteration=4)
    assert last_checkpoint(tmp_path) is None  # nothing is named before all is written
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            value.add_(1)
    part.step += 1
    part.best.append(2)
    checkpointer.wait()
    assert last_checkpoint(tmp_path) == tmp_path / "model_0000004.dcp"
    content = load_state_file(tmp_path / "model_0000004.dcp")
    same(content["model"], before)
    assert content["iteration"] == 4 == stored_iteration(tmp_path / "model_0000004.dcp")
    assert content["trainer"]["hooks"] == {"best": [1.5, None]} and content["trainer"]["pair"] == (1, "x")
    moments = content["trainer"]["optimizer"]["state"][0]
    assert moments["step"] == 3 and moments["exp_avg"] is None  # which weights alone don't need


@pytest.mark.parametrize("sharded", [True, False])
def test_resuming(mesh, written, sharded):
    folder, weights = written
    model = made(mesh if sharded else None, seed=1)
    part = Part(model)
    other = Checkpointer(model, str(folder.parent), trainer=part)
    assert other.resume_or_load("", resume=True) == {"iteration": 4}
    same(numbers(model), weights)
    moments = part.loaded["optimizer"]["state"][0]["exp_avg"]
    assert isinstance(moments, DTensor) == sharded
    assert torch.equal(moments.full_tensor() if sharded else moments, weights["0.weight"] * 2)


def test_weights_to_start_from(written):
    folder, weights = written
    model = made(None, seed=1)
    Checkpointer(model).load(str(folder), [], complete=True)
    same(model.state_dict(), weights)


def test_torch_reads_it_too(written, tmp_path):
    folder, weights = written
    dcp_to_torch_save(folder, tmp_path / "whole.pth")
    found = load_state_file(tmp_path / "whole.pth")
    assert all(torch.equal(found[f"model.{name}"], value) for name, value in weights.items())


def test_twice_in_an_iteration(mesh, tmp_path):
    """A metric that was measured in between is in it."""
    checkpointer = saver(made(mesh), tmp_path)
    part = checkpointer.checkpointables["trainer"]
    for wait in (checkpointer.poll, checkpointer.wait, checkpointer.wait):
        part.best.append("new")
        checkpointer.save("model_0000004", iteration=4)
        wait()
    assert load_rest(tmp_path / "model_0000004.dcp")["trainer"]["hooks"]["best"] == part.best


def test_a_few_are_kept(mesh, tmp_path):
    whole = Checkpointer(made(None), str(tmp_path), max_to_keep=2, trainer=Part(made(None)))
    whole.save("model_0000001")
    checkpointer = saver(made(mesh), tmp_path, max_to_keep=2)
    for number in (3, 5, 7):
        checkpointer.save(f"model_{number:07d}")
    checkpointer.save("model_final")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model_0000005.dcp", "model_0000007.dcp", "model_final.pth", "last_checkpoint"}
    assert last_checkpoint(tmp_path).name == "model_final.pth"
    whole.save("model_0000009")
    assert {p.name for p in tmp_path.glob("model_0*")} == {"model_0000007.dcp", "model_0000009.pth"}


def test_one_that_was_not_finished(mesh, written):
    folder, _ = written
    partial = folder.parent / ".model_0000009.elsewhere.77.partial.dcp"
    shutil.copytree(folder, partial)
    assert last_checkpoint(folder.parent) == folder
    (folder.parent / "last_checkpoint").unlink()
    assert last_checkpoint(folder.parent) == folder
    checkpointer = saver(made(mesh, 1), folder.parent)
    checkpointer.save("model_0000004")  # in the place of the one that is there
    checkpointer.wait()
    assert not partial.exists() and load_state_file(folder)["model"]


def test_a_disk_that_takes_no_more(mesh, tmp_path):
    checkpointer = saver(made(mesh), tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        checkpointer.save("model_0000004")
        with pytest.raises(OutputError, match=r"model_0000004.dcp: can't be written"):
            checkpointer.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not [*tmp_path.iterdir()]
    checkpointer.save("model_0000004")
    checkpointer.wait()
    assert last_checkpoint(tmp_path).name == "model_0000004.dcp"


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_nothing_in_it_is_executed(written, tmp_path):
    folder, weights = written
    marker = tmp_path / "executed"
    bomb = pickle.dumps(Bomb(marker))
    (folder / ".metadata").write_bytes(bomb)
    same(load_state_file(folder)["model"], weights)
    shards = folder / "__0_0.distcp"
    whole = shards.read_bytes()
    with zipfile.ZipFile(shards, "w") as archive:
        archive.writestr("archive/data.pkl", bomb)
        archive.writestr("archive/data/0", whole)
    with pytest.raises(CheckpointError, match=r"__0_0.distcp: damaged|damaged \("):
        load_state_file(folder)
    shards.write_bytes(whole)
    (folder / CONTENTS).write_bytes(bomb)
    with pytest.raises(CheckpointError, match="nothing was executed"):
        load_state_file(folder)
    (folder / CONTENTS).unlink()
    with pytest.raises(CheckpointError, match=r"contents.pth is missing.*dcp_to_torch"):
        load_state_file(folder)
    assert not marker.exists()


def changed(key, change):
    def way(content):
        content[key] = change(content[key])

    return way


def with_number(position, value):
    """Of the first tensor: kind, dimensions, pieces, shape; then of its piece: file, start, bytes, ..."""

    def change(table):
        table = table.clone()
        table[position] = value
        return table

    return changed("table", change)


@pytest.mark.parametrize(
    ("way", "words"),
    [
        (changed("files", lambda files: ["../../elsewhere.distcp"]), "not a shard file"),
        (changed("files", lambda files: ["/etc/passwd"]), "not a shard file"),
        (changed("files", lambda files: []), "damaged"),
        (changed("files", lambda files: 5), "damaged"),
        (changed("kinds", lambda kinds: ["nonsense"] * len(kinds)), "damaged"),
        (changed("kinds", lambda kinds: ["float64"] * len(kinds)), "damaged"),
        (changed("tensors", lambda names: ["nonsense", *names[1:]]), "damaged"),
        (changed("tensors", lambda names: [names[1], *names[1:]]), "listed twice"),
        (with_number(0, 77), "damaged"),
        (with_number(1, 1 << 40), "too short"),
        (with_number(2, 0), "damaged"),
        (with_number(2, 1 << 40), "damaged"),
        (with_number(3, 1 << 40), "numbers of"),
        (with_number(3, 1), "beyond its end|numbers of"),
        (changed("table", lambda table: table[:3]), "damaged"),
        (changed("table", lambda table: table.float()), "table is not a vector"),
        (changed("table", lambda table: -table), "can.t be sizes"),
        (changed("table", lambda table: table * (1 << 20)), "damaged"),
        (changed("tensors", lambda tensors: None), "damaged"),
        (changed("rest", lambda rest: None), "damaged"),
        (lambda content: content.clear(), "damaged"),
    ],
)
def test_contents_that_are_none(written, way, words):
    folder, _ = written
    content = load_state_file(folder / CONTENTS)
    way(content)
    atomic_save(content, folder / CONTENTS)
    with pytest.raises(CheckpointError, match=rf"model_0000004.dcp/.*({words})"):
        load_shards(folder)


@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_damaged_shards(mesh, written, damage):
    folder, weights = written
    path = folder / "__0_0.distcp"
    raw = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(raw[: len(raw) // 2])
    else:
        raw[raw.index(weights["0.bias"].numpy().tobytes())] ^= 1
        path.write_bytes(raw)
    shutil.copytree(folder, folder.parent / "model_0000002.dcp")
    with pytest.raises(CheckpointError, match=r"model_0000004.dcp/.*damaged.*write model_0000002.dcp into"):
        saver(made(mesh), folder.parent).resume_or_load("", resume=True)
