"""Files of ours notice every changed byte; weights that are no numbers are named."""

import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from itpn_d2 import create_model
from itpn_d2.checkpoint import (
    Checkpointer,
    CheckpointError,
    atomic_save,
    convert,
    load_pretrained,
    load_state_file,
)

MICRO = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2, pos_grid=(4, 4))


def trunk():
    torch.manual_seed(0)
    return create_model("fast_itpn_nano", **MICRO)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A checkpoint of a run, and both formats that a conversion writes."""
    folder = tmp_path_factory.mktemp("written")
    Checkpointer(trunk(), str(folder)).save("run", iteration=3)
    convert(folder / "run.pth", folder / "torch.pth")
    convert(folder / "run.pth", folder / "x.safetensors")
    return folder


FILES = ["run.pth", "torch.pth", "x.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_every_changed_byte_is_noticed(written, tmp_path, name):
    whole = (written / name).read_bytes()
    dice = random.Random(name)
    edges = [*range(0, 260, 3), *range(len(whole) - 200, len(whole))]
    for place in edges + [dice.randrange(len(whole)) for _ in range(60)]:
        changed = bytearray(whole)
        changed[place] ^= 1 << dice.randrange(8)
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(CheckpointError, match=name):
            load_state_file(tmp_path / name)


@pytest.mark.parametrize("name", FILES)
def test_other_readers_do_not_mind(written, name):
    if name.endswith("safetensors"):
        found = load_file(written / name)
        with safe_open(written / name, "pt") as file:
            assert file.metadata()["itpn_d2.digest"].startswith("crc32:")
    else:
        found = torch.load(written / name, weights_only=True)["model"]
        assert torch.load(written / name, weights_only=True, mmap=True)["model"].keys() == found.keys()
    assert all(torch.equal(v, found[k]) for k, v in trunk().state_dict().items())


def test_files_of_others_have_no_digest_and_load(tmp_path):
    torch.save({"model": trunk().state_dict()}, tmp_path / "theirs.pth")
    assert not load_pretrained(trunk(), tmp_path / "theirs.pth").missing


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("wrapped", [True, False])
def test_weights_that_are_no_numbers(tmp_path, value, wrapped):
    state = trunk().state_dict()
    state["stage1.0.mlp.fc1.weight"][2, 3] = value
    state["norm.bias"][0] = value
    atomic_save({"model": state} if wrapped else state, tmp_path / "x.pth")
    model = trunk()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for way in (load_pretrained, lambda m, p: Checkpointer(m).load(str(p), [])):
        with pytest.raises(
            CheckpointError, match=r"x\.pth: 2 tensors .*norm\.bias.*NaN or infinite.*earlier"
        ):
            way(model, tmp_path / "x.pth")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_numbers_beyond_the_models_type(tmp_path):
    state = trunk().state_dict()
    state["norm.bias"][0] = 1e6
    atomic_save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"norm\.bias.*beyond the range of float16.*bfloat16"):
        load_pretrained(trunk().half(), tmp_path / "x.pth")
    assert not load_pretrained(trunk().bfloat16(), tmp_path / "x.pth").missing


@pytest.mark.parametrize("shape", [(0,), (0, 0), (1, 0, 0, 32)])
@pytest.mark.parametrize("name", ["pos_embed", "norm.weight", "stage1.0.mlp.fc1.weight"])
def test_empty_tensors_are_named(tmp_path, name, shape):
    torch.save({**trunk().state_dict(), name: torch.zeros(shape)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"x\.pth: {name} is empty, its shape is \({shape[0]}"):
        load_pretrained(trunk(), tmp_path / "x.pth")


@pytest.mark.parametrize("shape", [(), (2,), (2, 2, 2, 2, 2)])
@pytest.mark.parametrize("name", ["pos_embed", "patch_embed.proj.weight", "merge1.reduction.weight"])
def test_misshapen_tensors_are_named(tmp_path, name, shape):
    torch.save({**trunk().state_dict(), name: torch.zeros(shape)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"x\.pth: .*{name} has a wrong shape"):
        load_pretrained(trunk(), tmp_path / "x.pth")
