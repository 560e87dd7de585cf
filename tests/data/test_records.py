"""Odd jsons of annotation tools: read as they are meant, with a line in the log, or refused by name. Each
kind is tried with generated sets; perfect detections of what is read score 100."""

import contextlib
import copy
import io
import json
import logging
import re
import unicodedata
from urllib.parse import quote

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image

from itpn_d2.data import DatasetError, TrainMapper, build_train_loader, register_coco
from itpn_d2.data.records import read_category
from itpn_d2.evaluation import build_evaluator

WIDTH, HEIGHT = 72, 56
NAN, INFINITE = float("nan"), float("inf")


def made_set(seed=0, images=3, each=2):
    """A json of rectangles with masks, two in each image, side by side."""
    rng = np.random.default_rng(seed)
    data = {
        "images": [
            {"id": i, "file_name": f"picture {i}.png", "width": WIDTH, "height": HEIGHT}
            for i in range(1, images + 1)
        ],
        "annotations": [],
        "categories": [{"id": 4, "name": "bolt"}, {"id": 9, "name": "nut"}],
    }
    for image in range(1, images + 1):
        for k in range(each):
            w, h = (int(v) for v in rng.integers(8, 24, 2))
            x, y = k * WIDTH // each + int(rng.integers(0, 8)), int(rng.integers(0, HEIGHT - h))
            data["annotations"].append(
                {
                    "id": len(data["annotations"]) + 1,
                    "image_id": image,
                    "category_id": (4, 9)[k % 2],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
    return data


def mask_of(annotation):
    x, y, w, h = annotation["bbox"]
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def runs(mask):
    flat = np.concatenate(([0], mask.flatten(order="F"), [2]))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    found = np.diff(np.concatenate(([0], changes))).tolist()
    assert sum(found) == mask.size
    return found


def compressed(mask):
    code = mask_util.encode(np.asfortranarray(mask))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


@pytest.fixture
def write(tmp_path, monkeypatch, request):
    """From a json to the name of the registered set, whose pictures are there under their plain names."""
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "pictures"
    folder.mkdir()

    def register(data, raw=None, encoding="utf-8", names=None, size=(WIDTH, HEIGHT), **options):
        for number in range(1, 4):
            path = folder / (names or {}).get(number, f"picture {number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (90, 20 * number, 60)).save(path)
        path = tmp_path / "data.json"
        path.write_bytes(raw if raw is not None else json.dumps(data).encode(encoding))
        return register_coco(f"{request.node.name}_val", str(path), str(folder), **options)

    return register


def pixels(segmentation, size):
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, *size))
    return mask_util.decode(segmentation)


def perfect(name):
    evaluator = build_evaluator(name)
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        size, known = (record["height"], record["width"]), record["annotations"]
        found = Instances(size)
        boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in known]
        found.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        found.scores = torch.full((len(known),), 0.9)
        found.pred_classes = torch.tensor([a["category_id"] for a in known], dtype=torch.int64)
        if known and all("segmentation" in a for a in known):
            masks = [pixels(a["segmentation"], size) for a in known]
            found.pred_masks = torch.tensor(np.stack(masks)).bool()
        evaluator.process([{"image_id": record["image_id"]}], [{"instances": found}])
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluator.evaluate()


def is_whole(name, objects=6):
    """All objects train, and perfect detections score 100 for every class."""
    mapper = TrainMapper([], use_instance_mask=True, recompute_boxes=True)
    count = len(DatasetCatalog.get(name))
    batch = next(iter(build_train_loader(name, mapper, count, aspect_ratio_grouping=False)))
    assert sum(len(sample["instances"]) for sample in batch) == objects
    found = perfect(name)
    for task in ("bbox", "segm"):
        assert all(v > 99.9 for k, v in found[task].items() if v == v), found


def every(key, change):
    """The value under ``key`` of every annotation, changed."""

    def spoil(data):
        for number, annotation in enumerate(data["annotations"]):
            annotation[key] = change(annotation, number)

    return spoil


def first(**fields):
    return lambda data: data["annotations"][0].update(fields)


def without(*keys):
    return lambda data: [annotation.pop(key) for annotation in data["annotations"] for key in keys]


def images(change):
    return lambda data: [change(image) for image in data["images"]]


def all_ids(change):
    def spoil(data):
        for image in data["images"]:
            image["id"] = change(image["id"])
        for annotation in data["annotations"]:
            annotation["image_id"] = change(annotation["image_id"])

    return spoil


