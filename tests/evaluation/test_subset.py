"""Evaluation on some of the images."""

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator, SemSegEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from torch.utils.data import DataLoader

from itpn_d2.data import register_scenes
from itpn_d2.evaluation import build_evaluator, restricted, spread


def test_images_are_spread_over_the_dataset():
    loader = DataLoader(list(range(10)), batch_size=2, collate_fn=list)
    assert [x for batch in spread(loader, 4) for x in batch] == [0, 2, 5, 7]
    assert len(spread(loader, 99)) == 5
    with pytest.raises(ValueError, match="nothing to evaluate"):
        spread(loader, 0)


def test_only_what_was_given_counts(tmp_path):
    """A perfect answer for half of the images is perfect, and half as good for all of them."""
    name = register_scenes("subset_val", "val", 4, 64, 3, root=str(tmp_path))
    found = {}
    for restrict in (False, True):
        evaluator = build_evaluator(name, tasks=["bbox"])
        evaluator = restricted(evaluator) if restrict else evaluator
        evaluator.reset()
        for record in DatasetCatalog.get(name)[::2]:
            annotations = record["annotations"]
            boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
            answer = Instances((64, 64), pred_boxes=Boxes(torch.tensor(boxes)))
            answer.scores = torch.ones(len(boxes))
            answer.pred_classes = torch.tensor([a["category_id"] for a in annotations])
            evaluator.process([record], [{"instances": answer}])
        found[restrict] = evaluator.evaluate()["bbox"]["AP50"]
    assert found[True] == pytest.approx(100) and found[False] < 90


def test_an_evaluator_of_the_whole_dataset_is_refused():
    class Whole(DatasetEvaluator):
        def evaluate(self):
            return {}

    with pytest.raises(ValueError, match="Whole compares with the whole dataset"):
        restricted(Whole())


def test_semantic_segmentation_adds_up_what_it_is_given(monkeypatch):
    monkeypatch.setattr(SemSegEvaluator, "__init__", lambda self: None)
    evaluator = SemSegEvaluator()
    assert restricted(evaluator) is evaluator
