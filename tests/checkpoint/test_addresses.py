"""Whatever is given as a file: a local file, or one kind of error that names the address and the reason."""

import os
import socket
import time
from pathlib import Path

import pytest
from detectron2.utils.file_io import PathManager

from itpn_d2.checkpoint import CheckpointError, load_pretrained, load_state_file, local_path
from itpn_d2.checkpoint.shared_links import behind_the_page, hub_repository


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://", "no host"),
        ("https://", "no host"),
        ("http:///x.pth", "no host"),
        ("http://[::1", "Invalid IPv6"),
        ("http://[zz]/x", "not an address"),
        ("https://exa mple/x", "space"),
        ("https://exa\tmple/x", "space or a control"),
        ("http://localhost:port/x", "port is no number"),
        ("http://localhost:99999/x", "port is no number"),
        ("http://" + "a" * 70 + ".org/x", "not an address"),
        ("http://a..b/x", "not an address"),
        ("http://127.0.0.1:1/x.pth", "refused"),
        ("HTTP://127.0.0.1:1/x.pth", "refused"),
        ("http://user:secret@127.0.0.1:1/x.pth", "refused"),
        ("http://127.0.0.1:1/x.pth?token=secret&a=secret", "refused"),
        ("http://user:se/cret@127.0.0.1/x.pth", "port is no number"),
        ("ftp://127.0.0.1/x", "addresses with ftp"),
        ("gopher://x/y", "addresses with gopher"),
        ("s3://bucket/x", "addresses with s3"),
        ("://x", "no such file"),
        ("catalog://x", "no such model"),
        ("file://elsewhere/x.pth", "another machine"),
        ("file:///nowhere/x.pth", "no such file"),
        ("", "can't be read|folder"),
        (".", "folder"),
        ("/dev/null", "device"),
        ("x" * 5000, "too long"),
        ("/" + "/".join(["x" * 200] * 30), "too long"),
        ("a\0b", "null"),
        ("nowhere.pth", "no such file"),
    ],
)
def test_odd_addresses(address, words):
    with pytest.raises(CheckpointError, match=f"(?i){words}") as caught:
        load_state_file(local_path(address))
    assert "secret" not in str(caught.value) and len(str(caught.value)) < 1000
    with pytest.raises(CheckpointError):
        load_pretrained(None, address)


DRIVE, HUB, GITHUB = "https://drive.google.com", "https://huggingface.co", "https://github.com"


@pytest.mark.parametrize(
    ("copied", "file"),
    [
        (f"{DRIVE}/file/d/1aB-c_D/view?usp=sharing", "gdrive://1aB-c_D"),
        (f"{DRIVE}/file/u/1/d/1aB-c_D/edit", "gdrive://1aB-c_D"),
        (f"{DRIVE}/file/d/1aB-c_D", "gdrive://1aB-c_D"),
        (f"{DRIVE}/open?id=1aB-c_D&authuser=0", "gdrive://1aB-c_D"),
        (f"{DRIVE}/uc?export=download&id=1aB-c_D", "gdrive://1aB-c_D"),
        ("https://drive.usercontent.google.com/download?id=1aB-c_D&confirm=t", "gdrive://1aB-c_D"),
        (f"{HUB}/org/name/blob/main/a/model%20b.safetensors", "hf://org/name@main/a/model b.safetensors"),
        ("https://hf.co/org/name/blob/refs%2Fpr%2F1/x.pth", "hf://org/name@refs%2Fpr%2F1/x.pth"),
        (f"{GITHUB}/owner/name/blob/main/weights/x.pth", f"{GITHUB}/owner/name/raw/main/weights/x.pth"),
        (
            "https://www.dropbox.com/s/abc/x.pth?rlkey=1&dl=0",
            "https://www.dropbox.com/s/abc/x.pth?rlkey=1&dl=1",
        ),
    ],
)
def test_links_copied_from_a_browser(copied, file):
    assert behind_the_page(copied) == file


@pytest.mark.parametrize(
    "address",
    [
        f"{DRIVE}/drive/folders/abc",
        f"{HUB}/datasets/org/name/blob/main/x.parquet",
        f"{HUB}/org/name",
        f"{HUB}/org/name/resolve/v1/model.safetensors?download=true",
        f"{GITHUB}/owner/name/releases/download/v1/x.pth",
        "https://www.dropbox.com/s/abc/x.pth?dl=1",
        "https://example.org/file/d/abc/blob/x.pth?id=5",
    ],
)
def test_other_addresses_stay(address):
    assert behind_the_page(address) == address