TAKEN = {
    "id/from zero": every("id", lambda a, n: n),
    "id/uuid": every("id", lambda a, n: f"0f{n}c-77aa"),
    "id/absent": without("id"),
    "id/null": every("id", lambda a, n: None),
    "id/object id": every("id", lambda a, n: {"$oid": f"5f{n}"}),
    "id/huge": every("id", lambda a, n: 2**70 + n),
    "id/negative": every("id", lambda a, n: -n),
    "image id/text of a number": every("image_id", lambda a, n: str(a["image_id"])),
    "image id/number of a text": images(lambda i: i.update(id=str(i["id"]))),
    "image id/real": every("image_id", lambda a, n: float(a["image_id"])),
    "image id/blanks around": every("image_id", lambda a, n: f" {a['image_id']} "),
    "image id/names": all_ids(lambda i: f"picture {i}"),
    "image id/mixed": all_ids(lambda i: "one" if i == 1 else i),
    "image id/object id": all_ids(lambda i: {"$oid": f"63{i}"}),
    "image id/zero": all_ids(lambda i: i - 1),
    "image id/negative": all_ids(lambda i: -i),
    "image id/huge": all_ids(lambda i: 2**63 + i),
    "category id/text": every("category_id", lambda a, n: str(a["category_id"])),
    "category id/number of a text": lambda d: [c.update(id=str(c["id"])) for c in d["categories"]],
    "category id/names": lambda d: (
        [c.update(id=c["name"]) for c in d["categories"]],
        [a.update(category_id={4: "bolt", 9: "nut"}[a["category_id"]]) for a in d["annotations"]],
    ),
    "category name/number": lambda d: d["categories"][0].update(name=7),
    "category name/reference": lambda d: d["categories"][0].update(name="${model}"),
    "category name/missing": lambda d: d["categories"][0].update(name="???"),
    "category name/surrogate": lambda d: d["categories"][0].update(name="a\udcff"),
    "crowd/null": every("iscrowd", lambda a, n: None),
    "crowd/absent": without("iscrowd"),
    "crowd/false": every("iscrowd", lambda a, n: False),
    "crowd/text": every("iscrowd", lambda a, n: "0"),
    "crowd/empty": every("iscrowd", lambda a, n: ""),
    "crowd/real": every("iscrowd", lambda a, n: 0.0),
    "ignore/null": every("ignore", lambda a, n: None),
    "ignore/zero": every("ignore", lambda a, n: 0),
    "area/absent": without("area"),
    "area/null": every("area", lambda a, n: None),
    "area/text": every("area", lambda a, n: str(a["area"])),
    "area/nan": every("area", lambda a, n: NAN),
    "area/infinite": every("area", lambda a, n: INFINITE),
    "area/negative": every("area", lambda a, n: -5),
    "area/zero": every("area", lambda a, n: 0),
    "area/of the image": every("area", lambda a, n: 1e6),
    "area/list": every("area", lambda a, n: [a["area"]]),
    "area/share": every("area", lambda a, n: 0.1),
    "box/text": every("bbox", lambda a, n: [str(v) for v in a["bbox"]]),
    "size/real": images(lambda i: i.update(width=float(WIDTH), height=float(HEIGHT))),
    "size/text": images(lambda i: i.update(width=str(WIDTH), height=f" {HEIGHT} ")),
    "size/null": images(lambda i: i.update(width=None, height=None)),
    "size/absent": images(lambda i: (i.pop("width"), i.pop("height"))),
    "mask/compressed": every("segmentation", lambda a, n: compressed(mask_of(a))),
    "mask/runs": every("segmentation", lambda a, n: {"size": [HEIGHT, WIDTH], "counts": runs(mask_of(a))}),
    "mask/real runs": every(
        "segmentation",
        lambda a, n: {"size": [HEIGHT, WIDTH], "counts": [float(v) for v in runs(mask_of(a))]},
    ),
    "mask/mixed": every("segmentation", lambda a, n: a["segmentation"] if n % 2 else compressed(mask_of(a))),
    "mask/text": every("segmentation", lambda a, n: [[str(v) for v in a["segmentation"][0]]]),
    "more/unknown keys": lambda d: d.update(info=None, licenses=[{}], extra={"a": [1]}),
    "more/keypoints without names": every("keypoints", lambda a, n: [1, 2, 2]),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_taken_as_it_is_meant(write, kind):
    data = made_set()
    TAKEN[kind](data)
    is_whole(write(data))


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
    "category id/unknown": (first(category_id="bolt"), "'bolt'"),
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
        "All 6 boxes are below one pixel.*shares",
    ),
    "box/corners": (first(bbox=[60, 40, 70, 50]), "as corners x1, y1, x2, y2 it would fit"),
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
    "file/twice": (
        lambda d: d["images"][1].update(file_name="picture 1.png"),
        "is image 1 already",
    ),
    "mask/flat": (first(segmentation=[1, 2, 9, 2, 9, 9]), "flat polygon.*brackets"),
    "mask/pairs": (first(segmentation=[[[1, 2], [9, 2], [9, 9]]]), "nested too deep.*pairs"),
    "mask/deep": (first(segmentation=[[[1, 2, 9, 2, 9, 9]]]), "nested too deep"),
    "mask/deeper": (first(segmentation=[[[[1, 2, 9, 2, 9, 9]]]]), "nested too deep"),
    "mask/two points": (first(segmentation=[[1, 2, 3, 4]]), "under 3 points"),
    "mask/odd": (first(segmentation=[[1, 2, 9, 2, 9, 9, 1]]), "pairs"),
    "mask/nan": (first(segmentation=[[1, 2, 9, NAN, 9, 9]]), "pairs of finite"),
    "mask/a point": (first(segmentation=[[5, 5, 5, 5, 5, 5]]), "mask without a pixel"),
    "mask/a line": (first(segmentation=[[5, 5, 9, 5, 7, 5]]), "mask without a pixel"),
    "mask/outside": (first(segmentation=[[80, 5, 90, 5, 90, 20]]), "mask without a pixel"),
    "mask/shares": (first(segmentation=[[0.1, 0.1, 0.4, 0.1, 0.4, 0.4]]), "shares"),
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


