"""Broken and hostile files: an error that names the file, nothing executed, no memory taken, no half-loaded
model, whatever way the file comes in."""

import io
import os
import pickle
import resource
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from itpn_d2 import create_model
from itpn_d2.checkpoint import (
    Checkpointer,
    CheckpointError,
    convert,
    create_from_checkpoint,
    inspect,
    load_pretrained,
    load_state_file,
)

SIZES = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2, pos_grid=(4, 4))


def trunk():
    torch.manual_seed(0)
    return create_model("fast_itpn_nano", **SIZES)


def refused(path, words=None):
    """Every way in refuses ``path`` by name, and leaves the model and the folder as they are."""
    model = trunk()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    files = sorted(path.parent.iterdir())
    ways = (
        lambda: load_pretrained(model, path),
        lambda: Checkpointer(model).load(str(path), []),
        lambda: create_from_checkpoint(path),
        lambda: convert(path, path.with_name("converted.pth")),
        lambda: inspect(path),
    )
    for way in ways:
        with pytest.raises(CheckpointError, match=words) as caught:
            way()
        assert path.name in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert sorted(path.parent.iterdir()) == files


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A good file in each format."""
    folder = tmp_path_factory.mktemp("whole")
    state = trunk().state_dict()
    torch.save({"model": state}, folder / "zip.pth")
    torch.save({"model": state}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(state, folder / "x.safetensors")
    for path in folder.iterdir():
        assert not load_pretrained(trunk(), path).missing
    return folder


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "x.safetensors"])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999])
def test_truncated(whole, tmp_path, name, share):
    data = (whole / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(share * len(data))])
    refused(path)


def test_one_changed_bit_is_noticed(whole, tmp_path):
    data = bytearray((whole / "zip.pth").read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "flipped.pth"
    path.write_bytes(data)
    refused(path, "checksum")


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(3)],
        "weights",
        7,
        torch.zeros(3),
        {},
        {"model": {}},
        {"model": None},
        {"model": {"trunk.stage3.0.norm1.weight": "text"}},
        {"model": [1, 2]},
        {1: torch.zeros(2), (2, 3): torch.zeros(2)},
    ],
    ids=str,
)
def test_wrong_types(tmp_path, content):
    torch.save(content, tmp_path / "wrong.pth")
    refused(tmp_path / "wrong.pth")


def test_a_file_that_contains_itself_ends(tmp_path):
    content = {"epoch": 1}
    content["module"] = content["model"] = content
    torch.save(content, tmp_path / "self.pth")
    refused(tmp_path / "self.pth", "contains itself")


class Call:
    """Unpickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CALLS = [os.mkdir, eval, exec, print, getattr, pickle.loads, np.load, torch.load]
PLACES = [(os.mkdir, p) for p in ("model", "key", "list", "state")] + [(f, "args") for f in CALLS]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("function", "place"), PLACES)
def test_code_anywhere_is_refused(tmp_path, legacy, function, place):
    trap = tmp_path / "trap"
    text = f"__import__('os').mkdir('{trap}')"
    bad = Call(function, *{os.mkdir: (str(trap),), getattr: (str, "upper")}.get(function, (text,)))
    state = dict(trunk().state_dict())
    content = {
        "model": {"model": bad},
        "args": {"model": state, "args": bad},
        "key": {"model": state, "optimizer": {"state": {0: bad}}},
        "list": {"model": state, "x": [({"y": bad},)]},
        "state": {"model": {**state, "pos_embed": bad}},
    }[place]
    torch.save(content, tmp_path / "bad.pth", _use_new_zipfile_serialization=not legacy)
    model = trunk()
    with pytest.raises(CheckpointError, match=r"bad\.pth.*could run code.*nothing was executed.*safetensors"):
        load_pretrained(model, tmp_path / "bad.pth")
    assert not trap.exists()


def test_a_code_file_by_every_way(tmp_path):
    torch.save({"model": Call(os.mkdir, str(tmp_path / "trap"))}, tmp_path / "bad.pth")
    refused(tmp_path / "bad.pth", "posix.mkdir|os.mkdir")
    assert not (tmp_path / "trap").exists()


def test_a_plain_pickle_is_no_checkpoint(tmp_path):
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(Call(os.mkdir, str(tmp_path / "trap")), 2))
    refused(tmp_path / "bad.pkl")
    assert not (tmp_path / "trap").exists()


