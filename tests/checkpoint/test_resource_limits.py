"""Files of a few bytes that ask for gigabytes or hours: refused by name within a second, whatever format they
come in. The patterns vary with seeds."""

import io
import pickle
import random
import resource
import struct
import time
import zipfile

import pytest
import torch

from itpn_d2 import create_model
from itpn_d2.checkpoint import (
    CheckpointError,
    architecture,
    create_from_checkpoint,
    inspect,
    load_pretrained,
    load_state_file,
)

MICRO = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2, pos_grid=(4, 4))
SECONDS, BYTES = 2.0, 200 << 20  # a second, with room for a busy machine


def raw(data, path):
    path.write_bytes(data)


def zipped(data, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")


def legacy(data, path):
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "type_sizes": {}})
    path.write_bytes(b"".join(pickle.dumps(v, 2) for v in head) + data + pickle.dumps([], 2))


FORMATS = {"raw": raw, "zip": zipped, "legacy": legacy}


def call(module, name):
    return f"c{module}\n{name}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def nested(levels, kinds):
    """A tuple of twice the same, of twice the same, ...; each level by one of several opcodes."""
    return text("lol") + b"".join(
        kinds.choice((b"2\x86", b"q\x01h\x01\x86", b"22\x87")) for _ in range(levels)
    )


def doubled_text(levels, kinds):
    cls = kinds.choice(("PurePosixPath", "PosixPath", "PureWindowsPath", "Path"))
    step = b"q\x00" + call("pathlib", cls) + b"h\x00h\x00\x86R"
    return text("a" * kinds.randint(1, 20)) + step * levels


def copies(levels, kinds):
    """A function that copies its argument, called on the same one again and again."""
    items = b"](" + b"(K\x01K\x02t" * 5000 + b"e"
    name = kinds.choice((("collections", "OrderedDict"), ("builtins", "set"), ("torch", "Size")))
    return call(*name) + b"q\x00" + items + b"\x85q\x01" + b"h\x00h\x01R" * (1000 * levels) + b"(l"


def encoded(levels, kinds):
    return call("_codecs", "encode") + b"q\x00" + text("a" * 100_000) + b"\x85q\x01" + b"h\x00h\x01R" * 5000


