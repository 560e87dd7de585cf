"""itpn:// and hf:// through Detectron2's PathManager and through our loaders."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.utils.file_io import PathManager

from itpn_d2 import create_model, model_zoo
from itpn_d2.checkpoint import Checkpointer, convert, create_from_checkpoint, inspect, load_pretrained
from itpn_d2.model_zoo import Weights, ZooError
from itpn_d2.model_zoo.__main__ import main
from itpn_d2.model_zoo.entries import WEIGHTS
from itpn_d2.path_handlers import PREFIXES, WeightsHandler, register_path_handlers

from .hub_server import redirect_client

MICRO = dict(channels=(8, 16, 32), depths=(1, 1, 1), num_heads=2, pos_grid=(4, 4))
OFFICIAL = "fast_itpn_tiny_1600e_1k.pt"


@pytest.fixture
def published(site, monkeypatch):
    """Declare a file of the zoo that the test's server has."""

    def publish(name, body, sha256=None, served=True):
        if served:
            site.files[f"/{name}"] = body
        weights = Weights(name, "a test", "none", f"{site.address}/{name}", sha256)
        monkeypatch.setitem(WEIGHTS, name, weights)
        return f"itpn://{name}"

    return publish


@pytest.fixture
def micro(tmp_path):
    """A small backbone's file, as bytes."""
    torch.manual_seed(3)
    model = create_model("fast_itpn_nano", pyramid=True, fpn_dim=24, **MICRO)
    torch.save({"model": model.state_dict()}, tmp_path / "micro.pth")
    return model, (tmp_path / "micro.pth").read_bytes()


def test_registered_once():
    before = dict(PathManager._path_handlers)
    assert all(isinstance(before[prefix], WeightsHandler) for prefix in PREFIXES)
    register_path_handlers()
    assert all(PathManager._path_handlers[prefix] is handler for prefix, handler in before.items())


@pytest.mark.parametrize(
    "program",
    [
        "from detectron2.utils.file_io import PathManager as P; import itpn_d2; find = P.get_local_path",
        "import itpn_d2.engine; from itpn_d2.checkpoint import local_path as find",
    ],
)
def test_addresses_are_known_whatever_was_imported(program):
    """To a program of Detectron2's that knows of this package only that it is there, too."""
    code = f"{program}; print(find('itpn://fast_itpn_nano'))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("fast_itpn_nano/model.safetensors"), done.stderr


def test_itpn_path_is_fetched_once_verified_and_readable(site, published, cache):
    body = b"weights" * 1000
    path = published("x.pth", body, hashlib.sha256(body).hexdigest())
    local = PathManager.get_local_path(path)
    assert local == str(cache / "x.pth") and Path(local).read_bytes() == body
    with PathManager.open(path, "rb") as file:
        assert file.read(7) == b"weights"
    assert PathManager.isfile(path) and PathManager.exists(path) and len(site.requests) == 1
    with pytest.raises(ZooError, match="only be read"):
        PathManager.open(path, "wb")
    with pytest.raises(ValueError, match="Unused arguments"):
        PathManager.get_local_path(path, colour=1)


def test_a_damaged_file_of_the_cache_is_refused(published, cache):
    path = published("x.pth", b"right", hashlib.sha256(b"right").hexdigest())
    cache.mkdir(parents=True)
    (cache / "x.pth").write_bytes(b"wrong")
    with pytest.raises(ZooError, match="x.pth: sha256 is .* expected.*Remove it"):
        PathManager.get_local_path(path)
    (cache / "x.pth").unlink()
    assert Path(PathManager.get_local_path(path)).read_bytes() == b"right"
    (cache / "x.pth").write_bytes(b"wrong again")  # after it was verified in this process
    with pytest.raises(ZooError, match="expected"):
        PathManager.get_local_path(path)


def test_offline_says_which_file_to_place_where(published, cache):
    digest = hashlib.sha256(b"right").hexdigest()
    path = published("x.pth", b"", digest, served=False)
    with pytest.raises(ZooError) as caught:
        PathManager.get_local_path(path)
    for words in ("404", f"place x.pth (sha256 {digest}) at {cache / 'x.pth'}"):
        assert words in str(caught.value)
    assert not PathManager.exists(path)
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "x.pth").write_bytes(b"right")
    assert PathManager.get_local_path(path) == str(cache / "x.pth")


@pytest.mark.parametrize(
    "name", [OFFICIAL, "Pretrain/distillation_fast_itpn_tiny", "distillation_fast_itpn_tiny"]
)
def test_without_network_a_file_may_be_placed(cache, name):
    with pytest.raises(ZooError) as caught:
        PathManager.get_local_path(f"itpn://{name}")
    for words in ("gdrive://", "https://drive.google.com/file/d/", f"at {cache / OFFICIAL}", "pan.baidu.com"):
        assert words in str(caught.value)
    cache.mkdir(parents=True, exist_ok=True)
    (cache / OFFICIAL).write_bytes(b"x")
    assert PathManager.get_local_path(f"itpn://{name}") == str(cache / OFFICIAL)


def test_a_file_under_one_of_its_other_names(cache):
    cache.mkdir(parents=True)
    (cache / "fast_itpn_base_1600e_1k.pt").write_bytes(b"x")
    found = PathManager.get_local_path("itpn://fast_itpn_base_clipl_e1600.pt")
    assert found == str(cache / "fast_itpn_base_1600e_1k.pt")


