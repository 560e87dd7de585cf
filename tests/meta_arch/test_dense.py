"""One-stage detectors: images on which there is nothing, and bfloat16."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.fcos import FCOSHead
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage

from itpn_d2 import create_model
from itpn_d2.meta_arch import FCOS

LEVELS = ("p3", "p4", "p5", "p6", "p7")


def model():
    torch.manual_seed(0)
    backbone = create_model(
        "fast_itpn_nano",
        pyramid=True,
        channels=(8, 16, 32),
        depths=(1, 1, 1),
        num_heads=2,
        fpn_dim=16,
        out_features=LEVELS,
    )
    shapes = [ShapeSpec(channels=16)] * len(LEVELS)
    return FCOS(
        backbone=backbone,
        head=FCOSHead(input_shape=shapes, num_classes=3, conv_dims=[16]),
        head_in_features=list(LEVELS),
        num_classes=3,
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )


def sample(boxes):
    target = Instances((64, 64), gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
    target.gt_classes = torch.ones(len(boxes), dtype=torch.long)
    return {"image": torch.rand(3, 64, 64), "instances": target}


def losses(detector, batch):
    with EventStorage():
        return detector(batch)


def test_an_image_without_objects_is_background():
    detector = model()
    found = losses(detector, [sample([]), sample([[8.0, 8, 40, 48]])])
    assert all(torch.isfinite(v) for v in found.values())
    sum(found.values()).backward()
    anchors = detector.anchor_generator(
        [torch.zeros(1, 1, 64 // s, 64 // s) for s in (8, 16, 32, 64)] + [torch.zeros(1, 1, 1, 1)]
    )
    labels, _ = detector.label_anchors(
        anchors, [b["instances"] for b in (sample([]), sample([[8.0, 8, 40, 48]]))]
    )
    assert (labels[0] == 3).all() and (labels[1] == 1).any()


def test_a_batch_without_objects():
    found = losses(model(), [sample([]), sample([])])
    assert found["loss_fcos_loc"].item() == found["loss_fcos_ctr"].item() == 0.0
    assert torch.isfinite(found["loss_fcos_cls"])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_boxes_are_exact_in_any_precision(precision):
    """A head that says, in bfloat16 or not, that a box of 300 pixels lies around each location."""
    detector = model().eval()
    detector.test_score_thresh = 0.0
    sizes = [(40, 40), (20, 20), (10, 10), (5, 5), (2, 2)]

    def level(channels, value):
        return [torch.full((1, channels, *size), value, dtype=precision) for size in sizes]

    images = ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)])
    features = [torch.zeros(1, 1, *size) for size in sizes]
    predictions = [level(3, 1.0), level(4, 0.5), level(1, 1.0)]
    (found,) = detector.forward_inference(images, features, predictions)
    boxes = found.pred_boxes.tensor
    assert boxes.dtype == torch.float32 and len(boxes) > 0
    centres = found.pred_boxes.get_centers()
    assert torch.equal(centres, centres.round())  # multiples of a stride, also beyond 256
    assert float(boxes.max()) > 256
