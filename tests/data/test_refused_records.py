"""Odd jsons of annotation tools that are refused by name, or left out where that is asked."""

import pytest
from detectron2.data import DatasetCatalog

from itpn_d2.data import DatasetError
from tests.data.coco_sets import (
    HEIGHT,
    INFINITE,
    NAN,
    WIDTH,
    compressed,
    every,
    first,
    is_whole,
    made_set,
    mask_of,
)

REFUSED = {
    "image id/list": (first(image_id=[1]), r"image_id is \[1\] \(a list\)"),
    "image id/object": (first(image_id={"a": 1}), "an? object"),
    "image id/true": (first(image_id=True), "truth value"),
    "image id/null": (first(image_id=None), "no image_id"),
    "image id/unknown": (first(image_id=77), "image_id 77 is not declared"),
    "image id/zeros in front": (first(image_id="001"), r"'001' \(a text\) is not declared; there is 1"),
    "image id/one and a text of it": (
        lambda d: d["images"].append({**d["images"][0], "id": "1", "file_name": "picture 2.png"}),
        r"id 1 is used twice \(as 1 and as '1' \(a text\)\)",
    ),
    "image id/of an image a list": (lambda d: d["images"][0].update(id=[]), "id is"),
    "category id/list": (first(category_id=[4]), r"category_id is \[4\]"),
    "category id/unknown": (first(category_id="bold"), "'bold'"),
    "category id/a name": (first(category_id="nut"), "it is the name of 9: write that id"),
    "image id/a name": (first(image_id="picture 2.png"), "it is the name of 2: write that id"),
    "image id/half": (first(image_id=1.5), "neither a whole number nor a text"),
    "category name/null": (lambda d: d["categories"][0].update(name=None), "no name"),
    "category name/list": (lambda d: d["categories"][0].update(name=["a"]), "name is"),
    "category/text": (lambda d: d["categories"].append("nut"), "no object"),
    "category/keypoints number": (
        lambda d: d["categories"][0].update(keypoints=3),
        "keypoints of",
    ),
    "category/keypoints numbers": (lambda d: d["categories"][0].update(keypoints=[1, 2]), "keypoints"),
    "image/null": (lambda d: d["images"].append(None), "no object"),
    "annotation/list": (lambda d: d["annotations"].append([1]), "no object"),
    "id/list": (first(id=[1]), "id is"),
    "id/twice": (first(id=2), "used twice"),
    "crowd/two": (first(iscrowd=2), "iscrowd is 2"),
    "crowd/negative": (first(iscrowd=-1), "iscrowd is -1"),
    "crowd/huge": (first(iscrowd=1e308), "iscrowd"),
    "crowd/nan": (first(iscrowd=NAN), "iscrowd is nan"),
    "crowd/word": (first(iscrowd="maybe"), "'maybe'"),
    "crowd/list": (first(iscrowd=[0]), "iscrowd"),
    "crowd/all": (every("iscrowd", lambda a, n: 1), "all 6 annotations are crowds.*CVAT"),
    "ignore/word": (first(ignore="x"), "ignore is"),
    "box/null": (first(bbox=None), "no bbox"),
    "box/three": (first(bbox=[1, 2, 3]), "four finite numbers"),
    "box/word": (first(bbox=[1, 2, 3, "a"]), "four finite numbers"),
    "box/truth": (first(bbox=[True, 2, 3, 4]), "four finite numbers"),
    "box/nan": (first(bbox=[1, 2, NAN, 4]), "four finite numbers"),
    "box/object": (first(bbox={"x": 1}), "four finite numbers"),
    "box/shares": (
        every("bbox", lambda a, n: [v / s for v, s in zip(a["bbox"], (WIDTH, HEIGHT) * 2, strict=True)]),
        "All 6 boxes are below one pixel.*fractions",
    ),
    "box/corners": (first(bbox=[60, 40, 70, 50]), "read as corners x1, y1, x2, y2, it would fit"),
    "size/word": (lambda d: d["images"][0].update(width="wide"), "width is 'wide'"),
    "size/list": (lambda d: d["images"][0].update(height=[HEIGHT]), "height is"),
    "size/zero": (lambda d: d["images"][0].update(width=0), "width is 0"),
    "size/infinite": (lambda d: d["images"][0].update(width=INFINITE), "width is inf"),
    "size/half": (lambda d: d["images"][0].update(width=71.5), "not a whole number"),
    "size/exchanged": (lambda d: d["images"][0].update(width=HEIGHT, height=WIDTH), "are exchanged"),
    "file/null": (lambda d: d["images"][0].update(file_name=None), "no file_name"),
    "file/number": (lambda d: d["images"][0].update(file_name=7), "file_name is 7"),
    "file/list": (lambda d: d["images"][0].update(file_name=["a.png"]), "file_name is"),
    "file/empty": (lambda d: d["images"][0].update(file_name=""), "no file_name"),
    "file/long": (lambda d: d["images"][0].update(file_name="a" * 5000), "missing image"),
    "file/zero byte": (lambda d: d["images"][0].update(file_name="a\0.png"), "missing image"),
    "file/surrogate": (lambda d: d["images"][0].update(file_name="a\ud800.png"), "missing image"),
    "file/windows": (lambda d: d["images"][0].update(file_name="C:\\data\\none.png"), "Windows"),
    "file/address": (lambda d: d["images"][0].update(file_name="https://a.b/none.png"), "an address"),
    "file/percent": (lambda d: d["images"][0].update(file_name="no%20such.png"), "percent-encoded"),
    "file/folder": (lambda d: d["images"][0].update(file_name="."), "missing image"),
    "file/other ending": (
        lambda d: d["images"][0].update(file_name="picture 1.jpg"),
        "there is picture 1.png",
    ),
    "file/no ending": (lambda d: d["images"][0].update(file_name="picture 1"), "there is picture 1.png"),
    "file/twice": (
        lambda d: d["images"][1].update(file_name="picture 1.png"),
        "is already image 1",
    ),
    "mask/flat": (first(segmentation=[1, 2, 9, 2, 9, 9]), "flat polygon.*brackets"),
    "mask/pairs": (first(segmentation=[[[1, 2], [9, 2], [9, 9]]]), "nested too deep.*pairs"),
    "mask/deep": (first(segmentation=[[[1, 2, 9, 2, 9, 9]]]), "nested too deep"),
    "mask/deeper": (first(segmentation=[[[[1, 2, 9, 2, 9, 9]]]]), "nested too deep"),
    "mask/two points": (first(segmentation=[[1, 2, 3, 4]]), "under 3 points"),
    "mask/odd": (first(segmentation=[[1, 2, 9, 2, 9, 9, 1]]), "pairs"),
    "mask/nan": (first(segmentation=[[1, 2, 9, NAN, 9, 9]]), "pairs of finite"),
    "mask/a point": (first(segmentation=[[5, 5, 5, 5, 5, 5]]), "mask without a pixel"),
    "mask/traced twice": (first(segmentation=[[5, 5, 9, 5, 9, 9, 5, 9] * 2]), "traced twice cancels"),
    "mask/wound": (first(segmentation=[[5, 5, 29, 5, 29, 29, 5, 29] * 4]), "traced twice cancels"),
    "mask/rle in a list": (
        lambda d: d["annotations"][0].update(segmentation=[compressed(mask_of(d["annotations"][0]))]),
        "an RLE in a list, remove the brackets",
    ),
    "mask/text of json": (first(segmentation="[[1, 2, 9, 2, 9, 9]]"), "json within a text"),
    "mask/points as objects": (first(segmentation=[[{"x": 1, "y": 2}] * 3]), "points as objects"),
    "mask/a line": (first(segmentation=[[5, 5, 9, 5, 7, 5]]), "mask without a pixel"),
    "mask/outside": (first(segmentation=[[80, 5, 90, 5, 90, 20]]), "mask without a pixel"),
    "mask/shares": (first(segmentation=[[0.1, 0.1, 0.4, 0.1, 0.4, 0.4]]), "fractions"),
    "mask/far": (first(segmentation=[[1, 2, 1e9, 2, 9, 9]]), "far from its image"),
    "mask/farther": (first(segmentation=[[1, 2, 9, -1e18, 9, 9]]), "far from its image"),
    "mask/number": (first(segmentation=5), "neither polygons nor RLE"),
    "mask/truth": (first(segmentation=True), "neither polygons nor RLE"),
    "mask/objects": (first(segmentation=[{"x": 1}]), "neither polygons nor RLE"),
    "RLE/short": (first(segmentation={"size": [HEIGHT, WIDTH], "counts": [50, 20]}), "add up to 70"),
    "RLE/long": (first(segmentation={"size": [HEIGHT, WIDTH], "counts": [5000, 20]}), "add up to 5020"),
    "RLE/fractions": (first(segmentation={"size": [HEIGHT, WIDTH], "counts": [0.5, 4031.5]}), "whole"),
    "RLE/negative": (
        first(segmentation={"size": [HEIGHT, WIDTH], "counts": [-8, HEIGHT * WIDTH + 8]}),
        "does not fill",
    ),
    "RLE/nothing": (first(segmentation={"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}), "no pixel"),
    "RLE/no counts": (first(segmentation={"size": [HEIGHT, WIDTH]}), "counts are null"),
    "RLE/number": (first(segmentation={"size": [HEIGHT, WIDTH], "counts": 5}), "counts are 5"),
    "RLE/no size": (first(segmentation={"counts": [1, 2]}), "size"),
    "RLE/turned": (first(segmentation={"size": [WIDTH, HEIGHT], "counts": [1]}), "are exchanged"),
    "RLE/bad text": (first(segmentation={"size": [HEIGHT, WIDTH], "counts": "0\u00e9"}), "decoded"),
    "RLE/cut text": (first(segmentation={"size": [HEIGHT, WIDTH], "counts": "0PRW"}), "RLE"),
    "RLE/long text": (first(segmentation={"size": [HEIGHT, WIDTH], "counts": "0PRW1"}), "RLE"),
    "RLE/endless text": (first(segmentation={"size": [HEIGHT, WIDTH], "counts": "o" * 99}), "RLE"),
    "RLE/list of lists": (first(segmentation={"size": [HEIGHT, WIDTH], "counts": [[1, 2]]}), "RLE"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_name(write, kind):
    data = made_set()
    spoil, words = REFUSED[kind]
    spoil(data)
    with pytest.raises(DatasetError, match=f"(?s){words}"):
        write(data)


@pytest.mark.parametrize("kind", [k for k in REFUSED if not k.startswith(("crowd/all", "box/shares"))])
def test_left_out_where_that_was_asked(write, kind):
    data = made_set()
    REFUSED[kind][0](data)
    name = write(data, skip_bad_records=True)
    left = sum(len(r["annotations"]) for r in DatasetCatalog.get(name))
    assert 2 <= left <= 6
    is_whole(name, left)
