"""Panoptic quality is Detectron2's, but for images that share a name."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator

from itpn_d2.data import register_scenes
from itpn_d2.data.labels import read_segment_colours, segment_ids
from itpn_d2.evaluation import PanopticEvaluator, flatten

NAME = "panoptic_evaluator_val"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return register_scenes(NAME, "val", 4, 64, 2, root=str(tmp_path_factory.mktemp("s")), task="panoptic")


def guess(record, rng):
    """The true segments, of which some have another class and all a part cut off."""
    numbers = segment_ids(read_segment_colours(record["pan_seg_file_name"])).astype(np.int32)
    numbers[: rng.integers(1, 30)] = 0
    segments = []
    for segment in record["segments"]:
        category = segment["category_id"]
        if segment["isthing"] and rng.random() < 0.5:
            category = int(rng.integers(0, 4))
        segments.append(dict(id=segment["id"], isthing=segment["isthing"], category_id=category))
    return torch.as_tensor(numbers), [s for s in segments if (numbers == s["id"]).any()]


def measured(evaluator, records, outputs):
    evaluator.reset()
    for record, output in zip(records, outputs, strict=True):
        evaluator.process([record], [{"panoptic_seg": copy.deepcopy(output)}])
    return evaluator.evaluate()["panoptic_seg"]


@pytest.mark.parametrize("seed", range(3))
def test_numbers_are_those_of_detectron2(dataset, seed, tmp_path):
    source = Path(importlib.util.find_spec("detectron2.evaluation.panoptic_evaluation").origin).read_text()
    if "from panopticapi" in source and importlib.util.find_spec("panopticapi") is None:
        pytest.skip("this Detectron2 needs panopticapi")
    records, rng = DatasetCatalog.get(dataset), np.random.default_rng(seed)
    outputs = [guess(record, rng) for record in records]
    found = measured(PanopticEvaluator(dataset, str(tmp_path)), records, outputs)
    assert found == measured(COCOPanopticEvaluator(dataset), records, outputs) and 0 < found["PQ"] < 100
    assert set(PanopticEvaluator(dataset).metric_names()) == flatten({"panoptic_seg": found}).keys()
    assert (tmp_path / "predictions.json").is_file()


def test_images_of_one_name_in_two_folders(dataset):
    """Each has its own prediction."""
    records = copy.deepcopy(DatasetCatalog.get(dataset))
    for index, record in enumerate(records):
        record["file_name"] = f"folder_{index}/{'A' if index == 3 else 'a'}.jpg"
    outputs = []
    for record in records:
        numbers = segment_ids(read_segment_colours(record["pan_seg_file_name"])).astype(np.int32)
        outputs.append((torch.as_tensor(numbers), [dict(s) for s in record["segments"]]))
    assert measured(PanopticEvaluator(dataset), records, outputs)["PQ"] == pytest.approx(100)


def test_a_map_of_labels_without_a_list(dataset):
    """Of a model that numbers its segments category * divisor + instance, by the set's own categories."""
    metadata = MetadataCatalog.get(dataset)
    metadata.label_divisor = 1000
    own = {v: k for k, v in metadata.thing_dataset_id_to_contiguous_id.items()}
    stuff = {v: k for k, v in metadata.stuff_dataset_id_to_contiguous_id.items()}
    records, outputs = DatasetCatalog.get(dataset), []
    evaluator = PanopticEvaluator(dataset)
    for record in records:
        numbers = segment_ids(read_segment_colours(record["pan_seg_file_name"])).astype(np.int32)
        labels = np.full_like(numbers, -1)
        for count, segment in enumerate(record["segments"]):
            labels[numbers == segment["id"]] = segment["category_id"] * 1000 + count
        outputs.append((torch.as_tensor(labels), None))
    evaluator.reset()
    evaluator.process([records[0]], [{"panoptic_seg": outputs[0]}])
    (entry,) = evaluator._predictions
    things = metadata.thing_dataset_id_to_contiguous_id.values()
    expected = []
    for count, segment in enumerate(records[0]["segments"]):
        table = own if segment["category_id"] in things else stuff
        expected.append((segment["category_id"] * 1000 + count + 1, table[segment["category_id"]]))
    assert sorted((s["id"], s["category_id"]) for s in entry["segments_info"]) == sorted(expected)
