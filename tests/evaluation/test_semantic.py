"""Scores of semantic maps made from the labels, and pictures of them."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from itpn_d2.data import PanopticMapper, read_labels, register_scenes
from itpn_d2.data.labels import read_segment_colours, segment_ids
from itpn_d2.evaluation import (
    PanopticEvaluator,
    SemanticEvaluator,
    flatten,
    save_prediction_grid,
    segmentation_grid,
    table,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def semantic(root):
    return register_scenes("semantic_val", "val", 3, 64, 2, root=root, task="semantic")


@pytest.fixture(scope="module")
def panoptic(root):
    return register_scenes("panoptic_val", "val", 3, 64, 2, root=root, task="panoptic")


def logits(labels, classes=6):
    return (
        torch.nn.functional.one_hot(torch.as_tensor(labels.astype(np.int64)), classes)
        .permute(2, 0, 1)
        .float()
    )


def segments(record):
    ids = torch.as_tensor(segment_ids(read_segment_colours(record["pan_seg_file_name"])))
    return ids, [
        dict(id=s["id"], isthing=s["isthing"], category_id=s["category_id"]) for s in record["segments"]
    ]


def run(evaluator, dataset, predict):
    evaluator.reset()
    for record in DatasetCatalog.get(dataset):
        evaluator.process([record], [predict(record)])
    return evaluator.evaluate()


def test_the_labels_score_100(semantic):
    found = run(SemanticEvaluator(semantic), semantic, lambda r: {"sem_seg": logits(read_labels(r))})[
        "sem_seg"
    ]
    assert found["mIoU"] == pytest.approx(100) and found["pACC"] == pytest.approx(100)
    assert found["IoU-background"] == pytest.approx(100)


def test_background_everywhere(semantic):
    everything = run(
        SemanticEvaluator(semantic), semantic, lambda r: {"sem_seg": logits(np.full((64, 64), 5, np.uint8))}
    )["sem_seg"]
    labels = np.stack([read_labels(r) for r in DatasetCatalog.get(semantic)])
    share = (labels == 5).mean()
    assert everything["IoU-background"] == pytest.approx(100 * share)
    assert everything["mIoU"] == pytest.approx(100 * share / len(np.unique(labels)))


def test_ignored_pixels_do_not_count(semantic, monkeypatch):
    def with_nothing_above(record):
        labels = read_labels(record)
        labels[:40] = 255
        return labels

    monkeypatch.setattr("itpn_d2.evaluation.semantic.read_labels", with_nothing_above)

    def wrong_above(record):
        labels = read_labels(record)
        labels[:40] = (labels[:40] + 1) % 6
        return {"sem_seg": logits(labels)}

    found = run(SemanticEvaluator(semantic), semantic, wrong_above)["sem_seg"]
    assert found["pACC"] == pytest.approx(100)


def test_a_prediction_of_another_size(semantic):
    evaluator = SemanticEvaluator(semantic)
    evaluator.reset()
    with pytest.raises(ValueError, match=r"\(32, 64\) pixels"):
        evaluator.process([DatasetCatalog.get(semantic)[0]], [{"sem_seg": torch.zeros(6, 32, 64)}])


@pytest.mark.parametrize("save", [True, False])
def test_predictions_are_kept_when_asked_for(semantic, tmp_path, save):
    run(
        SemanticEvaluator(semantic, str(tmp_path), save_predictions=save),
        semantic,
        lambda r: {"sem_seg": logits(read_labels(r))},
    )
    assert ((tmp_path / "sem_seg_predictions.json").stat().st_size > 10) == save


def test_one_table_of_results(semantic):
    found = run(SemanticEvaluator(semantic), semantic, lambda r: {"sem_seg": logits(read_labels(r))})
    flat = flatten(found)
    assert flat["sem_seg/mIoU"] == pytest.approx(100) and "sem_seg/IoU-star" in flat
    assert "mIoU" in table(flat) and "star" not in table(flat)


def test_panoptic_truth_scores_100(panoptic, tmp_path):
    evaluator = PanopticEvaluator(panoptic, str(tmp_path))
    found = run(evaluator, panoptic, lambda r: {"panoptic_seg": segments(r)})["panoptic_seg"]
    assert found["PQ"] == found["PQ_th"] == found["PQ_st"] == pytest.approx(100)


def test_background_alone_is_no_thing(panoptic):
    def background(record):
        return {
            "panoptic_seg": (
                torch.ones(64, 64, dtype=torch.int32),
                [dict(id=1, isthing=False, category_id=1)],
            )
        }

    found = run(PanopticEvaluator(panoptic), panoptic, background)["panoptic_seg"]
    assert found["PQ_th"] == 0 < found["PQ_st"] < 100


@pytest.mark.parametrize("kind", ["semantic", "panoptic"])
def test_picture(kind, semantic, panoptic, tmp_path):
    name = {"semantic": semantic, "panoptic": panoptic}[kind]
    records, metadata = DatasetCatalog.get(name), MetadataCatalog.get(name)

    def predict(record):
        if kind == "panoptic":
            return {"panoptic_seg": segments(record), "sem_seg": torch.zeros(2, 64, 64), "instances": None}
        return {"sem_seg": logits(read_labels(record))}

    found = segmentation_grid(records, [predict(r) for r in records], metadata, side=100)
    left, right = found[22:122, :100], found[22:122, 102:202]
    assert (left == right).mean() > 0.99  # the truth predicted is drawn as the truth
    assert len(np.unique(left.reshape(-1, 3), axis=0)) > 50
    save_prediction_grid(tmp_path / "x.png", records, [predict(r) for r in records], metadata, side=100)
    assert (cv2.imread(str(tmp_path / "x.png"))[..., ::-1] == found).all()
    with pytest.raises(ValueError, match="one for each"):
        segmentation_grid(records, [], metadata)


def test_samples_of_the_panoptic_mapper_and_the_evaluator_use_the_same_numbers(panoptic):
    metadata = MetadataCatalog.get(panoptic)
    record = DatasetCatalog.get(panoptic)[0]
    classes = set(PanopticMapper([])(record)["instances"].gt_classes.tolist())
    assert classes <= set(metadata.thing_dataset_id_to_contiguous_id.values())
    assert list(metadata.stuff_dataset_id_to_contiguous_id.values()) == [1]
