"""Predictions that each process keeps and matches: the numbers of one, and of Detectron2's evaluator."""

import json
import math

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from itpn_d2.data import register_scenes
from itpn_d2.errors import OutputError
from itpn_d2.evaluation import build_evaluator
from itpn_d2.evaluation.spill import Spill, write_list
from tests.engine.forked import forked
from tests.evaluation.test_evaluator import truth


def predicted(record, number):
    """The truth, shifted at random, with another class here and there, and scores of which many are equal."""
    found = truth(record, masks=True)
    generator = torch.Generator().manual_seed(number)
    twice = Instances.cat([found, found])
    twice.pred_boxes = Boxes(
        twice.pred_boxes.tensor + torch.randn(len(twice), 4, generator=generator) * torch.tensor(2.0)
    )
    twice.pred_masks = twice.pred_masks.roll(int(torch.randint(0, 4, (), generator=generator)), -1)
    twice.scores = torch.randint(1, 4, (len(twice),), generator=generator) / 4
    swapped = torch.rand(len(twice), generator=generator) < 0.2
    twice.pred_classes[swapped] = 0
    return twice


def registered(root):
    return register_scenes("matched_val", "val", 7, 64, 5, root=str(root))


def measured(root, out, kind=build_evaluator, left_out=0, step=1, start=0):
    """By an evaluator that is given every ``step``-th image, but for the first ``left_out``."""
    name = registered(root)
    options = {} if kind is build_evaluator else {"use_fast_impl": False, "tasks": ("bbox", "segm")}
    evaluator = kind(name, output_dir=str(out), **options)
    evaluator.reset()
    for number, record in list(enumerate(DatasetCatalog.get(name)))[left_out + start :: step]:
        evaluator.process([record], [{"instances": predicted(record, number)}])
    return evaluator.evaluate()


def same(one, other):
    assert list(one) == list(other) and one
    for task, metrics in one.items():
        assert list(metrics) == list(other[task])
        for name, value in metrics.items():
            assert value == other[task][name] or (math.isnan(value) and math.isnan(other[task][name])), name


@pytest.mark.parametrize("left_out", [0, 2, 6])
def test_the_numbers_of_detectron2_on_one_process_and_on_two(tmp_path, left_out):
    """Also where images were not processed; with six left out, the second process has none."""
    stock = measured(tmp_path / "data", tmp_path / "stock", COCOEvaluator, left_out)
    assert 5 < stock["bbox"]["AP"] < 95 or left_out == 6
    same(measured(tmp_path / "data", tmp_path / "one", left_out=left_out), stock)

    def share():
        folder = tmp_path / "two"
        return measured(
            tmp_path / "data", folder, left_out=left_out, step=comm.get_world_size(), start=comm.get_rank()
        )

    main, other = forked(2, share, tmp_path)
    same(main, stock)
    assert not other
    folders = [tmp_path / name for name in ("stock", "one", "two")]
    lists = [json.loads((folder / "coco_instances_results.json").read_text()) for folder in folders]
    assert lists[1] == lists[0] and len(lists[2]) == len(lists[0])
    assert all(result in lists[0] for result in lists[2])
    # of what waited on the disk nothing is left
    assert [path.name for path in folders[2].iterdir()] == ["coco_instances_results.json"]


def test_an_image_that_both_have_seen_counts_once(tmp_path):
    alone = measured(tmp_path / "data", tmp_path / "one")
    main, _ = forked(2, lambda: measured(tmp_path / "data", tmp_path / "two"), tmp_path)
    same(main, alone)
    assert len(json.loads((tmp_path / "two" / "coco_instances_results.json").read_text())) == len(
        json.loads((tmp_path / "one" / "coco_instances_results.json").read_text())
    )


def test_large_lists_come_in_pieces(tmp_path, monkeypatch):
    def write():
        from itpn_d2.evaluation import spill

        spill._PIECE = 20
        own = Spill(str(tmp_path))
        own.add({"rank": comm.get_rank(), "number": n} for n in range(9 * comm.get_rank()))
        write_list(tmp_path / "all.json", own)
        return own.count

    assert forked(3, write, tmp_path) == [0, 9, 18]
    found = json.loads((tmp_path / "all.json").read_text())
    assert found == [{"rank": rank, "number": n} for rank in range(3) for n in range(9 * rank)]


def test_the_main_process_keeps_no_masks(tmp_path):
    """What the processes exchange to add up does not grow with the masks."""
    name = registered(tmp_path / "data")
    evaluator = build_evaluator(name)
    evaluator.reset()
    for number, record in enumerate(DatasetCatalog.get(name)):
        evaluator.process([record], [{"instances": predicted(record, number)}])
    held = [v for k, v in vars(evaluator).items() if k != "_metadata" and v]
    assert evaluator._spill.count > 20 and "counts" not in str(held)


def test_a_full_disk_is_said(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="taken.*can't be written"):
        Spill(str(tmp_path / "taken"))
