"""Average precision of keypoints made from the ground truth."""

import json
import math

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from itpn_d2.data import DatasetError, check_coco, register_coco, register_scenes
from itpn_d2.data.catalogs import dataset_facts
from itpn_d2.data.scenes import generate_scenes
from itpn_d2.evaluation import build_evaluator, prediction_grid


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def dataset(root):
    return register_scenes("keypoints_val", "val", 4, 96, 2, root=str(root), task="keypoints")


def truth(record, off=0.0, keypoints=True):
    found = Instances((record["height"], record["width"]))
    annotations = record["annotations"]
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    found.scores = torch.ones(len(boxes))
    found.pred_classes = torch.tensor([a["category_id"] for a in annotations])
    if keypoints:
        points = torch.tensor([a["keypoints"] for a in annotations], dtype=torch.float32).view(-1, 4, 3)
        points[..., :2] += off
        unlabelled = points[..., 2].sum(1) == 0  # these are ignored where they lie within the box
        points[unlabelled, :, :2] = found.pred_boxes.get_centers()[unlabelled][:, None]
        found.pred_keypoints = points
    return found


def evaluate(dataset, off=0.0, keypoints=True, **options):
    evaluator = build_evaluator(dataset, **options)
    evaluator.reset()
    for record in DatasetCatalog.get(dataset):
        evaluator.process([record], [{"instances": truth(record, off, keypoints)}])
    return evaluator.evaluate()


def test_the_truth_scores_100_and_distance_costs(dataset):
    found = [evaluate(dataset, off, tasks=["keypoints"])["keypoints"]["AP"] for off in (0.0, 1.0, 20.0)]
    assert found[0] == pytest.approx(100) and 5 < found[1] < 95 and found[2] < 1


def test_tasks_follow_dataset_and_model(dataset, root):
    assert list(evaluate(dataset)) == ["bbox", "keypoints"]  # no masks predicted
    assert list(evaluate(dataset, keypoints=False)) == ["bbox"]
    with pytest.raises(ValueError, match="no keypoints; leave keypoints out"):
        evaluate(dataset, keypoints=False, tasks=["bbox", "keypoints"])
    plain = register_scenes("plain_val", "val", 4, 96, 2, root=str(root))
    with pytest.raises(ValueError, match="has no keypoints"):
        build_evaluator(plain, tasks=["keypoints"])


def test_sigmas(dataset):
    strict = evaluate(dataset, 2.0, keypoint_sigmas=[0.02] * 4)["keypoints"]["AP"]
    lenient = evaluate(dataset, 2.0, keypoint_sigmas=[0.2] * 4)["keypoints"]["AP"]
    assert strict < lenient
    with pytest.raises(ValueError, match="has 4 keypoints, but keypoint_sigmas has 3"):
        build_evaluator(dataset, keypoint_sigmas=[0.1] * 3)


def test_no_detection_is_zero(dataset):
    evaluator = build_evaluator(dataset, tasks=["bbox", "keypoints"])
    evaluator.reset()
    for record in DatasetCatalog.get(dataset):
        empty = truth(record)[torch.zeros(len(record["annotations"]), dtype=torch.bool)]
        evaluator.process([record], [{"instances": empty}])
    found = evaluator.evaluate()["keypoints"]
    assert found["AP"] == 0.0 and "APs" not in found
    assert all(v == 0.0 or math.isnan(v) for v in found.values())


def test_pictures_have_dots_for_a_model_with_keypoints_only(dataset):
    records = DatasetCatalog.get(dataset)[:1]
    metadata = MetadataCatalog.get(dataset)
    plain, dotted = (
        prediction_grid(records, [{"instances": truth(records[0], keypoints=k)}], metadata)
        for k in (False, True)
    )
    assert plain.shape == dotted.shape and (plain != dotted).any()


@pytest.fixture
def custom(root, tmp_path):
    folder = generate_scenes(root, "val", 4, 96, 2)
    return folder, json.loads((folder / "instances.json").read_text()), tmp_path / "data.json"


def test_custom_json(custom):
    folder, data, path = custom
    for annotation in data["annotations"]:  # what other tools leave out
        del annotation["num_keypoints"], annotation["area"], annotation["iscrowd"]
    del data["annotations"][0]["keypoints"]
    path.write_text(json.dumps(data))
    name = register_coco("custom_keypoints_val", str(path), str(folder / "images"))
    facts = dataset_facts(name)
    assert facts["num_keypoints"] == 4 and facts["keypoint_flip"] == [0, 3, 2, 1]
    annotations = [a for r in DatasetCatalog.get(name) for a in r["annotations"]]
    assert sum(not any(a["keypoints"][2::3]) for a in annotations) >= 1
    assert evaluate(name)["keypoints"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([1, 2, 2], "three numbers for each of its category's 4"),
        ([1, 2, 5] * 4, "0 .absent., 1"),
        ("x", "three numbers"),
    ],
)
def test_bad_keypoints_are_named(custom, points, words):
    folder, data, path = custom
    data["annotations"][0]["keypoints"] = points
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=words):
        check_coco(path, folder / "images")
    kept = check_coco(path, folder / "images", skip_bad_records=True)
    assert kept.counts() == {"bad keypoints": 1}


def test_categories_with_other_keypoints(custom):
    folder, data, path = custom
    data["categories"][1]["keypoints"] = ["nose"]
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="other keypoints"):
        check_coco(path, folder / "images")
