"""Test-time augmentation: views are merged in the frame of the original image."""

import pytest
import torch
from detectron2.modeling import DatasetMapperTTA
from detectron2.structures import Boxes, Instances
from omegaconf import OmegaConf
from torch import nn

from itpn_d2 import model_zoo
from itpn_d2.engine.views import DenseViews, SemanticViews, TwoStageViews, in_views, views_of
from itpn_d2.errors import ConfigError

TINY = ["model.backbone.channels=[8,16,32]", "model.backbone.depths=[1,1,1]", "model.backbone.num_heads=2"]


def picture(height=60, width=80):
    """Bright on the left, with a red square in the upper right."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, :, : width // 4] = 200
    image[0, 10:30, 50:70] = 250
    return {"image": image, "height": height, "width": width}


class Brightness(nn.Module):
    """Class 1 where it is bright; the result at the size that is asked for."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, batch):
        (item,) = batch
        self.sizes.append(tuple(item["image"].shape[1:]))
        grey = item["image"].float().mean(0)[None, None]
        grey = nn.functional.interpolate(grey, (item["height"], item["width"]), mode="bilinear")[0, 0]
        return [{"sem_seg": torch.stack((100 - grey, grey - 100))}]


def test_semantic_maps_are_turned_back():
    model = Brightness()
    found = SemanticViews(model, DatasetMapperTTA([30, 60, 90], 400, True))([picture()])[0]["sem_seg"]
    assert sorted(model.sizes) == sorted([(30, 40), (60, 80), (90, 120)] * 2)
    assert found.shape == (2, 60, 80) and torch.allclose(found.exp().sum(0), torch.ones(60, 80), atol=1e-5)
    expected = torch.zeros(60, 80)
    expected[:, :20] = 1
    assert (found.argmax(0) == expected).float().mean() > 0.95


class Red(nn.Module):
    """A one-stage detector that finds the red square in any view."""

    test_nms_thresh, max_detections_per_image = 0.5, 100

    def forward(self, batch):
        (item,) = batch
        scale = item["height"] / item["image"].shape[1]
        red = (item["image"][0].float() - item["image"][1].float()) > 100
        rows, columns = (torch.nonzero(red.any(d)).flatten() for d in (1, 0))
        box = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * scale
        found = Instances((item["height"], item["width"]), pred_boxes=Boxes(box[None]))
        found.scores = torch.tensor([0.5 + red.shape[0] / 1000])
        found.pred_classes = torch.tensor([2])
        return [{"instances": found}]


def test_boxes_are_turned_back_and_found_once():
    found = DenseViews(Red(), DatasetMapperTTA([30, 60, 90], 400, True))([picture()])[0]["instances"]
    assert len(found) == 1 and found.image_size == (60, 80)
    assert found.pred_boxes.tensor[0].tolist() == pytest.approx([50, 10, 70, 30], abs=2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("upernet", SemanticViews),
        ("fcos", DenseViews),
        ("retinanet", DenseViews),
        ("mask_rcnn", TwoStageViews),
        ("cascade_rcnn", TwoStageViews),
        ("point_rend", TwoStageViews),
        ("keypoint_rcnn", None),
        ("panoptic_fpn", None),
    ],
)
def test_every_head_merges_or_says_that_it_can_not(name, kind):
    torch.manual_seed(0)
    entry = f"Quickstart/{name}_fast_itpn_nano"
    model = model_zoo.get(entry, device="cpu", overrides=TINY).eval()
    if kind is None:
        with pytest.raises(ConfigError, match=r"test_views\.enabled=False"):
            in_views(model, [32], 100)
        return
    views = in_views(model, [32, 64], 128)
    assert type(views) is kind
    image = {**picture(), "image": torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)}
    with torch.no_grad():
        (found,) = views([image])
    if "sem_seg" in found:
        assert found["sem_seg"].shape == (6, 60, 80)
    else:
        instances = found["instances"]
        assert instances.image_size == (60, 80)
        if len(instances):
            assert float(instances.pred_boxes.tensor[:, 2].max()) <= 80.01
        if "mask" in name or name == "point_rend":
            assert instances.pred_masks.shape[1:] == (60, 80)


def test_one_view_of_the_same_size_is_the_model_itself():
    torch.manual_seed(0)
    model = model_zoo.get("Quickstart/semantic_fpn_fast_itpn_nano", device="cpu", overrides=TINY).eval()
    image = {**picture(64, 64), "image": torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)}
    with torch.no_grad():
        (alone,), (viewed,) = model([image]), in_views(model, [64], 100, flip=False)([image])
    assert torch.allclose(viewed["sem_seg"].exp(), alone["sem_seg"].softmax(0), atol=1e-5)


def test_sizes_follow_the_configs():
    views = {"scales": [0.5, 1.5], "flip": False, "enabled": True}
    image = {"test_short_side": 64, "max_size": 200}
    cfg = OmegaConf.create({"dataloader": {"test_views": views, "image": image}})
    model = model_zoo.get("Quickstart/fcos_fast_itpn_nano", device="cpu", overrides=TINY)
    mapper = views_of(cfg, model).mapper
    assert (mapper.min_sizes, mapper.max_size, mapper.flip) == ([32, 96], 300, False)
    cfg.dataloader.test_views.scales = []
    with pytest.raises(ConfigError, match="scales is empty"):
        views_of(cfg, model)