def test_weights_in_the_package_need_no_network(cache, monkeypatch, capsys):
    found = [PathManager.get_local_path(f"itpn://fast_itpn_nano{end}") for end in ("", ".safetensors")]
    assert found[0] == found[1] and Path(found[0]).stat().st_size < 8e6
    backbone = create_model("fast_itpn_nano", weights=True, pyramid=True)
    assert backbone.output_shape()["p4"].channels == 128
    assert main(["verify", "--load", "fast_itpn_nano.safetensors"]) == 0
    said = capsys.readouterr().out
    assert found[0] in said and "ITPNBackbone of its sizes takes it" in said
    monkeypatch.setattr("itpn_d2.boxed._FOLDER", cache)
    with pytest.raises(ZooError, match="missing, though it is a part of itpn_d2; install itpn_d2 again"):
        PathManager.get_local_path("itpn://fast_itpn_nano")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fast_itpn_tiny_1600e.pt", "did you mean.*fast_itpn_tiny_1600e_1k.pt"),
        ("mask_rcnn_fast_itpn_tiny_1x", "no published.*Train it"),
        ("../../etc/hostname", "neither a file nor a model"),
    ],
)
def test_a_name_without_weights(name, words):
    with pytest.raises(ZooError, match=words):
        PathManager.get_local_path(f"itpn://{name}")


def test_every_loader_takes_the_path(published, micro, tmp_path):
    source, body = micro
    path = published("micro.pth", body, hashlib.sha256(body).hexdigest())
    wanted = source.state_dict()
    target = create_model("fast_itpn_nano", pyramid=True, fpn_dim=24, **MICRO)
    report = load_pretrained(target, path)
    assert report.source == path and not report.missing
    exact = create_model("fast_itpn_nano", pyramid=True, fpn_dim=24, **MICRO)
    Checkpointer(exact).load(path, checkpointables=[])
    built = create_from_checkpoint(path, num_heads=2)
    zoo = model_zoo.get_backbone("fast_itpn_nano", weights=path, fpn_dim=24, **MICRO)
    assert inspect(path).source == path
    convert(path, tmp_path / "converted.safetensors")
    converted = create_from_checkpoint(tmp_path / "converted.safetensors", num_heads=2)
    for model in (target, exact, built, zoo, converted):
        state = model.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in wanted.items())


HUB_FILE = "/org/repo/resolve/main/folder/model.safetensors"


@pytest.fixture
def hub(site, tmp_path, monkeypatch):
    """The client of the hub talks to the test's server."""
    redirect_client(monkeypatch, site.address, tmp_path / "hub")

    def serve(body, path=HUB_FILE, digest=None):
        site.files[path] = body
        site.headers[path] = {
            "X-Repo-Commit": hashlib.sha1(path.encode()).hexdigest(),
            "X-Linked-Etag": f'"{digest or hashlib.sha256(body).hexdigest()}"',
            "X-Linked-Size": str(len(body)),
        }

    return serve


PATH = "hf://org/repo/folder/model.safetensors"


def test_hub_file(site, hub):
    hub(b"tensors" * 100)
    local = PathManager.get_local_path(PATH)
    assert Path(local).read_bytes() == b"tensors" * 100
    fetched = [r for r in site.requests if r[0] == "GET" and r[1] == HUB_FILE]
    assert Path(PathManager.get_local_path(PATH)).read_bytes() and len(fetched) == 1
    site.files.clear()  # offline from now on: the cache serves
    assert PathManager.exists(PATH)


def test_hub_revision(hub):
    hub(b"old", "/org/repo/resolve/v1.0/model.pth")
    hub(b"pull request", "/org/repo/resolve/refs%2Fpr%2F1/model.pth")
    for path, body in (("@v1.0", b"old"), ("@refs%2Fpr%2F1", b"pull request")):
        assert Path(PathManager.get_local_path(f"hf://org/repo{path}/model.pth")).read_bytes() == body


def test_hub_file_whose_bytes_are_not_those_of_its_digest(hub):
    hub(b"tampered", digest=hashlib.sha256(b"original").hexdigest())
    with pytest.raises(ZooError, match="expected.*Remove it"):
        PathManager.get_local_path(PATH)


def test_hub_offline_says_which_file_to_place_where(site, hub, cache):
    with pytest.raises(ZooError) as caught:
        PathManager.get_local_path(PATH)
    place = cache / "hub" / "org" / "repo" / "folder" / "model.safetensors"
    assert f"place it at {place}" in str(caught.value) and f"{site.address}{HUB_FILE}" in str(caught.value)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"placed")
    assert PathManager.get_local_path(PATH) == str(place)


@pytest.mark.parametrize(
    "path", ["hf://repo", "hf://org/repo", "hf://org/repo@/x", "hf://org/repo/../../x", "hf://org/re po/x"]
)
def test_no_path_of_the_hub(path):
    with pytest.raises(ZooError, match="write hf://organisation"):
        PathManager.get_local_path(path)


def test_weights_of_the_zoo_may_lie_on_the_hub(hub, monkeypatch, cache):
    body = b"tensors"
    hub(body)
    for name, digest in (("right.pth", hashlib.sha256(body).hexdigest()), ("wrong.pth", "0" * 64)):
        monkeypatch.setitem(WEIGHTS, name, Weights(name, "a test", "none", PATH, digest))
    assert Path(PathManager.get_local_path("itpn://right.pth")).read_bytes() == body
    with pytest.raises(ZooError, match=f"expected.*place wrong.pth .* at {cache / 'wrong.pth'}"):
        PathManager.get_local_path("itpn://wrong.pth")


def test_a_file_for_people_alone_has_to_be_placed(cache):
    with pytest.raises(ZooError, match="it has no address.*in a browser: https://pan.*Place it at"):
        PathManager.get_local_path("itpn://itpn_large_clip_21k.pth")
