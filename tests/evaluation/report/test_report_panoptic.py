"""Panoptic quality by class against Detectron2's evaluator, and the page of it."""

import json

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from itpn_d2.data import register_panoptic, register_scenes
from itpn_d2.evaluation import PanopticEvaluator
from itpn_d2.evaluation.report import ReportEvaluator
from itpn_d2.evaluation.report.panoptic import PanopticCounts, true_segments

CAT, DOG, SKY, GRASS = 10, 40, 20, 30
CATEGORIES = [
    {"id": CAT, "name": "cat", "isthing": 1},
    {"id": DOG, "name": "dog", "isthing": 1},
    {"id": SKY, "name": "sky", "isthing": 0},
    {"id": GRASS, "name": "grass", "isthing": 0},
]
SIZE = 48


def random_truth(rng):
    """Ids of stuff, rectangles of things, a crowd of cats, and a stripe of nothing."""
    ids = np.full((SIZE, SIZE), 1, np.int32)
    ids[SIZE // 2 :] = 2
    segments = [(1, SKY, 0), (2, GRASS, 0)]
    for number in range(3, 8):
        x, y = rng.integers(0, SIZE - 16, 2)
        ids[y : y + 16, x : x + 16] = number
        segments.append((number, (CAT, DOG)[number % 2], int(number == 4)))
    ids[:, :5] = 0
    return ids, [s for s in segments if (ids == s[0]).any()]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("panoptic"), np.random.default_rng(0)
    data = {"images": [], "annotations": [], "categories": CATEGORIES}
    for number in range(6):
        ids, segments = random_truth(rng)
        cv2.imwrite(str(root / f"{number}.jpg"), np.full((SIZE, SIZE, 3), 90, np.uint8))
        colours = np.stack([ids >> s & 255 for s in (16, 8, 0)], -1)
        cv2.imwrite(str(root / f"{number}.png"), colours.astype(np.uint8))
        image = {"id": number, "file_name": f"{number}.jpg", "width": SIZE, "height": SIZE}
        infos = [{"id": i, "category_id": c, "iscrowd": crowd} for i, c, crowd in segments]
        data["images"].append(image)
        data["annotations"].append({"image_id": number, "file_name": f"{number}.png", "segments_info": infos})
    (root / "p.json").write_text(json.dumps(data))
    return register_panoptic("report_panoptic", str(root / "p.json"), str(root), str(root))


def guess(record, rng):
    """The truth, shifted a little, with some classes wrong and some pixels given up."""
    ids, segments = true_segments(record)
    ids = np.roll(ids, rng.integers(-3, 4, 2), (0, 1))
    ids[rng.integers(0, SIZE) :][:4] = 0
    listed = []
    for segment in segments:
        if (ids == segment["id"]).any():
            thing = segment["isthing"]
            number = segment["category_id"]
            if rng.random() < 0.3:
                number = 1 - number if thing else 3 - number
            listed.append({"id": segment["id"], "isthing": thing, "category_id": number})
    return {"panoptic_seg": (torch.from_numpy(ids), listed)}


def counts_of(dataset, outputs, keep=2):
    metadata = MetadataCatalog.get(dataset)
    counts = PanopticCounts(metadata.thing_classes, metadata.stuff_classes, keep)
    for record, output in zip(DatasetCatalog.get(dataset), outputs, strict=True):
        ids, listed = output["panoptic_seg"]
        counts.add(record["file_name"], true_segments(record), (ids.numpy(), listed))
    return counts


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_of_the_classes_is_that_of_the_evaluator(dataset, seed, tmp_path):
    rng = np.random.default_rng(seed)
    records = DatasetCatalog.get(dataset)
    outputs = [guess(r, rng) for r in records]
    rows = counts_of(dataset, outputs).rows()
    official = PanopticEvaluator(dataset, str(tmp_path))
    official.reset()
    for record, output in zip(records, outputs, strict=True):
        ids, listed = output["panoptic_seg"]
        official.process([record], [{"panoptic_seg": (ids.clone(), [dict(s) for s in listed])}])
    expected = official.evaluate()["panoptic_seg"]
    for suffix, chosen in (
        ("", rows),
        ("_th", [r for r in rows if r["kind"] == "thing"]),
        ("_st", [r for r in rows if r["kind"] == "stuff"]),
    ):
        for metric in ("PQ", "SQ", "RQ"):
            assert np.mean([r[metric] for r in chosen]) == pytest.approx(expected[metric + suffix])
    assert 0 < expected["PQ"] < 100 and len(rows) == 4
    assert all(r["segments"] == r["matched"] + r["missed"] for r in rows)


def test_processes_together_count_as_one(dataset):
    outputs = [guess(r, np.random.default_rng(1)) for r in DatasetCatalog.get(dataset)]
    whole = counts_of(dataset, outputs)
    metadata = MetadataCatalog.get(dataset)
    parts = [PanopticCounts(metadata.thing_classes, metadata.stuff_classes, 2) for _ in range(2)]
    for i, (record, output) in enumerate(zip(DatasetCatalog.get(dataset), outputs, strict=True)):
        ids, listed = output["panoptic_seg"]
        parts[i % 2].add(record["file_name"], true_segments(record), (ids.numpy(), listed))
    parts[0].merge(parts[1])
    for one, two in zip(parts[0].rows(), whole.rows(), strict=True):
        assert (one.pop("name"), one.pop("kind")) == (two.pop("name"), two.pop("kind"))
        assert one == pytest.approx(two)
    for kind in ("best", "worst"):
        one, two = ([i[:2] for i in getattr(c.ranking, kind)] for c in (parts[0], whole))
        assert one == two and len(one) == 2


def test_a_class_that_is_nowhere_is_left_out_and_one_that_is_only_guessed_is_not(dataset):
    record = DatasetCatalog.get(dataset)[0]
    counts = PanopticCounts(["cat", "dog"], ["things", "sky", "grass"], 1)
    sky = np.full((SIZE, SIZE), 1, np.int32)
    truth = sky, [{"id": 1, "isthing": False, "category_id": 1}]
    found = sky, [{"id": 1, "isthing": True, "category_id": 0}]
    counts.add(record["file_name"], truth, found)
    rows = {r["name"]: (r["PQ"], r["matched"], r["missed"], r["wrong"]) for r in counts.rows()}
    assert rows == {"cat": (0, 0, 0, 1), "sky": (0, 0, 1, 0)}
    with pytest.raises(ValueError, match="predicted"):
        counts.add("a.png", truth, (sky[1:], []))


def test_the_page(tmp_path):
    name = register_scenes("report_scenes", "val", 4, 64, 2, root=str(tmp_path / "s"), task="panoptic")
    evaluator = ReportEvaluator(name, images=2)
    for i, record in enumerate(DatasetCatalog.get(name)):
        ids, segments = true_segments(record)
        listed = [] if i == 3 else [{k: s[k] for k in ("id", "isthing", "category_id")} for s in segments]
        evaluator.process([record], [{"panoptic_seg": (torch.from_numpy(ids), listed)}])
    evaluator.evaluate()
    assert evaluator.write(tmp_path / "r.html", {"panoptic_seg": {"PQ": 75.0}}, {})
    page = (tmp_path / "r.html").read_text()
    assert "Segments: PQ by class" in page and "Incomplete" not in page
    captions = [text.split("<")[0] for text in page.split("<figcaption>")[1:]]
    assert captions == [
        "PQ of each class",
        "00003.png: PQ 0.0",
        "00000.png: PQ 100.0",
        "00000.png: PQ 100.0",
        "00001.png: PQ 100.0",
    ]


def test_ids_that_hold_the_class_leave_the_section_out(dataset, tmp_path):
    evaluator = ReportEvaluator(dataset)
    for record in DatasetCatalog.get(dataset):
        evaluator.process([record], [{"panoptic_seg": (torch.zeros(SIZE, SIZE), None)}])
    evaluator.evaluate()
    assert evaluator.write(tmp_path / "r.html", {}, {})
    assert "PQ by class" not in (tmp_path / "r.html").read_text()
