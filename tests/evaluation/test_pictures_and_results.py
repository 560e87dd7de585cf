import json

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from itpn_d2.data import register_scenes
from itpn_d2.evaluation import (
    flatten,
    plot_curves,
    prediction_grid,
    read_metrics,
    save_prediction_grid,
    write_results,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return register_scenes("picture_val", "val", 3, 64, 2, root=str(tmp_path_factory.mktemp("scenes")))


def predictions(records, masks, scores=(0.9, 0.2)):
    out = []
    for record in records:
        found = Instances((record["height"], record["width"]))
        found.pred_boxes = Boxes(torch.tensor([[5.0, 5, 30, 30], [1, 1, 9, 9]])[: len(scores)])
        found.scores, found.pred_classes = torch.tensor(scores), torch.arange(len(scores))
        if masks:
            found.pred_masks = torch.zeros(len(scores), record["height"], record["width"], dtype=torch.bool)
            found.pred_masks[:, 5:30, 5:30] = True
        out.append({"instances": found})
    return out


@pytest.mark.parametrize("masks", [True, False])
def test_grid_changes_with_predictions(dataset, masks):
    records = DatasetCatalog.get(dataset)
    metadata = MetadataCatalog.get(dataset)
    some = prediction_grid(records, predictions(records, masks), metadata, side=160)
    none = prediction_grid(records, predictions(records, masks), metadata, side=160, score_threshold=0.95)
    assert some.shape == none.shape and some.dtype == np.uint8
    half = some.shape[1] // 4  # a row is two pairs of ground truth and prediction
    assert np.array_equal(some[:180, : half - 4], none[:180, : half - 4])
    assert not np.array_equal(some[:180, half:], none[:180, half:])


def test_save_and_empty(dataset, tmp_path):
    records = DatasetCatalog.get(dataset)
    save_prediction_grid(
        tmp_path / "a" / "p.png", records, predictions(records, True), MetadataCatalog.get(dataset), side=64
    )
    assert cv2.imread(str(tmp_path / "a" / "p.png")) is not None
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["p.png"]
    bare = [{k: v for k, v in r.items() if k != "annotations"} for r in records]
    prediction_grid(bare, predictions(records, True, scores=()), MetadataCatalog.get(dataset), side=64)
    with pytest.raises(ValueError):
        prediction_grid([], [], MetadataCatalog.get(dataset))


def test_metrics_after_a_resume_and_a_cut(tmp_path):
    lines = [{"iteration": i, "total_loss": 3.0 - i, "lr": 0.1} for i in range(3)]
    lines += [{"iteration": 2, "total_loss": 9.0, "bbox/AP": 50.0}]
    path = tmp_path / "metrics.json"
    path.write_text("\n".join(json.dumps(x) for x in lines) + '\n{"iteration": 3, "tot')
    series = read_metrics(path)
    assert series["total_loss"][1].tolist() == [3.0, 2.0, 9.0]
    assert series["bbox/AP"][0].tolist() == [2]
    plot_curves(path, tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")) is not None


def test_no_metrics_no_picture(tmp_path):
    plot_curves(tmp_path / "metrics.json", tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_results_are_strict_json(tmp_path):
    results = {"bbox": {"AP": 51.234, "APs": float("nan"), "AP-disc": 1.0}, "ema": {"bbox": {"AP": 52.0}}}
    text = write_results(tmp_path / "results.json", results)
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "bbox/AP": 51.234,
        "bbox/APs": None,
        "bbox/AP-disc": 1.0,
        "ema/bbox/AP": 52.0,
    }
    assert "51.23" in text and "ema/bbox" in text and "disc" not in text
    assert flatten({"a": {"b": {"c": 1}}}) == {"a/b/c": 1.0}
