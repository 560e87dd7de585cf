"""The recipes of DINO and Mask DINO, made small, train in bfloat16 on a padded batch, and predict."""

from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import BitMasks, Boxes, Instances

from itpn_d2.engine import load_config

ROOT = Path(__file__).resolve().parents[2] / "configs"
RECIPES = {
    "COCO-Detection/dino_fast_itpn_tiny_1x": "instances",
    "COCO-Detection/dino_itpn_base_1x": "instances",
    "COCO-Detection/dino_fast_itpn_base_lsj1024_1x": "instances",
    "COCO-InstanceSegmentation/mask_dino_fast_itpn_base_50ep": "instances",
    "COCO-PanopticSegmentation/mask_dino_fast_itpn_base_50ep": "panoptic_seg",
    "ADE20K-SemanticSegmentation/mask_dino_fast_itpn_base_160k": "sem_seg",
}
SIZES = dict(dim=32, num_heads=4, hidden=48, num_layers=2)


def small(name):
    cfg = load_config(str(ROOT / f"{name}.py"))
    cfg.dataset.num_classes = 3
    if "num_semantic_classes" in cfg.dataset:
        cfg.dataset.num_semantic_classes = 4
    model = cfg.model
    model.backbone.update(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2, fpn_dim=32, checkpointing=())
    model.encoder.update(SIZES)
    model.decoder.update(SIZES)
    model.num_queries = 12
    model.denoising.number = 6
    if "num_points" in model.criterion:
        model.criterion.num_points = model.criterion.matcher.num_points = 64
    torch.manual_seed(0)
    return instantiate(model)


def record(size, seed):
    generator = torch.Generator().manual_seed(seed)
    instances = Instances(size, gt_boxes=Boxes(torch.tensor([[8.0, 8, 40, 48]])))
    instances.gt_classes = torch.tensor([1])
    instances.gt_masks = BitMasks(torch.zeros(1, *size, dtype=torch.bool))
    instances.gt_masks.tensor[0, 8:48, 8:40] = True
    semantic = torch.full(size, 2)
    semantic[8:48, 8:40] = 0
    image = torch.randint(1, 255, (3, *size), generator=generator)
    return {"image": image, "instances": instances, "sem_seg": semantic, "height": size[0], "width": size[1]}


@pytest.mark.parametrize("name", RECIPES)
def test_a_small_form_trains_and_predicts(name):
    model = small(name)
    batch = [record((64, 96), 0), record((80, 64), 1)]
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(batch)
    assert losses and all(torch.isfinite(v) for v in losses.values())
    sum(losses.values()).backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle, "several processes wait for the gradients of all parameters"
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model(batch)
    assert all(RECIPES[name] in f for f in found)
    if RECIPES[name] == "sem_seg":
        assert found[0]["sem_seg"].shape[-2:] == (64, 96) and found[0]["sem_seg"].isfinite().all()
