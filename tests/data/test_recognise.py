"""Files of other kinds than the one that was asked for are called what they are."""

import gzip
import json

import pytest
from PIL import Image

from itpn_d2.data import DatasetError, register_coco
from itpn_d2.data.decode import BrokenImageError, decode, open_image, turned, upright_size
from itpn_d2.data.problems import read_json

TEXTS = {
    "empty": (b" \n", "it is empty"),
    "gzip": (gzip.compress(b"{}"), "compressed .gzip.: unpack"),
    "zip": (b"PK\x03\x04\x14\x00\x00\x8c", "zip archive"),
    "xml": (b"<annotation><folder>a</folder></annotation>", "it is XML"),
    "lines": (b'{"a": 1}\n{"a": 2}\n', "JSON Lines"),
    "yolo": (b"0 0.5 0.5 0.25 0.125\n1 0.1 0.1 0.1 0.1\n", "YOLO's labels"),
    "yaml": (b"# sets\nnames: [a, b]\n", "YAML"),
    "table": (b"file,xmin,ymin,xmax,ymax\na.png,1,2,3,4\n", "CSV"),
    "comment": (b"/* made by hand */ {}", "begins with a comment"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "cut off": (b'{"images": [{"id": 1', "not a json file"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_files_that_are_no_json(tmp_path, kind):
    content, words = TEXTS[kind]
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"data.json: .*{words}"):
        read_json(path, ("images",), "a COCO json")


JSONS = {
    "labelme's file": {"shapes": [], "imagePath": "a.png"},
    "Label Studio's own": [{"id": 1, "data": {"image": "a.png"}, "annotations": []}],
    "CreateML's": [{"image": "a.png", "annotations": []}],
    "Datumaro's": {"items": [], "categories": {"label": {"labels": []}}},
    "Labelbox's own": [{"data_row": {"id": "a"}, "projects": {}}],
    "Supervisely's file": {"size": {"height": 5, "width": 5}, "objects": []},
    "SuperAnnotate's file": {"metadata": {"name": "a.png"}, "instances": []},
    "VIA's own": {"a.png77": {"filename": "a.png", "size": 77, "regions": []}},
    "VIA's own json": {"_via_settings": {}, "_via_img_metadata": {}},
    "predictions in COCO's result": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
    "a COCO json in a list": [{"images": [], "annotations": [], "categories": []}],
    "a COCO json within the key 'dataset'": {"dataset": {"images": []}},
}


@pytest.mark.parametrize("tool", JSONS)
def test_jsons_of_other_formats(tmp_path, tool):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(JSONS[tool]))
    with pytest.raises(
        DatasetError, match=f"it looks like {tool}.*: export the annotations in COCO's format"
    ):
        read_json(path, ("images",), "a COCO json")


PICTURES = {
    "it is empty": b"",
    "a web page": b"<!DOCTYPE html><title>404</title>",
    "git lfs pull": b"version https://git-lfs.github.com/spec/v1\n",
    "HEIC.*save it as JPEG": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
    "SVG.*save it as PNG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "cannot identify": b"nothing in particular",
}


@pytest.mark.parametrize("words", PICTURES)
def test_pictures_that_are_none(tmp_path, words):
    path = tmp_path / "a.jpg"
    path.write_bytes(PICTURES[words])
    with pytest.raises(BrokenImageError, match=words), open_image(str(path)):
        pass


@pytest.mark.parametrize("value", [0, 9, 99])
def test_orientations_that_there_are_none_of_turn_nothing(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    with open_image(str(tmp_path / "a.jpg")) as image:
        assert upright_size(image) == (20, 10) == decode(image).size and not turned(image)


def test_a_folder_for_a_file_and_the_other_way_round(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"dataset.val.json=.*it is a folder, but must be the file with"):
        register_coco("swapped_val", str(tmp_path), str(tmp_path))
    with pytest.raises(DatasetError, match=r"dataset.val.images=.*it is a file, but must be the folder with"):
        register_coco("swapped_val", str(tmp_path / "a.json"), str(tmp_path / "a.json"))