def test_numpy_is_not_called(tmp_path):
    """An object array over bytes would be pointers of the file's choice: numpy builds none of it. Arrays of
    numbers become tensors."""
    array = Call(np.ndarray, (1,), np.dtype("O"), bytearray(8))
    content = {"model": trunk().state_dict(), "args": {"x": array, "y": np.ones(3), "z": np.float32(2.5)}}
    torch.save(content, tmp_path / "numpy.pth")
    found = load_state_file(tmp_path / "numpy.pth")["args"]
    assert repr(found["x"]) == "<not read>" and torch.equal(found["y"], torch.ones(3)) and found["z"] == 2.5
    assert not load_pretrained(trunk(), tmp_path / "numpy.pth").missing


def peak():
    """Largest memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rebuilt(source, target, edit=lambda name, data: data, method=zipfile.ZIP_STORED, extra=()):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, edit(entry.filename, old.read(entry)))
        for name, data in extra:
            new.writestr(name, data)


def test_compressed_entries_are_refused_before_they_grow(tmp_path):
    big = 1 << 30
    torch.save({"model": {"pos_embed": torch.zeros(8)}}, tmp_path / "small.pth")
    path = tmp_path / "bomb.pth"
    with (
        zipfile.ZipFile(tmp_path / "small.pth") as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            if entry.filename.endswith("data/0"):
                with new.open(entry.filename, "w", force_zip64=True) as out:
                    for _ in range(big >> 24):
                        out.write(bytes(1 << 24))
            else:
                new.writestr(entry.filename, old.read(entry))
    (tmp_path / "small.pth").unlink()
    assert path.stat().st_size < 1 << 22
    before = peak()
    refused(path, "compressed")
    assert peak() - before < 1 << 27


def test_nested_archives_are_named(whole, tmp_path):
    with zipfile.ZipFile(tmp_path / "outer.pth", "w") as outer:
        outer.write(whole / "zip.pth", "inner.pth")
    refused(tmp_path / "outer.pth", r"inner\.pth.*unpack it")
    rebuilt(whole / "zip.pth", tmp_path / "double.pth", extra=[("other/data.pkl", b"\x80\x02}.")])
    refused(tmp_path / "double.pth", "not one of torch")


def test_overlapping_entries_are_refused(whole, tmp_path):
    """Many names for the same bytes: the directory claims more than the file has."""
    data = (whole / "zip.pth").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        largest = max(archive.infolist(), key=lambda e: e.file_size)
    path = tmp_path / "overlap.pth"
    path.write_bytes(data)
    archive = zipfile.ZipFile(path, "a")
    for number in range(64):
        copy = zipfile.ZipInfo(largest.filename[: -len(str(number))] + str(number))
        for field in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
            setattr(copy, field, getattr(largest, field))
        archive.filelist.append(copy)
    archive._didModify = True
    archive.close()
    refused(path, "they overlap")


def declares(count, edited):
    """An edit of ``data.pkl`` that changes the number of elements of the only storage, 1000 of them."""

    def edit(name, data):
        if not name.endswith("data.pkl"):
            return data
        old = b"M\xe8\x03tq"
        assert data.count(old) == 1
        edited.append(name)
        return data.replace(old, b"J" + count.to_bytes(4, "little") + b"tq")

    return edit


@pytest.mark.parametrize("count", [1001, 1100, 60_000, 2**31 - 1])
def test_storages_larger_than_their_entry_are_refused(tmp_path, count):
    """A little more would read the neighbours' bytes as weights, much more would take memory."""
    torch.save({"model": {"x": torch.arange(1000.0)}}, tmp_path / "good.pth")
    edited = []
    rebuilt(tmp_path / "good.pth", tmp_path / "bomb.pth", declares(count, edited))
    assert edited
    before = peak()
    refused(tmp_path / "bomb.pth")
    assert peak() - before < 1 << 27


def test_sizes_of_the_old_format_are_refused(tmp_path):
    torch.save(
        {"model": {"x": torch.arange(1000.0)}}, tmp_path / "good.pth", _use_new_zipfile_serialization=False
    )
    data = (tmp_path / "good.pth").read_bytes()
    for count in (2000, 2**31 - 1):
        changed = data.replace(b"M\xe8\x03Nt", b"J" + count.to_bytes(4, "little") + b"Nt")
        assert changed != data
        (tmp_path / "bomb.pth").write_bytes(changed)
        before = peak()
        refused(tmp_path / "bomb.pth")
        assert peak() - before < 1 << 27


