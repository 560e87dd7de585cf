"""What Mask DINO gives is what Detectron2's evaluators take: queries that are right reach the full score."""

import json

import cv2
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.evaluation import COCOEvaluator, SemSegEvaluator

from itpn_d2.data.scenes import CLASSES, generate_scenes
from itpn_d2.evaluation import PanopticEvaluator
from itpn_d2.meta_arch.dino.structures import Predictions
from itpn_d2.meta_arch.mask_dino import inference
from itpn_d2.meta_arch.mask_dino.targets import make_targets, mask_boxes

SIZE, THINGS = 64, len(CLASSES)
FRAMES = ((SIZE, SIZE), (SIZE, SIZE), (SIZE, SIZE))
NAME = "mask_dino_scenes"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Three scenes as a registered dataset, with the metadata of a panoptic one."""
    folder = generate_scenes(tmp_path_factory.mktemp("scenes"), "val", 3, SIZE, 7)
    source, pictures = str(folder / "instances.json"), str(folder / "images")
    records = load_coco_json(source, pictures, NAME)
    for record in records:
        record["sem_seg_file_name"] = record["file_name"].replace("/images/", "/sem_seg/")
        record["image_id"] = int(record["image_id"])
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(
        json_file=source,
        image_root=pictures,
        stuff_classes=[*CLASSES, "background"],
        ignore_label=255,
        panoptic_json=str(folder / "panoptic.json"),
        panoptic_root=str(folder / "panoptic"),
        stuff_dataset_id_to_contiguous_id={THINGS + 1: 1},  # 0 are all things
    )
    yield folder, records
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def truth(folder, record):
    """Classes and masks of all segments: things 0..4, the background 5."""
    annotations = json.loads((folder / "panoptic.json").read_text())["annotations"]
    found = next(a for a in annotations if a["image_id"] == record["image_id"])
    colours = cv2.imread(str(folder / "panoptic" / found["file_name"]))[..., ::-1].astype(int)
    ids = torch.from_numpy(colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2])
    classes = torch.tensor([s["category_id"] - 1 for s in found["segments_info"]])
    return classes, torch.stack([ids == s["id"] for s in found["segments_info"]])


def queries(classes, masks):
    """Sure of these objects, with one more query that is sure of nothing."""
    logits = torch.full((len(classes) + 1, THINGS + 1), -9.0)
    logits[torch.arange(len(classes)), classes] = 9.0
    corners = torch.cat((mask_boxes(masks), torch.tensor([[0.0, 0, SIZE, SIZE]]))) / SIZE
    boxes = torch.cat(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]), 1)
    filled = torch.cat((masks, torch.zeros_like(masks[:1]))).float() * 40 - 20
    return Predictions(logits, boxes), filled


def run(evaluator, scenes, output):
    folder, records = scenes
    evaluator.reset()
    for record in records:
        evaluator.process([record], [output(*queries(*truth(folder, record)))])
    return evaluator.evaluate()


def test_instances(scenes, tmp_path):
    evaluator = COCOEvaluator(NAME, ("bbox", "segm"), False, str(tmp_path), use_fast_impl=False)

    def output(found, masks):
        things = found.logits[:, :THINGS]
        return {"instances": inference.instances(things, found.boxes, masks, FRAMES, 30)}

    results = run(evaluator, scenes, output)
    assert results["segm"]["AP"] == pytest.approx(100, abs=0.1)
    assert results["bbox"]["AP"] == pytest.approx(100, abs=0.1)


def test_semantic(scenes, tmp_path):
    evaluator = SemSegEvaluator(NAME, distributed=False, output_dir=str(tmp_path))
    evaluator._contiguous_id_to_dataset_id = None  # those of the panoptic set are other numbers
    results = run(
        evaluator, scenes, lambda found, masks: {"sem_seg": inference.semantic(found.logits, masks, FRAMES)}
    )
    assert results["sem_seg"]["pACC"] == pytest.approx(100)
    assert results["sem_seg"]["fwIoU"] == pytest.approx(100)


def test_panoptic(scenes, tmp_path):
    evaluator = PanopticEvaluator(NAME, str(tmp_path))
    results = run(
        evaluator,
        scenes,
        lambda found, masks: {"panoptic_seg": inference.panoptic(found.logits, masks, FRAMES, THINGS)},
    )
    found = results["panoptic_seg"]
    assert found["PQ"] == pytest.approx(100) and found["PQ_th"] == found["PQ_st"] == pytest.approx(100)


def test_targets_of_a_scene(scenes):
    """Instances and a map of stuff together are the segments of the panoptic truth."""
    from detectron2.data.detection_utils import annotations_to_instances

    folder, records = scenes
    for record in records:
        classes, masks = truth(folder, record)
        annotations = [{k: v for k, v in a.items() if k != "keypoints"} for a in record["annotations"]]
        instances = annotations_to_instances(annotations, (SIZE, SIZE), mask_format="bitmask")
        labels = torch.from_numpy(cv2.imread(record["sem_seg_file_name"], cv2.IMREAD_GRAYSCALE)).long()
        labels = torch.where(labels == THINGS, 1, 0)
        given = {"instances": instances, "sem_seg": labels}
        found = make_targets(given, "panoptic", (SIZE, SIZE), THINGS + 1, THINGS, torch.device("cpu"))
        assert torch.equal(found.classes, classes)
        assert torch.equal(found.masks, masks)
