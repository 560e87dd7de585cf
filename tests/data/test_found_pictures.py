"""From the names that programs write to the files that there are."""

import logging
import unicodedata
from urllib.parse import quote

import pytest
from PIL import Image

from itpn_d2.data import DatasetError
from tests.data.coco_sets import HEIGHT, WIDTH, is_whole, made_set

FILES = {
    "backslashes": (lambda n: f"deep\\{n}", "deep/{}"),
    "drive": (lambda n: f"D:\\photos\\deep\\{n}", "deep/{}"),
    "percent": (lambda n: quote(n), "{}"),
    "address": (lambda n: f"https://host.example/a/{quote(n)}", "{}"),
    "label studio upload": (lambda n: f"/data/upload/3/{n}", "{}"),
    "label studio local": (lambda n: f"/data/local-files/?d=deep/{quote(n)}", "deep/{}"),
    "label studio on windows": (lambda n: f"..\\..\\label-studio\\media\\upload\\4\\{n}", "{}"),
    "composed": (lambda n: unicodedata.normalize("NFC", f"é {n}"), unicodedata.normalize("NFD", "é {}")),
    "decomposed": (lambda n: unicodedata.normalize("NFD", f"é {n}"), unicodedata.normalize("NFC", "é {}")),
    "folder too many": (lambda n: f"images/train/{n}", "{}"),
    "folder too few": (lambda n: n, "batch/1/{}"),
    "letter case": (lambda n: n.upper(), "{}"),
    "dot": (lambda n: f"./{n}", "{}"),
    "double slash": (lambda n: f"deep//{n}", "deep/{}"),
}


@pytest.mark.parametrize("kind", FILES)
def test_file_that_is_there_is_taken_with_a_line_in_the_log(write, kind, caplog):
    data, (named, stored) = made_set(), FILES[kind]
    names = {}
    for image in data["images"]:
        names[image["id"]] = stored.format(image["file_name"])
        image["file_name"] = named(image["file_name"])
    with caplog.at_level(logging.INFO, "itpn_d2"):
        name = write(data, names=names)
    is_whole(name)
    if kind not in ("dot", "double slash"):
        assert "another path" in caplog.text


def test_file_is_not_guessed_among_several(write, tmp_path):
    data = made_set()
    (tmp_path / "pictures" / "b").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "pictures" / "b" / "picture 1.png")
    with pytest.raises(DatasetError, match="missing image"):
        write(data, names={1: "a/picture 1.png"})


@pytest.mark.parametrize("verify", ["decode", "header"])
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_exif_turn_is_named(write, tmp_path, verify, ending):
    """The json has the size of the pixels as they are stored."""
    data = made_set(images=1)
    data["images"][0]["file_name"] = f"turned.{ending}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "pictures" / f"turned.{ending}", exif=exif)
    with pytest.raises(DatasetError, match="EXIF"):
        write(data, verify_images=verify)
    data["images"][0].update(width=HEIGHT, height=WIDTH)
    data["annotations"] = [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [2, 3, 20, 30]}]
    write(data, verify_images=verify)