@pytest.mark.parametrize("many", [False, True])
def test_broadcast_tensors_are_refused(tmp_path, many):
    """Four bytes that claim to be 4 TB, at once or in many tensors."""
    one = torch.zeros(1)
    state = {f"x{i}": one.expand(1 << 20) for i in range(1000)} if many else {"x": one.expand(1 << 40)}
    torch.save({"model": state}, tmp_path / "bomb.pth")
    before = peak()
    refused(tmp_path / "bomb.pth", "views of a few numbers")
    assert peak() - before < 1 << 27


@pytest.mark.parametrize("kind", ["sparse", "meta", "complex", "quantized"])
def test_tensors_that_are_no_weights(tmp_path, kind):
    state = dict(trunk().state_dict())
    table = state["pos_embed"]
    state["pos_embed"] = {
        "sparse": lambda: table.to_sparse(),
        "meta": lambda: table.to("meta"),
        "complex": lambda: table.to(torch.complex64),
        "quantized": lambda: torch.quantize_per_tensor(table, 0.1, 0, torch.qint8),
    }[kind]()
    torch.save({"model": state}, tmp_path / "odd.pth")
    refused(tmp_path / "odd.pth", f"pos_embed (is|has).*({kind}|no data)")


@pytest.mark.parametrize("shape", [(), (3,), (1, 16), (2, 2, 2, 2, 2)])
@pytest.mark.parametrize("name", ["pos_embed", "blocks.1.reduction.weight", "blocks.0.mlp.fc1.weight"])
def test_official_names_with_shapes_of_something_else(tmp_path, shape, name):
    from itpn_d2.checkpoint import from_native

    state = from_native(trunk().state_dict())
    assert name in state
    state[name] = torch.zeros(shape)
    torch.save(state, tmp_path / "odd.pth")
    model = trunk()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"odd\.pth"):
        load_pretrained(model, tmp_path / "odd.pth")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_integers_in_the_place_of_weights(tmp_path):
    state = dict(trunk().state_dict())
    state["norm.weight"] = torch.ones(32, dtype=torch.int64)
    torch.save(state, tmp_path / "odd.pth")
    model = trunk()
    model.norm.weight.data.fill_(3)
    for way in (load_pretrained, lambda m, p: Checkpointer(m).load(str(p), [])):
        with pytest.raises(CheckpointError, match=r"norm\.weight: file \(32,\) of int64, model \(32,\)"):
            way(model, tmp_path / "odd.pth")
        assert (model.norm.weight == 3).all()


@pytest.mark.parametrize("kind", ["resnet", "clip", "swin in part", "renamed", "half a trunk"])
def test_keys_of_another_model(tmp_path, kind):
    state = {
        "resnet": {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.bn1.running_mean": torch.zeros(64)},
        "clip": {
            "visual.conv1.weight": torch.zeros(8, 3, 16, 16),
            "positional_embedding": torch.zeros(77, 8),
        },
        "swin in part": {"layers.0.blocks.0.attn.qkv.weight": torch.zeros(24, 8)},
        "renamed": {f"net.{k.replace('stage', 'step')}": v for k, v in trunk().state_dict().items()},
        "half a trunk": {k: v for k, v in trunk().state_dict().items() if k.startswith("stage3")},
    }[kind]
    torch.save({"state_dict": state}, tmp_path / "other.pth")
    model = trunk()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for way in (load_pretrained, lambda m, p: create_from_checkpoint(p)):
        with pytest.raises(CheckpointError, match=r"other\.pth"):
            way(model, tmp_path / "other.pth")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    "header", [b"\xff" * 8, (1 << 40).to_bytes(8, "little"), (2).to_bytes(8, "little") + b"{}"]
)
def test_safetensors_headers(tmp_path, header):
    (tmp_path / "bad.safetensors").write_bytes(header)
    refused(tmp_path / "bad.safetensors")


def test_safetensors_metadata_is_data(tmp_path):
    for text in ("not json", "[1]", '{"pretraining": "text"}', '{"model": {}}'):
        save_file(trunk().state_dict(), tmp_path / "x.safetensors", {"itpn_d2": text})
        if text == "not json":
            refused(tmp_path / "x.safetensors", "not a complete")
        else:
            assert not load_pretrained(trunk(), tmp_path / "x.safetensors").missing
