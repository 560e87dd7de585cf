import json
import math

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools import mask as mask_util

from itpn_d2.data import register_scenes
from itpn_d2.evaluation import (
    flatten,
    is_better,
    named_metric,
    plot_curves,
    prediction_grid,
    read_metrics,
    save_prediction_grid,
    table,
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
    assert np.array_equal(some[:180, :160], none[:180, :160])
    assert not np.array_equal(some[22:180, 164:320], none[22:180, 164:320])


def blank(tmp_path, height, width, **annotation):
    """A grey image with one object from (0.25, 0.25) to (0.75, 0.75) of its size."""
    path = tmp_path / f"{height}x{width}.png"
    cv2.imwrite(str(path), np.full((height, width, 3), 128, np.uint8))
    box = [0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]
    record = {"file_name": str(path), "height": height, "width": width}
    record["annotations"] = [{"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, **annotation}]
    return record


def frame_mask(height, width, hole=False):
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    if hole:
        mask[3 * height // 8 : 5 * height // 8, 3 * width // 8 : 5 * width // 8] = 0
    return mask


def segmentations(height, width):
    compressed = mask_util.encode(np.asfortranarray(frame_mask(height, width)))
    columns = frame_mask(height, width).flatten(order="F")
    changes = np.flatnonzero(np.diff(columns)) + 1
    counts = np.diff([0, *changes, len(columns)]).tolist()
    x0, y0, x1, y1 = width / 4, height / 4, 3 * width / 4, 3 * height / 4
    return {
        "polygon": [[x0, y0, x1, y0, x1, y1, x0, y1]],
        "rle": compressed,
        "counts": {"size": [height, width], "counts": counts},
        "bitmask": frame_mask(height, width),
    }


@pytest.mark.parametrize("size", [(40, 60), (900, 600)])
@pytest.mark.parametrize("kind", ["polygon", "rle", "counts", "bitmask"])
def test_every_mask_format_looks_the_same(tmp_path, kind, size):
    record = blank(tmp_path, *size, segmentation=segmentations(*size)[kind])
    picture = prediction_grid(
        [record], predictions([record], False, ()), MetadataCatalog.get("nowhere"), side=120
    )
    scale = 120 / max(size)
    height, width = round(size[0] * scale), round(size[1] * scale)
    assert picture.shape == (height + 22 + 8, 2 * width + 2 + 8, 3)
    truth = picture[22 : 22 + height, :width].astype(int)
    inside = truth[int(0.6 * height) : int(0.7 * height), int(0.6 * width) : int(0.7 * width)]
    outside = truth[int(0.85 * height) :, int(0.85 * width) :]
    assert np.abs(outside - 128).max() <= 2
    assert (inside[..., 0] > 150).all() and (inside[..., 1] < 120).all()  # the first class is red


def test_a_hole_stays_open(tmp_path):
    mask = frame_mask(80, 80, hole=True)
    record = blank(tmp_path, 80, 80, segmentation=mask_util.encode(np.asfortranarray(mask)))
    found = Instances((80, 80), pred_boxes=Boxes(torch.tensor([[20.0, 20, 60, 60]])))
    found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
    found.pred_masks = torch.from_numpy(mask)[None].bool()
    metadata = MetadataCatalog.get("nowhere")
    picture = prediction_grid([record], [{"instances": found}], metadata, side=160).astype(int)
    for left in (0, 162):
        half = picture[22:182, left : left + 160]
        assert np.abs(half[76:84, 76:84] - 128).max() <= 2
        assert (half[105:115, 105:115, 0] > 150).all()


def test_crowds_and_half_annotated_images(tmp_path):
    record = blank(tmp_path, 60, 60, segmentation=segmentations(60, 60)["polygon"])
    record["annotations"] += [{**record["annotations"][0], "segmentation": [], "category_id": 70}] * 30
    record["annotations"] += [{**record["annotations"][0], "iscrowd": 1}]
    picture = prediction_grid([record], predictions([record], False), MetadataCatalog.get("nowhere"))
    assert picture.shape[2] == 3
    del record["annotations"][0]["segmentation"]
    prediction_grid([record], predictions([record], True), MetadataCatalog.get("nowhere"))


def test_save_and_empty(dataset, tmp_path):
    records, metadata = DatasetCatalog.get(dataset), MetadataCatalog.get(dataset)
    save_prediction_grid(tmp_path / "a" / "p.png", records, predictions(records, True), metadata, side=64)
    saved = cv2.imread(str(tmp_path / "a" / "p.png"))[..., ::-1]
    assert np.array_equal(saved, prediction_grid(records, predictions(records, True), metadata, side=64))
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["p.png"]
    bare = [{k: v for k, v in r.items() if k != "annotations"} for r in records]
    prediction_grid(bare, predictions(records, True, scores=()), metadata, side=64)
    with pytest.raises(ValueError, match="no record"):
        prediction_grid([], [], metadata)
    with pytest.raises(ValueError, match="3 records with 2"):
        prediction_grid(records, predictions(records, True)[:2], metadata)


def write_lines(path, rows, tail=""):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n" + tail)
    return path


def test_metrics_after_a_resume_and_a_cut(tmp_path):
    lines = [{"iteration": i, "total_loss": 3.0 - i, "lr": 0.1} for i in range(3)]
    lines += [{"iteration": 2, "total_loss": 9.0, "bbox/AP": 50.0}]
    path = write_lines(tmp_path / "metrics.json", lines, '{"iteration": 3, "tot')
    series = read_metrics(path)
    assert series["total_loss"][1].tolist() == [3.0, 2.0, 9.0]
    assert series["bbox/AP"][0].tolist() == [2]
    plot_curves(path, tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")) is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.png", "metrics.json"]


def test_the_abandoned_part_is_left_out(tmp_path):
    lines = [{"iteration": i, "total_loss": 1.0} for i in (9, 19, 29, 39)]
    lines += [{"iteration": i, "total_loss": 2.0} for i in (19, 29)]
    series = read_metrics(write_lines(tmp_path / "metrics.json", lines, "7\n[]\n"))
    assert [s.tolist() for s in series["total_loss"]] == [[9, 19, 29], [1.0, 2.0, 2.0]]


def test_bytes_that_are_no_text_are_left_out(tmp_path):
    path = write_lines(tmp_path / "metrics.json", [{"iteration": 0, "total_loss": 1.0}])
    path.write_bytes(path.read_bytes() + b'{"iteration": 1, "a\x80\n{"iteration": 2, "total_loss": 3.0}\n')
    assert read_metrics(path)["total_loss"][1].tolist() == [1.0, 3.0]


def test_curves_change_with_the_metrics(tmp_path):
    def picture(**extra):
        rows = [{"iteration": i, "total_loss": 5 / (i + 1), "lr": 0.1 / (i + 1)} for i in range(90)]
        rows[-1].update(extra)
        plot_curves(write_lines(tmp_path / "metrics.json", rows), tmp_path / "curves.png")
        return cv2.imread(str(tmp_path / "curves.png"))

    plain = picture()
    pictures = [picture(**{name: 40.0}) for name in ("val_loss", "segm/AP", "ema/segm/AP", "loss_mask")]
    assert all(not np.array_equal(plain, p) for p in pictures)
    picture(**{"bbox/AP": math.nan})  # an evaluation without ground truth


def test_no_metrics_no_picture(tmp_path):
    plot_curves(tmp_path / "metrics.json", tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


RESULTS = {
    "bbox": {"AP": 51.234, "APs": float("nan"), "AP-disc": 1.0, "AP-a/b": 2.0},
    "ema": {"bbox": {"AP": 52.0}},
}


def test_results_are_strict_json(tmp_path):
    text = write_results(tmp_path / "results.json", RESULTS)
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "bbox/AP": 51.234,
        "bbox/APs": None,
        "bbox/AP-disc": 1.0,
        "bbox/AP-a/b": 2.0,
        "ema/bbox/AP": 52.0,
    }
    header, model, ema = text.splitlines()
    assert header.split() == ["AP", "APs"]
    assert model.split() == ["bbox", "51.23", "-"] and ema.split() == ["ema/bbox", "52.00", "-"]
    assert "AP-a/b" in table(flatten(RESULTS), per_class=True).splitlines()[0]
    assert flatten({"a": {"b": {"c": 1}}}) == {"a/b/c": 1.0}
    assert write_results(tmp_path / "results.json", {}) == "no results"


def test_results_are_numbers():
    with pytest.raises(TypeError, match="bbox/AP"):
        flatten({"bbox": {"AP": "high"}})


def test_a_metric_by_name():
    assert named_metric(RESULTS, "ema/bbox/AP") == named_metric(flatten(RESULTS), "ema/bbox/AP") == 52.0
    with pytest.raises(KeyError, match=r"segm/AP.*there are.*bbox/APs, ema/bbox/AP"):
        named_metric(RESULTS, "segm/AP")


@pytest.mark.parametrize(
    ("value", "best", "mode", "expected"),
    [
        (1.0, None, "max", True),
        (2.0, 1.0, "max", True),
        (1.0, 1.0, "max", False),
        (0.5, 1.0, "min", True),
        (2.0, 1.0, "min", False),
        (math.nan, None, "max", False),
    ],
)
def test_better(value, best, mode, expected):
    assert is_better(value, best, mode) is expected


def test_better_needs_a_direction():
    with pytest.raises(ValueError, match="max or min"):
        is_better(1.0, None, "up")