BOMBS = {
    "nested tuples": lambda n, k: nested(n, k),
    "as a key": lambda n, k: b"}" + nested(n, k) + b"K\x01s",
    "as a part of a key": lambda n, k: b"}" + nested(n, k) + b"\x85K\x01s",
    "in a set": lambda n, k: b"\x8f(" + nested(n, k) + b"\x90",
    "in a frozenset": lambda n, k: b"(" + nested(n, k) + b"\x91",
    "in a called set": lambda n, k: call("builtins", "set") + b"]" + nested(n, k) + b"a\x85R",
    "as a name": lambda n, k: nested(n, k) + text("x") + b"\x93",
    "as a path": lambda n, k: call("pathlib", "PosixPath") + nested(n, k) + b"\x85R",
    "as a shape": lambda n, k: call("torch", "Size") + nested(n, k) + b"\x85R",
    "as an array": lambda n, k: call("numpy.core.multiarray", "_reconstruct") + b")R" + nested(n, k) + b"b",
    "as a dtype": lambda n, k: call("numpy", "dtype") + nested(n, k) + b"\x85R",
    "doubled text": doubled_text,
    "copies": copies,
    "encoded": encoded,
    "many dicts": lambda n, k: b"(" + b"}" * (n * 50_000) + b"l",
    "many names": lambda n, k: b"}" + b"\x94" * (n * 50_000),
    "many copies of a name": lambda n, k: b"(}" + b"2" * (n * 50_000) + b"l",
    "marks": lambda n, k: b"(" * (n * 20_000),
    "deep lists": lambda n, k: b"]" * (n * 2000) + b"a" * (n * 2000 - 1),
    "deep tuples": lambda n, k: b")" + b"\x85" * (n * 2000),
    "deep dicts": lambda n, k: b"}" + b"K\x01}" * (n * 500) + b"s" * (n * 500),
    "deep calls": lambda n, k: (
        call("torch._tensor", "_rebuild_from_type_v2") * (n * 100) + b")" + b"N\x86" * n + b"R"
    ),
    "a large integer": lambda n, k: b"\x8b" + struct.pack("<i", n << 14) + b"\x7f" * (n << 14),
    "a large decimal": lambda n, k: b"L" + b"9" * (n * 10_000) + b"L\n",
    "claimed integer": lambda n, k: b"\x8b" + struct.pack("<i", 2**31 - k.randint(1, 99)),
    "claimed bytes": lambda n, k: b"B" + struct.pack("<I", 2**32 - k.randint(1, 99)),
    "claimed bytes, 8": lambda n, k: b"\x8e" + struct.pack("<Q", 1 << k.randint(33, 63)),
    "claimed text, 8": lambda n, k: b"\x8d" + struct.pack("<Q", 1 << k.randint(33, 63)),
    "claimed array, 8": lambda n, k: b"\x96" + struct.pack("<Q", 1 << k.randint(33, 62)),
    "claimed frame": lambda n, k: b"\x95" + struct.pack("<Q", 1 << k.randint(33, 62)),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs(tmp_path, bomb, form):
    kinds = random.Random(f"{bomb} {form}")
    path = tmp_path / "bomb.pth"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for levels in (kinds.randint(30, 45), kinds.randint(55, 70)):
        FORMATS[form](b"\x80\x04" + BOMBS[bomb](levels, kinds) + b".", path)
        started = time.process_time()
        with pytest.raises(CheckpointError, match=r"bomb\.pth"):
            load_state_file(path)
        assert time.process_time() - started < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < BYTES


def test_random_opcodes_end_by_name(tmp_path):
    """Any bytes: an error that names the file, or a dict."""
    dice = random.Random(7)
    codes = [bytes([code]) for code in range(256)]
    useful = [
        b"K\x01",
        b"(",
        b"]",
        b"}",
        b"2",
        b"\x86",
        b"a",
        b"s",
        b"e",
        b"u",
        b"t",
        b"R",
        b"b",
        b"\x94",
        b"0",
    ]
    for round in range(400):
        body = b"".join(
            dice.choice(useful if dice.random() < 0.9 else codes) for _ in range(dice.randint(1, 300))
        )
        form = dice.choice(list(FORMATS))
        FORMATS[form](b"\x80\x04" + body + b".", tmp_path / "x.pth")
        try:
            assert isinstance(load_state_file(tmp_path / "x.pth"), dict), round
        except CheckpointError as error:
            assert "x.pth" in str(error)


def view(storage, offset, size, stride):
    """A tensor as torch.save writes it."""
    persistent = b"(" + text("storage") + call("torch", "FloatStorage") + text("0") + text("cpu")
    persistent += b"\x8a\x08" + struct.pack("<q", storage) + b"tQ"

    def numbers(values):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", v) for v in values) + b"t"

    function = call("torch._utils", "_rebuild_tensor_v2")
    hooks = call("collections", "OrderedDict") + b")R"
    return (
        function
        + b"("
        + persistent
        + numbers([offset])[1:-1]
        + numbers(size)
        + numbers(stride)
        + b"\x89"
        + hooks
        + b"tR"
    )


@pytest.mark.parametrize(
    ("storage", "offset", "size", "stride"),
    [
        (16, 0, (1 << 40,), (1,)),
        (16, 0, (4, 4), (1 << 40, 1)),
        (16, 1 << 50, (4,), (1,)),
        (16, -4, (4,), (1,)),
        (16, 0, (-4,), (1,)),
        (16, 0, (4,), (-1,)),
        (16, 0, (1 << 31, 1 << 31, 1 << 31), (0, 0, 0)),
        (16, 0, (1,) * 70, (1,) * 70),
        (16, 0, (4, 4), (4,)),
        (1 << 40, 0, (4,), (1,)),
        (-1, 0, (4,), (1,)),
        (17, 0, (4,), (1,)),
        (16, 13, (2, 2), (2, 1)),
    ],
)
def test_sizes_and_strides(tmp_path, storage, offset, size, stride):
    pickled = (
        b"\x80\x02}" + text("model") + b"}" + text("x.weight") + view(storage, offset, size, stride) + b"ss."
    )
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", bytes(64))
    started = time.process_time()
    with pytest.raises(CheckpointError, match=r"x\.pth"):
        load_state_file(tmp_path / "x.pth")
    assert time.process_time() - started < SECONDS


def test_what_torch_writes_is_read_as_torch_reads_it(tmp_path):
    """Types, strides, offsets, ties, parameters, both formats."""
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool)
    content = {
        "model": {
            "a": base,
            "transposed": base.t(),
            "part": base[2:5, 1:],
            "parameter": torch.nn.Parameter(base * 2),
            "scalar": torch.tensor(3.5),
            "nothing": torch.zeros(0, 4, dtype=torch.int64),
            **{str(kind): (base * 9).to(kind) for kind in kinds},
        },
        "epoch": 3,
        "betas": (0.9, 0.999),
        "names": ["x", None, True, b"raw", 1 << 70, -5, 1e300],
    }
    for old in (False, True):
        torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not old)
        found = load_state_file(tmp_path / "x.pth")
        assert {k: v for k, v in found.items() if k != "model"} == {
            k: v for k, v in content.items() if k != "model"
        }
        for name, value in content["model"].items():
            read = found["model"][name]
            assert read.dtype == value.dtype and read.shape == value.shape and torch.equal(read, value), name
            assert read.stride() == value.stride() and not read.requires_grad
        found["model"]["a"].fill_(0)  # ties stay, and the file does not change
        assert found["model"]["part"].abs().sum() == 0
        assert torch.equal(load_state_file(tmp_path / "x.pth")["model"]["a"], base)


