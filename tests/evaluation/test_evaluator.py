"""Average precision of detections made from the ground truth."""

import math

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools import mask as mask_util

from itpn_d2.data import register_scenes
from itpn_d2.evaluation import build_evaluator


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return register_scenes("evaluated_val", "val", 4, 64, 2, root=str(tmp_path_factory.mktemp("scenes")))


def bitmask(annotation, record):
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, record["height"], record["width"]))
    elif isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
    return torch.from_numpy(mask_util.decode(segmentation)).bool()


def truth(record, masks, keep=None):
    """The annotations of ``record`` as detections of score 1."""
    annotations = record["annotations"][:keep]
    found = Instances((record["height"], record["width"]))
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.scores = torch.ones(len(boxes))
    found.pred_classes = torch.tensor([a["category_id"] for a in annotations], dtype=torch.long)
    if masks:
        empty = torch.zeros(0, record["height"], record["width"], dtype=torch.bool)
        found.pred_masks = torch.stack([bitmask(a, record) for a in annotations]) if annotations else empty
    return found


def evaluate(evaluator, dataset, masks, keep=None):
    evaluator.reset()
    for record in DatasetCatalog.get(dataset):
        evaluator.process([record], [{"instances": truth(record, masks, keep)}])
    return evaluator.evaluate()


def test_the_ground_truth_scores_100(dataset):
    results = evaluate(build_evaluator(dataset), dataset, masks=True)
    assert list(results) == ["bbox", "segm"]
    for task in results.values():
        assert task["AP"] == pytest.approx(100) and task["AP50"] == pytest.approx(100)


def test_a_model_without_masks_gets_boxes_only(dataset):
    assert list(evaluate(build_evaluator(dataset), dataset, masks=False)) == ["bbox"]
    with pytest.raises(ValueError, match="leave segm out"):
        evaluate(build_evaluator(dataset, tasks=("bbox", "segm")), dataset, masks=False)


def test_chosen_tasks(dataset):
    assert list(evaluate(build_evaluator(dataset, tasks=["segm"]), dataset, masks=True)) == ["segm"]
    with pytest.raises(ValueError, match="keypoints"):
        build_evaluator(dataset, tasks=["keypoints"])


@pytest.mark.parametrize("masks", [True, False])
def test_no_detection_is_zero_where_there_was_something_to_find(dataset, masks):
    """Compared with one wrong detection, which pycocotools can evaluate."""
    empty = evaluate(build_evaluator(dataset), dataset, masks, keep=0)
    wrong = build_evaluator(dataset)
    wrong.reset()
    for i, record in enumerate(DatasetCatalog.get(dataset)):
        found = truth(record, masks, keep=1 if i == 0 else 0)
        if i == 0:  # a pixel in the corner
            found.pred_boxes.tensor[:] = torch.tensor([0.0, 0.0, 1.0, 1.0])
            if masks:
                found.pred_masks[:] = False
                found.pred_masks[:, 0, 0] = True
        wrong.process([record], [{"instances": found}])
    expected = wrong.evaluate()
    assert list(empty) == list(expected) == (["bbox", "segm"] if masks else ["bbox"])
    names = MetadataCatalog.get(dataset).thing_classes
    for task, metrics in expected.items():
        assert list(empty[task]) == list(metrics) and f"AP-{names[0]}" in metrics
        for name, value in metrics.items():
            if math.isnan(value):
                assert math.isnan(empty[task][name]), name
            else:
                assert value == empty[task][name] == 0.0, name


def test_no_image_at_all(dataset):
    evaluator = build_evaluator(dataset)
    evaluator.reset()
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == 0.0 and results["segm"]["AP"] == 0.0


def test_the_limit_of_detections(dataset):
    """120 wrong boxes of every class score above the right ones: a limit of 100 never sees those."""
    classes = range(len(MetadataCatalog.get(dataset).thing_classes))

    def score(limit):
        evaluator = build_evaluator(dataset, max_dets_per_image=limit)
        evaluator.reset()
        for record in DatasetCatalog.get(dataset):
            right = truth(record, masks=False)
            wrong = Instances(right.image_size)
            wrong.pred_classes = torch.tensor([c for c in classes for _ in range(120)])
            wrong.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, 1.0, 1.0]] * len(wrong.pred_classes)))
            wrong.scores = torch.ones(len(wrong.pred_classes))
            right.scores = torch.full((len(right),), 0.5)
            evaluator.process([record], [{"instances": Instances.cat([wrong, right])}])
        return evaluator.evaluate()["bbox"]["AP"]

    assert score(None) == score(100) == 0.0
    assert score(300) > 0.0
    with pytest.raises(ValueError, match="max_dets_per_image=9"):
        build_evaluator(dataset, max_dets_per_image=9)
