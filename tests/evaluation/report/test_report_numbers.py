"""Curves, classes and confusions against counts by hand and against COCO's own evaluation."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from itpn_d2.evaluation.report.detection import matches, precision
from itpn_d2.evaluation.report.semantic import SemanticCounts, iou

NAMES = {3: "cat", 8: "dog"}


def coco(annotations, images=2):
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i + 1, "width": 200, "height": 200} for i in range(images)],
        "categories": [{"id": i, "name": n} for i, n in NAMES.items()],
        "annotations": [
            {"id": i + 1, "iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3], **a}
            for i, a in enumerate(annotations)
        ],
        "info": {},
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def thing(image, category, x, y, w=40, h=40, **more):
    return {"image_id": image, "category_id": category, "bbox": [x, y, w, h], **more}


def test_precision_is_cocos():
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 150, (30, 2))
    sizes = rng.uniform(10, 120, 30)
    truth = [thing(1 + i % 4, (3, 8)[i % 2], *places[i], sizes[i], sizes[i]) for i in range(30)]
    results = [
        {**a, "bbox": [v + rng.normal(0, 4) for v in a["bbox"]], "score": float(rng.random())}
        for a in truth + truth[:9]
    ]
    given = coco(truth, 4)
    found = precision(given, results, "bbox", NAMES, 100)
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCOeval(given, given.loadRes([dict(r) for r in results]), "bbox")
        official.evaluate(), official.accumulate(), official.summarize()
    assert np.mean([row["AP"] for row in found.rows]) == pytest.approx(100 * official.stats[0])
    assert np.mean([row["AP50"] for row in found.rows]) == pytest.approx(100 * official.stats[1])
    for column, place in (("AP75", 2), ("AP small", 3), ("AP medium", 4), ("AP large", 5)):
        assert np.nanmean([row[column] for row in found.rows]) == pytest.approx(100 * official.stats[place])
    assert 100 * found.curves["IoU 0.50"].mean() == pytest.approx(100 * official.stats[1])
    assert [row["objects"] for row in found.rows] == [15, 15]


def test_a_class_without_objects_has_no_number():
    found = precision(coco([thing(1, 3, 0, 0)]), [{**thing(1, 3, 0, 0), "score": 0.9}], "bbox", NAMES, 100)
    cat, dog = found.rows
    assert cat["AP"] == pytest.approx(100) and np.isnan(dog["AP"]) and np.isnan(cat["AP large"])
    assert list(found.class_curves) == ["cat"]


def test_matches_by_hand():
    """Right, wrong class, missed, invented, below the score, and on a crowd."""
    truth = [
        thing(1, 3, 0, 0),
        thing(1, 8, 100, 0),
        thing(1, 8, 0, 100),
        thing(2, 3, 50, 50, 100, 100, iscrowd=1),
    ]
    results = [
        {**thing(1, 3, 2, 0), "score": 0.9},
        {**thing(1, 3, 100, 4), "score": 0.6},
        {**thing(1, 8, 150, 150), "score": 0.7},
        {**thing(1, 8, 0, 100), "score": 0.3},
        {**thing(2, 3, 60, 60), "score": 0.8},
    ]
    for a in truth:
        a["segmentation"] = {"size": [200, 200], "counts": [40000]}
    found = matches(coco(truth), results, "bbox", NAMES, 0.5)
    assert found.confusion.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    f1, overlap = found.scores[1]
    assert f1 == pytest.approx(2 * 1 / (2 * 2 + 1 + 1)) and 0.8 < overlap < 0.95
    assert 2 not in found.scores


def test_the_closest_pair_is_matched_first():
    truth = [thing(1, 3, 0, 0), thing(1, 8, 10, 0)]
    results = [{**thing(1, 8, 9, 0), "score": 0.9}, {**thing(1, 3, 1, 0), "score": 0.6}]
    assert matches(coco(truth), results, "bbox", NAMES, 0.5).confusion.tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 0],
    ]


def test_masks_are_compared_as_masks():
    def square(x):
        return [[x, 0.0, x + 40, 0, x + 40, 40, x, 40]]

    truth = coco(
        [thing(1, 3, 0, 0, 120, segmentation=square(0)), thing(1, 3, 0, 0, 120, segmentation=square(80))]
    )
    results = [
        {
            "image_id": 1,
            "category_id": 3,
            "score": 0.9,
            "bbox": [0, 0, 120, 40],
            "segmentation": truth.annToRLE(a),
        }
        for a in truth.loadAnns([2])
    ]
    found = matches(truth, results, "segm", NAMES, 0.5)
    assert found.confusion[0].tolist() == [1, 0, 1] and found.scores[1][1] == pytest.approx(1)


def test_semantic_counts_by_hand():
    labels = np.array([[0, 0, 1, 1], [0, 0, 255, 1]])
    predicted = np.array([[0, 1, 1, 1], [0, 0, 0, 0]])
    counts = SemanticCounts(["sky", "sea", "sand"], 255, 2)
    counts.add("a.png", labels, predicted)
    assert counts.confusion.tolist() == [[3, 1, 0], [1, 2, 0], [0, 0, 0]]
    sky, sea, sand = counts.rows()
    assert (sky["IoU"], sea["IoU"]) == (pytest.approx(60), pytest.approx(50)) and np.isnan(sand["IoU"])
    assert sky["accuracy"] == pytest.approx(75) and sky["share"] == pytest.approx(400 / 7)
    assert counts.ranking.best[0][0] == pytest.approx(0.55)
    with pytest.raises(ValueError, match="a.png: predicted"):
        counts.add("a.png", labels, predicted[:1])


def test_semantic_ranks_and_merges():
    parts = [SemanticCounts(["a", "b"], 255, 2) for _ in range(2)]
    for number in range(6):
        labels = np.zeros((1, 10), int)
        predicted = labels.copy()
        predicted[0, :number] = 1
        parts[number % 2].add(f"{number}.png", labels, predicted)
    parts[0].merge(parts[1])
    assert [file for _, file, _ in parts[0].ranking.best] == ["0.png", "1.png"]
    assert [file for _, file, _ in parts[0].ranking.worst] == ["5.png", "4.png"]
    assert parts[0].confusion.sum() == 60
    assert np.isnan(iou(np.zeros((2, 2), int))).all()
