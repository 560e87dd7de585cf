"""Panoptic quality of the module that the Detectron2 wheel uses where panopticapi is absent."""

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from itpn_d2.detectron2_wheel.added import panoptic_api

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("panopticapi") is not None,
    reason="the module hands on the installed panopticapi",
)

CAR, PERSON, SKY = 1, 2, 10
CATEGORIES = [{"id": CAR, "isthing": 1}, {"id": PERSON, "isthing": 1}, {"id": SKY, "isthing": 0}]
Segment = tuple[int, int, int]  # id, category, iscrowd


def write_split(
    folder: Path, name: str, ids: np.ndarray, segments: list[Segment], file: str = "a.png"
) -> str:
    """A json ``name.json`` of one image and its PNG of segment ids ``(h, w)`` in the folder ``name``."""
    (folder / name).mkdir()
    Image.fromarray(panoptic_api.id2rgb(ids)).save(folder / name / file)
    infos = [{"id": i, "category_id": c, "iscrowd": crowd} for i, c, crowd in segments]
    annotations = [{"image_id": 7, "file_name": file, "segments_info": infos}]
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"annotations": annotations, "categories": CATEGORIES}))
    return str(path)


def quality(
    tmp_path: Path, gt: np.ndarray, gt_segments: list[Segment], pred: np.ndarray, pred_segments: list[Segment]
) -> dict[str, Any]:
    return panoptic_api.pq_compute(
        write_split(tmp_path, "gt", gt, gt_segments), write_split(tmp_path, "pred", pred, pred_segments)
    )


def strip(*runs: tuple[int, int]) -> np.ndarray:
    """A one-pixel-high id map ``(1, w)`` of runs ``(id, length)``."""
    return np.concatenate([np.full(length, i) for i, length in runs])[None]


@pytest.mark.parametrize("ids", [0, 255, 256, 65536, 256**3 - 1])
def test_colours_round_trip(ids: int) -> None:
    assert panoptic_api.rgb2id(panoptic_api.id2rgb(ids)) == ids
    image = np.full((2, 3), ids)
    colours = panoptic_api.id2rgb(image)
    assert colours.shape == (2, 3, 3) and colours.dtype == np.uint8
    assert (panoptic_api.rgb2id(colours) == image).all()


def test_red_is_the_lowest_byte() -> None:
    assert panoptic_api.id2rgb(1 + 2 * 256 + 3 * 65536) == [1, 2, 3]


def test_perfect_prediction(tmp_path: Path) -> None:
    ids = strip((300, 5), (4, 5))
    result = quality(tmp_path, ids, [(300, CAR, 0), (4, SKY, 0)], ids, [(300, CAR, 0), (4, SKY, 0)])
    assert result["All"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 2}
    assert result["Things"]["n"] == result["Stuff"]["n"] == 1


def test_counts_by_hand(tmp_path: Path) -> None:
    # Car 1 is matched with IoU 6/8; car 2 is missed and its pixels called a person; the sky is matched fully.
    gt = strip((1, 8), (2, 4), (3, 8))
    pred = strip((5, 6), (6, 6), (3, 8))
    result = quality(
        tmp_path,
        gt,
        [(1, CAR, 0), (2, CAR, 0), (3, SKY, 0)],
        pred,
        [(5, CAR, 0), (6, PERSON, 0), (3, SKY, 0)],
    )
    iou = 6 / 8
    assert result["per_class"][CAR] == pytest.approx({"pq": iou / 1.5, "sq": iou, "rq": 1 / 1.5})
    assert result["per_class"][PERSON] == {"pq": 0.0, "sq": 0.0, "rq": 0.0}  # one false positive
    assert result["Things"]["n"] == 2 and result["Things"]["pq"] == pytest.approx(iou / 1.5 / 2)
    assert result["Stuff"]["pq"] == 1.0


def test_a_half_overlap_is_no_match(tmp_path: Path) -> None:
    gt, pred = strip((1, 8), (3, 8)), strip((1, 4), (3, 12))
    result = quality(tmp_path, gt, [(1, CAR, 0), (3, SKY, 0)], pred, [(1, CAR, 0), (3, SKY, 0)])
    assert result["per_class"][CAR]["pq"] == 0.0
    assert result["per_class"][SKY]["pq"] == pytest.approx(8 / 12)


def test_void_pixels_do_not_count_against_a_prediction(tmp_path: Path) -> None:
    gt, pred = strip((1, 8), (0, 8)), strip((1, 12), (2, 4))
    result = quality(tmp_path, gt, [(1, CAR, 0)], pred, [(1, CAR, 0), (2, PERSON, 0)])
    assert result["per_class"][CAR]["pq"] == 1.0
    assert result["All"]["n"] == 1  # the person lies in void: no false positive


@pytest.mark.parametrize(("category", "counted"), [(CAR, 1), (PERSON, 2)])
def test_a_crowd_absorbs_predictions_of_its_category(tmp_path: Path, category: int, counted: int) -> None:
    gt, pred = strip((1, 8), (3, 8)), strip((2, 8), (3, 8))
    result = quality(tmp_path, gt, [(1, CAR, 1), (3, SKY, 0)], pred, [(2, category, 0), (3, SKY, 0)])
    assert result["All"]["n"] == counted


def test_kind_without_any_segment_is_nan(tmp_path: Path) -> None:
    ids = strip((1, 4))
    result = quality(tmp_path, ids, [(1, CAR, 0)], ids, [(1, CAR, 0)])
    assert result["Stuff"]["n"] == 0 and math.isnan(result["Stuff"]["pq"])


@pytest.mark.parametrize(
    ("pred", "segments", "message"),
    [
        (strip((1, 8)), [(1, CAR, 0), (2, CAR, 0)], "segment 2 is in the json but has no pixel"),
        (strip((1, 4), (2, 4)), [(1, CAR, 0)], "segment 2 is in the PNG but not in the json"),
        (strip((1, 8)), [(1, 99, 0)], "undeclared category 99"),
        (strip((1, 9)), [(1, CAR, 0)], r"prediction is \(1, 9\), the ground truth \(1, 8\)"),
    ],
)
def test_contradictions_are_named(
    tmp_path: Path, pred: np.ndarray, segments: list[Segment], message: str
) -> None:
    with pytest.raises((KeyError, ValueError), match=message):
        quality(tmp_path, strip((1, 8)), [(1, CAR, 0)], pred, segments)


def test_missing_prediction_is_named(tmp_path: Path) -> None:
    gt = write_split(tmp_path, "gt", strip((1, 8)), [(1, CAR, 0)])
    pred = tmp_path / "pred.json"
    pred.write_text(json.dumps({"annotations": []}))
    with pytest.raises(KeyError, match="no prediction for image_id 7"):
        panoptic_api.pq_compute(gt, str(pred))
