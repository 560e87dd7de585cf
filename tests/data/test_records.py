"""Odd jsons of annotation tools that are read as they are meant, or with a line in the log. Each kind is
tried with generated sets; perfect detections of what is read score 100."""

import json
import logging
import re

import pytest
from detectron2.data import MetadataCatalog

from itpn_d2.data import DatasetError
from tests.data.coco_sets import (
    HEIGHT,
    INFINITE,
    NAN,
    WIDTH,
    all_ids,
    compressed,
    every,
    first,
    images,
    is_whole,
    made_set,
    mask_of,
    runs,
    without,
)

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
    "mask/an empty polygon among": every("segmentation", lambda a, n: [*a["segmentation"], []]),
    "mask/text": every("segmentation", lambda a, n: [[str(v) for v in a["segmentation"][0]]]),
    "more/unknown keys": lambda d: d.update(info=None, licenses=[{}], extra={"a": [1]}),
    "more/keypoints without names": every("keypoints", lambda a, n: [1, 2, 2]),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_taken_as_it_is_meant(write, kind):
    data = made_set()
    TAKEN[kind](data)
    is_whole(write(data))


SAID = {
    "box/away from its mask": (first(bbox=[40, 30, 20, 20]), "mask"),
    "box/thin": (first(bbox=[5, 5, 0.4, 20], segmentation=None), "bbox below one pixel"),
    "ignore/one": (first(ignore=1), "ignore 1: treated as a crowd"),
    "ignore/true": (first(ignore=True), "ignore 1: treated as a crowd"),
    "crowd/many": (lambda d: [a.update(iscrowd=1) for a in d["annotations"][:2]], "2 x a crowd"),
    "area/of the image": (first(area=1e6), "area that is impossible"),
    "annotation/twice": (
        lambda d: d["annotations"].append({**d["annotations"][0], "id": 77}),
        "1 x an annotation that is listed twice",
    ),
    "category/names alike": (lambda d: d["categories"][1].update(name=" Bolt"), "' Bolt' and 'bolt' are two"),
    "keypoints/outside": (
        lambda d: (
            [c.update(keypoints=["end"]) for c in d["categories"]],
            every("keypoints", lambda a, n: [10, 10 + 90 * (n == 2), 2])(d),
        ),
        "1 x an object with a labelled keypoint outside its image",
    ),
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
