"""Tar files as a source: the same images in the same order as from their folder."""

import itertools
import json
import pickle
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from itpn_d2.commands.shards import main
from itpn_d2.data import labelled_source
from itpn_d2.data.image_sources import image_folder
from itpn_d2.data.members import open_member
from itpn_d2.data.read import read_image
from itpn_d2.data.shards import image_shards
from itpn_d2.errors import DatasetError
from pretrain.data import ImageDataset, TrainView, build_pretrain_loader
from tests.data.orders import order


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def folder(tmp_path):
    """Eleven images of two classes; one name has dots."""
    random = np.random.default_rng(0)
    for number in range(11):
        place = tmp_path / "images" / ("cat" if number % 3 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        name = f"v1.{number}.jpg" if number == 4 else f"{number}.png"
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(place / name)
    return tmp_path / "images"


@pytest.fixture
def packed(folder, tmp_path, capsys):
    assert main([str(folder), str(tmp_path / "tars"), "--images-per-file", "4", "--labelled"]) == 0
    assert "11 images in 3 files" in capsys.readouterr().out
    return tmp_path / "tars"


def test_pictures_and_classes_are_the_folders(folder, packed):
    expected, found = image_folder(str(folder), labelled=True), labelled_source(str(packed))
    assert len(found) == 11 and found.classes == expected.classes
    assert found.labels.tolist() == expected.labels.tolist()
    for number in range(11):
        assert (read_image(found.path(number)) == read_image(expected.path(number))).all()


@pytest.mark.parametrize("place", ["{}", "{}/shard-*.tar", "file://{}", "file://{}/*.tar"])
def test_places(packed, place):
    found = image_shards(place.format(packed))
    assert len(found) == 11 and found.labels is None
    assert read_image(found.path(10)).shape == (20, 24, 3)


def test_one_file(packed):
    assert len(image_shards(str(packed / "shard-000002.tar"))) == 3


def test_order_is_the_same_for_any_number_of_processes_and_after_a_resume(folder, packed):
    source = image_shards(str(packed))

    whole = order(source, 1)
    assert order(source, 2) == order(source, 4) == whole and order(source, 2, start=3) == whole[3:]

    def images(source, start):
        loader = build_pretrain_loader(source, TrainView(size=16, seed=1), 4, seed=3, start_iter=start)
        return [batch["image"] for batch in itertools.islice(loader, 5 - start)]

    tar, plain = images(source, 0), images(image_folder(str(folder)), 0)
    assert all(torch.equal(a, b) for a, b in zip(tar, plain, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(images(source, 2), tar[2:], strict=True))


def test_the_table_is_mapped_by_workers(packed):
    paths = image_shards(str(packed)).paths
    assert isinstance(paths._rows, np.memmap)
    copy = pickle.loads(pickle.dumps(paths))
    assert len(pickle.dumps(paths)) < 2000 and isinstance(copy._rows, np.memmap) and list(copy) == list(paths)
    assert paths[-1] == paths[len(paths) - 1]


def test_the_index_is_made_once_and_anew_when_it_has_to_be(packed, cache, monkeypatch):
    looked = []
    members = sys.modules["itpn_d2.data.shards"]._members
    monkeypatch.setattr("itpn_d2.data.shards._members", lambda tar: looked.append(tar) or members(tar))
    first = list(image_shards(str(packed)).paths)
    assert len(looked) == 3 and list(image_shards(str(packed)).paths) == first and len(looked) == 3
    index = next(cache.glob("*.npy"))
    for damage in (b"", index.read_bytes()[:-7], index.read_bytes()[:-1] + b"\x09"):
        looked.clear()
        index.write_bytes(damage)
        assert list(image_shards(str(packed)).paths) == first and len(looked) == 3
    facts = index.with_suffix(".json")
    facts.write_text(json.dumps([]))
    assert list(image_shards(str(packed)).paths) == first
    looked.clear()
    with tarfile.open(packed / "shard-000002.tar", "a") as archive:
        archive.add(packed.parent / "images" / "dog" / "0.png", "new.png")
    assert len(image_shards(str(packed))) == 12 and len(looked) == 3


@pytest.mark.parametrize("keep", [0, 100, 512, 1000, 0.5, -1024])
def test_a_cut_file_is_named(packed, keep):
    path = packed / "shard-000001.tar"
    data = path.read_bytes()
    with tarfile.open(path) as archive:
        end = max(m.offset_data + -(-m.size // 512) * 512 for m in archive)
    cut = int(len(data) * keep) if isinstance(keep, float) else keep if keep >= 0 else end
    path.write_bytes(data[:cut])
    with pytest.raises(DatasetError, match=r"shard-000001\.tar: not a complete, uncompressed tar file"):
        image_shards(str(packed))


def test_a_damaged_member_is_replaced_and_counted(packed):
    source = image_shards(str(packed))
    with open(packed / "shard-000000.tar", "r+b") as file:
        file.seek(int(source.paths[1].rpartition("#")[2].split("+")[0]))
        file.write(b"no picture at all")
    sample = ImageDataset(source, TrainView(size=16))[(5, 1)]
    assert sample["index"] != 1 and len(sample["broken"]) == 1
    assert sample["broken"][0][0] == source.path(1)
    (packed / "shard-000000.tar").write_bytes(b"")
    assert "truncated" in ImageDataset(source, TrainView(size=16))[(5, 2)]["broken"][0][1]


def test_what_is_refused(packed, tmp_path, refused, monkeypatch):
    with pytest.raises(DatasetError, match=r"no \.tar file found"):
        image_shards(str(tmp_path / "nothing-*.tar"))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(__file__, "a.py")
    with pytest.raises(DatasetError, match="no image"):
        image_shards(str(tmp_path / "a.tar"))
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.add(packed.parent / "images" / "dog" / "0.png", "0.png")
    with pytest.raises(DatasetError, match=r"1 images have no class; the first is .*b\.tar#\d+\+"):
        labelled_source(str(tmp_path / "b.tar"))
    with tarfile.open(tmp_path / "c.tar", "w:gz") as archive:
        archive.add(__file__, "a.py")
    with pytest.raises(DatasetError, match="uncompressed"):
        image_shards(str(tmp_path / "c.tar"))
    with pytest.raises(DatasetError, match=r"nowhere://.*fsspec"):
        image_shards("nowhere://bucket/a.tar")
    with refused("already contains tar files"):
        main([str(tmp_path / "images"), str(packed)])
    with refused("images-per-file=0"):
        main([str(tmp_path / "images"), str(tmp_path / "new"), "--images-per-file", "0"])


def test_a_file_whose_name_looks_like_an_address(tmp_path):
    path = tmp_path / "a.tar#1+2"
    Image.new("RGB", (3, 2)).save(path, "PNG")
    assert open_member(str(path)) is None and read_image(path).shape == (2, 3, 3)
