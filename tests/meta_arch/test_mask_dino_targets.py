"""Targets of Mask DINO in its three tasks."""

import pytest
import torch
from detectron2.structures import PolygonMasks

from itpn_d2.meta_arch.mask_dino.targets import make_targets, mask_boxes
from tests.meta_arch.small_dino import labelled, record

CPU = torch.device("cpu")


def test_boxes_of_masks():
    masks = torch.zeros(4, 6, 8, dtype=torch.bool)
    masks[0, 1:4, 2:7] = True
    masks[1] = True
    masks[2, 5, 0] = True
    assert mask_boxes(masks).tolist() == [[2, 1, 7, 4], [0, 0, 8, 6], [0, 5, 1, 6], [0, 0, 0, 0]]
    assert mask_boxes(masks[:0]).shape == (0, 4)


def test_targets_of_instances():
    found = make_targets(record(), "instance", (64, 128), 3, 3, CPU)
    assert found.classes.tolist() == [1, 2] and found.masks.shape == (2, 64, 128)
    torch.testing.assert_close(found.boxes[0], torch.tensor([24 / 96, 28 / 64, 32 / 96, 40 / 64]))
    assert int(found.masks[0].sum()) == 32 * 40


def test_targets_of_polygons():
    item = record(masks=False)
    polygon = [[8.0, 8, 40, 8, 40, 48, 8, 48]]
    item["instances"].gt_masks = PolygonMasks([polygon, polygon])
    found = make_targets(item, "instance", (64, 96), 3, 3, CPU)
    assert found.masks.dtype == torch.bool and abs(int(found.masks[0].sum()) - 32 * 40) < 80


def test_targets_of_a_semantic_map():
    item = labelled(record(), "semantic")
    found = make_targets(item, "semantic", (64, 96), 3, 3, CPU)
    assert found.classes.tolist() == [1, 2]
    assert not (found.masks[:, :4, :4]).any()
    assert torch.equal(found.masks[1], item["sem_seg"] == 2)
    torch.testing.assert_close(found.boxes[0, 2:], torch.tensor([48 / 96, 1.0]))


def test_targets_of_both():
    """Things keep their numbers, stuff comes after them."""
    item = labelled(record(), "panoptic")
    found = make_targets(item, "panoptic", (64, 96), 5, 3, CPU)
    assert found.classes.tolist() == [1, 2, 3, 4]
    assert torch.equal(found.masks[2], item["sem_seg"] == 1)
    assert torch.equal(found.masks[3], item["sem_seg"] == 2)
    item["sem_seg"][:] = 3  # a number of no class
    assert make_targets(item, "panoptic", (64, 96), 5, 3, CPU).classes.tolist() == [1, 2]


@pytest.mark.parametrize(
    "task, key", [("instance", "instances"), ("semantic", "sem_seg"), ("panoptic", "sem_seg")]
)
def test_missing_truth_is_named(task, key):
    item = record()
    if task == "instance":
        del item["instances"]
    with pytest.raises(ValueError, match=f"needs '{key}'"):
        make_targets({**item, "file_name": "a.png"}, task, (64, 96), 3, 3, CPU)


def test_missing_masks_are_named():
    with pytest.raises(ValueError, match="use_instance_mask"):
        make_targets(record(masks=False), "instance", (64, 96), 3, 3, CPU)
