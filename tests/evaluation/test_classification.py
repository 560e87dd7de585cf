"""Accuracy of given scores, the files that are left, and the picture."""

import csv
import math

import numpy as np
import pytest
import torch
from PIL import Image

from itpn_d2.data import register_labelled_images
from itpn_d2.data.image_sources import image_folder
from itpn_d2.evaluation import ClassificationEvaluator, flatten, label_grid, save_prediction_grid, table

CLASSES = ["a", "b", "c", "d", "e", "t-shirt"]


@pytest.fixture
def dataset(tmp_path):
    for name, count in {"a": 2, "b": 1, "t-shirt": 1}.items():
        (tmp_path / "val" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 6), (90, 30 * i, 0)).save(tmp_path / "val" / name / f"{i}.png")
    return register_labelled_images("scored_val", str(tmp_path / "val"), classes=CLASSES)


def given(label, image_id):
    return {"file_name": f"{image_id}.png", "label": label, "image_id": image_id}


def scores(*best):
    """Probabilities in this order of classes, .5, .25, ..."""
    values = torch.full((6,), 1e-3)
    for i, c in enumerate(best):
        values[c] = 0.5 ** (i + 1)
    return {"scores": values / values.sum()}


def test_metrics_by_hand(dataset, tmp_path):
    evaluator = ClassificationEvaluator(dataset, str(tmp_path / "out"), per_class=True)
    evaluator.process([given(0, 0), given(0, 1)], [scores(0, 1), scores(1, 0)])
    evaluator.process([given(1, 2), given(5, 3)], [scores(1), scores(0, 1, 2, 3, 4)])
    found = evaluator.evaluate()["classification"]
    assert found["top1"] == 50.0 and found["top5"] == 75.0
    assert found["mean_class_top1"] == pytest.approx((50 + 100 + 0) / 3)
    assert found["top1-a"] == 50 and found["top1-b"] == 100 and found["top1-t-shirt"] == 0
    assert math.isnan(found["top1-c"]) and found["images_not_read"] == 0
    loss = -sum(
        math.log(float(scores(*order)["scores"][label]))
        for order, label in (((0, 1), 0), ((1, 0), 0), ((1,), 1), ((0, 1, 2, 3, 4), 5))
    )
    assert found["loss"] == pytest.approx(loss / 4)
    text = table(flatten({"classification": found}))
    assert "top1" in text and "t-shirt" not in text
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert [r["label"] for r in rows] == ["a", "a", "b", "t-shirt"]
    assert rows[1]["prediction"] == "b" and float(rows[1]["score"]) == pytest.approx(0.66, abs=0.02)


def test_a_stand_in_is_not_counted_twice(dataset):
    evaluator = ClassificationEvaluator(dataset)
    for image_id in (0, 1, 1, 3):  # 2 was broken, 1 stood in for it
        evaluator.process([given(0, image_id)], [scores(0)])
    found = evaluator.evaluate()["classification"]
    assert found["images_not_read"] == 1 and found["top1"] == 100
    evaluator.reset()
    with pytest.raises(ValueError, match="no image was evaluated"):
        evaluator.evaluate()


def test_wrong_number_of_classes(dataset):
    with pytest.raises(ValueError, match="scores 3 classes, but dataset 'scored_val' has 6"):
        ClassificationEvaluator(dataset).process([given(0, 0)], [{"scores": torch.ones(3) / 3}])


def test_no_top5_of_five_classes(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "a" / "0.png")
    name = register_labelled_images("few_val", str(tmp_path), classes=CLASSES[:5])
    evaluator = ClassificationEvaluator(name)
    evaluator.process([given(0, 0)], [{"scores": torch.tensor([0.2, 0.3, 0.5, 0, 0])}])
    found = evaluator.evaluate()["classification"]
    assert "top5" not in found and found["top1"] == 0 and found["loss"] == pytest.approx(-math.log(0.2))


def test_the_picture_shows_images_and_right_and_wrong(dataset, tmp_path):
    source = image_folder(str(tmp_path / "val"), labelled=True)
    records = [{"file_name": source.path(i), "label": 0} for i in range(3)]
    predictions = [scores(0), scores(5, 0), scores(0)]
    (tmp_path / "val" / "b" / "0.png").write_text("broken since")
    drawn = label_grid(records, predictions, [*CLASSES[:5], "$x"], columns=2, side=60)

    def has(colour):
        return bool((np.abs(drawn.astype(int) - colour).sum(-1) < 30).any())

    assert drawn.dtype == np.uint8 and drawn.shape[2] == 3
    assert has((90, 0, 0)) and has((90, 30, 0))  # the two images that can be read
    assert has((26, 127, 55)) and has((207, 34, 46))  # green and red captions
    with pytest.raises(ValueError, match="one for each is needed"):
        label_grid(records, predictions[:1], CLASSES)
    from detectron2.data import MetadataCatalog

    save_prediction_grid(tmp_path / "p.png", records, predictions, MetadataCatalog.get(dataset), side=60)
    assert np.asarray(Image.open(tmp_path / "p.png")).std() > 0