@pytest.mark.parametrize("number", ["1000000000", "99999", "1" * 4000])
@pytest.mark.parametrize(
    "place", ["stage3.{}", "trunk.stage1.{}", "blocks.{}", "transformer.decoder.layers.{}"]
)
def test_names_that_count_far(tmp_path, place, number):
    state = {**create_model("fast_itpn_nano", **MICRO).state_dict()}
    state[f"{place.format(number)}.norm1.weight"] = torch.ones(32)
    torch.save({"model": state}, tmp_path / "far.pth")
    started = time.process_time()
    for way in (
        create_from_checkpoint,
        inspect,
        lambda p: load_pretrained(create_model("fast_itpn_nano", **MICRO), p),
    ):
        with pytest.raises(CheckpointError, match=r"far\.pth"):
            way(tmp_path / "far.pth")
    assert time.process_time() - started < 5
    with pytest.raises(CheckpointError, match="block 2 of .*stage3.* is missing"):
        whole = {f"trunk.{k}": v for k, v in create_model("fast_itpn_nano", **MICRO).state_dict().items()}
        architecture({**whole, f"trunk.stage3.{10**9}.norm1.weight": torch.ones(32)})


def test_a_large_file_is_read_quickly(tmp_path):
    """300 tensors of 64 MB in all, most of the time for the checksum."""
    state = {f"stage3.{i}.w": torch.zeros(224, 256) for i in range(300)}
    torch.save(
        {"model": state, "optimizer": {"state": {i: {"m": v, "v": v} for i, v in enumerate(state.values())}}},
        tmp_path / "large.pth",
    )
    started = time.process_time()
    found = load_state_file(tmp_path / "large.pth")
    assert time.process_time() - started < SECONDS and len(found["model"]) == 300
    buffer = io.BytesIO()
    torch.save(found, buffer)
    assert buffer.tell() > 60 << 20