@pytest.mark.parametrize(
    ("copied", "repository"),
    [
        (f"{HUB}/org/name", "org/name"),
        (f"{HUB}/org/name/", "org/name"),
        (f"{HUB}/org/name/tree/v1.0?x=1", "org/name@v1.0"),
        ("hf://org/name@v2", "org/name@v2"),
        ("org/name@v2", "org/name@v2"),
        ("a/folder/of/mine", "a/folder/of/mine"),
        (f"{HUB}/org/name/blob/main/x.pth", f"{HUB}/org/name/blob/main/x.pth"),
    ],
)
def test_links_of_repositories(copied, repository):
    assert hub_repository(copied) == repository


def test_a_copied_link_is_fetched_as_its_file(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(PathManager, "get_local_path", lambda a: asked.append(a) or str(tmp_path / "x"))
    assert local_path(f"{DRIVE}/file/d/1aB-c_D/view") == str(tmp_path / "x")
    assert asked == ["gdrive://1aB-c_D"]


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>", b"\xef\xbb\xbf\n <HTML lang='en'>"])
def test_a_page_is_not_kept_as_a_file(site, page):
    site.files["/x.safetensors"] = page
    with pytest.raises(CheckpointError, match="the server sent a web page instead of the file"):
        local_path(f"{site.address}/x.safetensors")
    site.files["/x.safetensors"] = b"weights"
    assert Path(local_path(f"{site.address}/x.safetensors")).read_bytes() == b"weights"


@pytest.mark.parametrize("what", [5, None, 1.5, [], b"x"])
def test_what_is_no_name(what):
    with pytest.raises(CheckpointError, match="not the name of a file"):
        local_path(what)


def test_a_host_that_is_not_known(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for address in (
        "https://host.invalid/x.pth",
        "detectron2://ImageNetPretrained/MSRA/R-50.pkl",
        "catalog://ImageNetPretrained/MSRA/R-50",
    ):
        with pytest.raises(CheckpointError, match="can't be fetched .*not known.*download the file"):
            local_path(address)


def test_a_server_that_never_answers(monkeypatch):
    from itpn_d2 import download

    monkeypatch.setattr(download.download, "__defaults__", (None, 4, 0.2, 0.0))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(CheckpointError, match="timed out"):
            local_path(f"http://127.0.0.1:{silent.getsockname()[1]}/x.pth")


def test_a_file_is_fetched_once_for_detectron2_too(site, cache):
    site.files["/zoo/a b.pth"] = b"weights"
    address = f"{site.address}/zoo/a b.pth"
    site.files["/zoo/a%20b.pth"] = b"weights"
    found = local_path(address)
    assert Path(found).read_bytes() == b"weights" and local_path(address) == found
    assert PathManager.get_local_path(address) == found and len(site.requests) == 1
    assert local_path(f"file://{found}".replace(" ", "%20")) == found
    other = local_path(f"{address}?version=2")
    assert other != found and len(site.requests) == 2
    outside = local_path(f"{site.address}/../zoo/a%20b.pth")
    assert os.path.realpath(outside).startswith(str(cache))


def test_a_password_goes_to_the_server_alone(site):
    seen = []
    answer = site.answer
    site.answer = lambda request: (seen.append(request.headers.get("Authorization")), answer(request))
    site.files["/x.pth"] = b"weights"
    address = site.address.replace("://", "://me:p%40ss@")
    assert Path(local_path(f"{address}/x.pth")).read_bytes() == b"weights"
    assert seen == ["Basic bWU6cEBzcw=="]


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="x.pth: a pipe"):
        load_state_file(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"(dp0\n", "protocol 0 or 1"),
    ],
)
def test_what_stands_in_the_place_of_a_file(tmp_path, head, words):
    (tmp_path / "x.pth").write_bytes(head + bytes(100))
    with pytest.raises(CheckpointError, match=f"x.pth: not a checkpoint, but .*{words}"):
        load_state_file(tmp_path / "x.pth")