SAID = {
    "box/away from its mask": (first(bbox=[40, 30, 20, 20]), "mask"),
    "box/thin": (first(bbox=[5, 5, 0.4, 20], segmentation=None), "bbox below one pixel"),
    "ignore/one": (first(ignore=1), "ignore 1: a crowd"),
    "ignore/true": (first(ignore=True), "ignore 1: a crowd"),
    "crowd/many": (lambda d: [a.update(iscrowd=1) for a in d["annotations"][:2]], "2 x a crowd"),
    "area/of the image": (first(area=1e6), "area that is impossible"),
    "category/same names": (lambda d: d["categories"][1].update(name="bolt"), r"bolt \(id 4\)"),
    "category/unused root": (
        lambda d: (
            d["categories"].insert(0, {"id": 0, "name": "parts", "supercategory": "none"}),
            [c.update(supercategory="parts") for c in d["categories"][1:]],
        ),
        "'parts'.*|never occurs",
    ),
    "annotations/none": (lambda d: d.update(annotations=[]), "no annotations"),
    "annotations/absent": (lambda d: d.pop("annotations"), "no annotations"),
    "annotations/null": (lambda d: d.update(annotations=None), "no annotations"),
}


@pytest.mark.parametrize("kind", SAID)
def test_used_and_said(write, kind, caplog):
    data = made_set()
    spoil, words = SAID[kind]
    spoil(data)
    with caplog.at_level(logging.WARNING, "itpn_d2"):
        write(data)
    assert any(r.levelno == logging.WARNING and re.search(words, r.getMessage()) for r in caplog.records)


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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_and_byte_order_marks(write, encoding):
    data = made_set()
    data["categories"][0]["name"] = "écrou"
    name = write(data, raw=json.dumps(data, ensure_ascii=False).encode(encoding))
    assert MetadataCatalog.get(name).thing_classes == ["écrou", "nut"]


def test_other_encodings_are_said(write):
    data = made_set()
    data["categories"][0]["name"] = "écrou"
    with pytest.raises(DatasetError, match="UTF-8"):
        write(data, raw=json.dumps(data, ensure_ascii=False).encode("latin-1"))


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


def predict(name, folder):
    """One box in each image, evaluated into ``folder``."""
    evaluator = build_evaluator(name, output_dir=str(folder))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        found = Instances((HEIGHT, WIDTH), pred_boxes=Boxes(torch.tensor([[1.0, 2, 9, 9]])))
        found.scores, found.pred_classes = torch.tensor([0.5]), torch.tensor([1])
        evaluator.process([{"image_id": record["image_id"]}], [{"instances": found}])
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluator.evaluate()


def test_results_keep_the_ids_of_the_json(write, tmp_path):
    data = made_set()
    all_ids(lambda i: "one" if i == 1 else i)(data)
    assert "bbox" in predict(write(data), tmp_path / "out")
    results = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert [r["image_id"] for r in results] == [2, 3, "one"] and {r["category_id"] for r in results} == {9}


@pytest.mark.parametrize("kind", ["annotations/none", "annotations/absent", "annotations/null"])
def test_predictions_of_a_set_without_annotations(write, tmp_path, kind, caplog):
    data = made_set()
    SAID[kind][0](data)
    assert predict(write(data), tmp_path / "out") == {}
    results = json.loads((tmp_path / "out" / "instances.json").read_text())
    found = [(r["image_id"], r["category_id"], r["bbox"]) for r in results]
    assert found == [(i, 9, [1, 2, 8, 7]) for i in (1, 2, 3)]
    assert "instances.json" in caplog.text and "no annotations" in caplog.text


def test_small_stays_small(write):
    """The area that a size class is chosen by is the object's, whatever the json says."""
    data = made_set()
    every("area", lambda a, n: 96.0**2 * 4)(data)
    found = perfect(write(data))["bbox"]
    assert found["APs"] > 99.9 and np.isnan(found["APl"])


def test_the_json_is_not_changed(write, tmp_path):
    data = made_set()
    before = copy.deepcopy(data)
    write(data)
    assert json.loads((tmp_path / "data.json").read_text()) == before


def test_names_that_no_file_can_hold():
    """A json may hold half of a character; yaml, pictures and consoles may not."""
    names = r'"name": "a\ud800b", "supercategory": "\udfff", "keypoints": ["\ud83d\ude00"]'
    record = json.loads('{"id": 1, ' + names + "}")
    found = read_category(record)
    assert (found.name, found.supercategory, found.keypoints) == ("a\ufffdb", "\ufffd", ("\U0001f600",))
    for text in (found.name, found.supercategory):
        assert text.encode().decode() == text
