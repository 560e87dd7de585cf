"""What a model found can be seen where it is, in the colour of its class."""

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances

from itpn_d2.evaluation import draw_labels, draw_prediction

GREY = np.full((60, 90, 3), 128, np.uint8)
COLOURS = {"thing_colors": [(0, 0, 255), (0, 255, 0)], "stuff_colors": [(255, 0, 0), (0, 0, 255)]}
METADATA = Metadata(thing_classes=["cat", "dog"], stuff_classes=["sky", "sea"], **COLOURS)


def instances(size=(60, 90), **fields):
    found = Instances(size, pred_boxes=Boxes(torch.tensor([[10.0, 10, 40, 50], [60, 10, 80, 50]])))
    found.scores, found.pred_classes = torch.tensor([0.9, 0.3]), torch.tensor([1, 0])
    for name, value in fields.items():
        found.set(name, value)
    return {"instances": found}


def masks():
    both = torch.zeros(2, 60, 90, dtype=torch.bool)
    both[0, 10:50, 10:40], both[1, 10:50, 60:80] = True, True
    return both


def strongest(picture, rows, columns):
    """Which of R, G, B is the largest in the mean of a part."""
    return "RGB"[int(picture[rows, columns].reshape(-1, 3).mean(0).argmax())]


def test_instances_in_the_colours_of_the_dataset():
    output = instances(pred_masks=masks())
    drawn = draw_prediction(GREY, output, METADATA, 0.2)
    assert drawn.shape == GREY.shape and drawn.dtype == np.uint8
    assert strongest(drawn, slice(35, 45), slice(15, 35)) == "G"
    assert strongest(drawn, slice(35, 45), slice(64, 76)) == "B"
    above = draw_prediction(GREY, output, METADATA, 0.5)
    assert (above[35:45, 64:76] == 128).all() and strongest(above, slice(35, 45), slice(15, 35)) == "G"
    assert (GREY == 128).all()


def test_small_pictures_are_enlarged():
    drawn = draw_prediction(GREY, instances(pred_masks=masks()), METADATA, 0.2, min_side=180)
    assert drawn.shape == (120, 180, 3)
    assert strongest(drawn, slice(70, 90), slice(30, 70)) == "G"


def test_keypoints_are_marked():
    points = torch.tensor([[[20.0, 20, 0.9]], [[70, 30, 0.9]]])
    metadata = Metadata(thing_classes=["cat", "dog"], keypoint_names=["nose"], keypoint_connection_rules=[])
    drawn = draw_prediction(GREY, instances(pred_keypoints=points), metadata, 0.5).astype(int)
    plain = draw_prediction(GREY, instances(), metadata, 0.5).astype(int)
    change = np.abs(drawn - plain).sum(-1)
    assert change[18:23, 18:23].sum() > 0 and change[26:34, 66:74].sum() == 0


def test_semantic():
    scores = torch.zeros(2, 60, 90)
    scores[0], scores[1, :, 45:] = 0.5, 0.9
    drawn = draw_prediction(GREY, {"sem_seg": scores}, METADATA)
    assert strongest(drawn, slice(50, 58), slice(2, 30)) == "R"
    assert strongest(drawn, slice(50, 58), slice(60, 88)) == "B"


def test_ignored_pixels_stay():
    labels = np.full((60, 90), 255)
    labels[:, :45] = 1
    drawn = draw_labels(GREY, labels, METADATA, ignored=255)
    assert strongest(drawn, slice(50, 58), slice(2, 30)) == "B" and (drawn[:, 50:] == 128).all()


def test_panoptic_tells_things_from_stuff():
    ids = torch.zeros(60, 90, dtype=torch.int32)
    ids[:, :30], ids[:, 60:] = 1, 2
    segments = [{"id": 1, "isthing": True, "category_id": 1}, {"id": 2, "isthing": False, "category_id": 0}]
    drawn = draw_prediction(GREY, {"panoptic_seg": (ids, segments)}, METADATA)
    assert strongest(drawn, slice(50, 58), slice(2, 28)) == "G"
    assert strongest(drawn, slice(50, 58), slice(62, 88)) == "R"
    assert (drawn[50:58, 35:55] == 128).all()


def test_classes_of_a_picture():
    drawn = draw_prediction(GREY, {"scores": torch.tensor([0.2, 0.8])}, METADATA, min_side=200)
    assert (
        drawn.shape == (133, 200, 3) and (drawn[:60, :100] != 128).any() and (drawn[-20:, -20:] == 128).all()
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 3000), (3000, 2)])
@pytest.mark.parametrize("min_side", [0, 480])
def test_odd_shapes(size, min_side):
    image = np.full((*size, 3), 128, np.uint8)
    found = Instances(size, pred_boxes=Boxes(torch.tensor([[0.0, 0, size[1], size[0]]])))
    found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
    found.pred_masks = torch.ones(1, *size, dtype=torch.bool)
    drawn = draw_prediction(
        image, {"instances": found, "sem_seg": torch.rand(2, *size)}, METADATA, 0.5, min_side
    )
    assert drawn.dtype == np.uint8 and max(drawn.shape[:2]) == max(min_side, *size)


def test_classes_without_names():
    drawn = draw_prediction(GREY, {**instances(), "sem_seg": torch.rand(7, 60, 90)}, Metadata(), 0.5)
    assert (drawn != 128).any()
