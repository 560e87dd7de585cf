"""Models and records for the tests of DINO and Mask DINO."""

import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch import nn

from itpn_d2 import create_model
from itpn_d2.meta_arch.dino import DINO, Criterion, Decoder, Encoder, HungarianMatcher
from itpn_d2.meta_arch.mask_dino import MaskCriterion, MaskDINO, MaskMatcher

DIM, CLASSES = 32, 3
ALL = ("p2", "p3", "p4", "p5", "p6")


def parts(levels=4, layers=2, masks=False):
    sizes = dict(dim=DIM, num_heads=4, hidden=48, num_layers=layers, levels=levels, points=2)
    backbone = create_model(
        "fast_itpn_nano",
        pyramid=True,
        channels=(8, 16, 32),
        depths=(1, 1, 1),
        num_heads=2,
        fpn_dim=DIM,
        out_features=ALL if masks else ALL[5 - levels :],
    )
    return dict(backbone=backbone, encoder=Encoder(**sizes), decoder=Decoder(**sizes))


def dino(seed=0, levels=4, **options):
    torch.manual_seed(seed)
    given = dict(
        num_classes=CLASSES,
        num_queries=12,
        criterion=Criterion(HungarianMatcher()),
        denoising=dict(number=6),
        in_features=ALL[5 - levels :],
        test_topk_per_image=20,
    )
    return DINO(**{**parts(levels), **given, **options})


def mask_dino(task="instance", seed=0, **options):
    torch.manual_seed(seed)
    things = CLASSES if task == "panoptic" else None
    matcher = MaskMatcher(num_points=64, things=things)
    given = dict(
        task=task,
        num_classes=CLASSES,
        num_semantic_classes=3 if task == "panoptic" else None,
        num_queries=12,
        criterion=MaskCriterion(matcher, num_points=64, things=things),
        denoising=dict(number=6),
        test_topk_per_image=20,
    )
    return MaskDINO(**{**parts(masks=True), **given, **options})


def record(size=(64, 96), boxes=((8, 8, 40, 48), (50, 20, 90, 60)), classes=None, seed=0, masks=True):
    """A random picture with rectangles, as a training mapper gives it."""
    generator = torch.Generator().manual_seed(seed)
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor(classes if classes is not None else [1, 2][: len(boxes)]).long()
    if masks:
        filled = torch.zeros(len(boxes), *size, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(filled, boxes, strict=True):
            mask[int(y1) : int(y2), int(x1) : int(x2)] = True
        instances.gt_masks = BitMasks(filled)
    image = torch.randint(1, 255, (3, *size), generator=generator)
    return {"image": image, "instances": instances, "height": size[0], "width": size[1]}


def untrained(model):
    """Names of parameters that should have a finite gradient, and have none."""
    learnt = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return [n for n, p in learnt if p.grad is None or not p.grad.isfinite().all()]


def labelled(item, task):
    """A record with ``sem_seg``: of the semantic task classes 0..2; of the panoptic one 0 for things, then
    two kinds of stuff; and a corner that is ignored."""
    height, width = item["image"].shape[-2:]
    labels = torch.full((height, width), 1)
    labels[:, width // 2 :] = 2
    for mask, kind in zip(item["instances"].gt_masks.tensor, item["instances"].gt_classes, strict=True):
        labels[mask] = 0 if task == "panoptic" else int(kind)
    labels[:4, :4] = 255
    found = {**item, "sem_seg": labels}
    if task == "semantic":
        del found["instances"]
    return found


def batch_of(task):
    """Two records of a task, of different sizes."""
    items = [record(), record((48, 64), [[4, 4, 30, 30]], [0], seed=1)]
    return items if task == "instance" else [labelled(item, task) for item in items]


def lively(model):
    """The model with heads whose outputs differ from query to query, in place."""
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if name.endswith(("class_head.weight", "box_head.6.weight", "offsets.weight")):
            nn.init.normal_(parameter, std=0.1)
    return model
