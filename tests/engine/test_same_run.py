"""The same run on any number of processes and for any split into micro-batches, whatever a step draws."""

from functools import partial

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils import comm
from torch import nn

from itpn_d2 import create_model, model_zoo
from itpn_d2.engine.hooks import ValidationLoss
from itpn_d2.engine.trainer import Trainer
from pretrain.encoders import PyramidEncoder
from pretrain.masking import BlockMasking, RandomMasking
from pretrain.methods import MFM, FastMIM, PixelMIM
from tests.engine.forked import forked
from tests.engine.in_float64 import use_float64
from tests.meta_arch.small_dino import dino, mask_dino

STEPS, BATCH = 20, 4
NETWORK = dict(channels=[8, 16, 32], depths=[1, 1, 2], num_heads=2)
SMALL = dict(decoder_dim=16, decoder_heads=2)
BACKBONE = [
    *(
        f"model.backbone.{key}={str(value).replace('(', '[').replace(')', ']')}"
        for key, value in NETWORK.items()
    ),
    "model.backbone.drop_path=0.3",
]
REGIONS = [
    *BACKBONE,
    "model.proposal_generator.post_nms_topk=[20,20]",
    "model.proposal_generator.batch_size_per_image=32",
    "model.roi_heads.batch_size_per_image=16",
]
DETECTORS = {
    **dict.fromkeys(("mask_rcnn", "cascade_mask_rcnn", "point_rend", "panoptic_fpn"), REGIONS),
    "keypoint_rcnn": [*REGIONS, "dataset.num_keypoints=2"],
    **dict.fromkeys(("retinanet", "fcos"), BACKBONE),
    "upernet": [*BACKBONE, "model.sem_seg_head.norm=GN", "model.auxiliary_head.norm=GN"],
}


def trunk():
    return create_model("fast_itpn_nano", pyramid=True, fpn_dim=16, drop_path=0.3, pos_grid=(4, 4), **NETWORK)


def detector(name, more=()):
    overrides = [*DETECTORS[name], *more]
    return model_zoo.get(f"Quickstart/{name}_fast_itpn_nano", device="cpu", overrides=overrides)


MODELS = {
    "pixel_mim": lambda: PixelMIM(trunk(), RandomMasking(0.5), decoder_depth=1, **SMALL),
    "mfm": lambda: MFM(trunk(), BlockMasking(8, 2, exact=True), decoder_depths=(1, 1, 1), **SMALL),
    "fastmim": lambda: FastMIM(PyramidEncoder(trunk()), **SMALL),
    **{name: partial(detector, name) for name in DETECTORS},
    "dino": dino,
    "mask_dino": mask_dino,
}
METHODS = ("pixel_mim", "mfm", "fastmim")


def picture(position, objects=3):
    """Squares on noise: of each sample others, of equal number; pixels without a class, of another."""
    generator = torch.Generator().manual_seed(position)
    image = torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8)
    corners = torch.randint(0, 32, (objects, 2), generator=generator)
    boxes = torch.cat((corners, corners + torch.randint(12, 32, (objects, 2), generator=generator)), 1)
    masks = torch.zeros(objects, 64, 64, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.tolist(), strict=True):
        mask[top:bottom, left:right] = True
        image[:, top:bottom, left:right] //= 2
    corners = boxes.view(-1, 2, 2).float()
    points = torch.cat((corners, (corners[..., :1] > 30) * 2.0), 2)  # some are not visible
    classes = torch.full((64, 64), 255)
    classes[: 16 * (1 + position % 4)] = masks.any(0)[: 16 * (1 + position % 4)].long()
    instances = Instances(
        (64, 64),
        gt_boxes=Boxes(boxes.float()),
        gt_classes=torch.arange(objects) % 3,
        gt_masks=BitMasks(masks),
        gt_keypoints=Keypoints(points),
    )
    return {
        "image": image,
        "instances": instances,
        "sem_seg": classes,
        "height": 64,
        "width": 64,
        "position": position,
    }


def batches(name, accumulate, start=0):
    """This process's shares of the micro-batches, from iteration ``start`` on."""
    share = BATCH // accumulate // comm.get_world_size()
    first = start * BATCH + comm.get_rank() * share
    while True:
        samples = [picture(position) for position in range(first, first + share)]
        if name in METHODS:
            images = torch.stack([sample["image"] for sample in samples])
            yield {"image": images, "position": [sample["position"] for sample in samples]}
        else:
            yield samples
        first += BATCH // accumulate


class AfterStep(HookBase):
    """The teacher of a method follows."""

    def after_step(self):
        getattr(self.trainer.bare_model, "after_step", lambda epoch: None)(0.1 * self.trainer.iter)


def train(name, accumulate=1):
    torch.manual_seed(0)
    model = MODELS[name]().train()
    distributed = comm.get_world_size() > 1
    wrapped = (
        nn.parallel.DistributedDataParallel(model, find_unused_parameters=True) if distributed else model
    )
    parameters = [p for p in model.parameters() if p.requires_grad]
    start = torch.cat([p.detach().flatten().clone() for p in parameters])
    trainer = Trainer(
        wrapped, torch.optim.SGD(parameters, 1e-2, momentum=0.9), accumulate=accumulate, clip_grad_norm=1.0
    )
    trainer.register_hooks([AfterStep()])
    trainer.set_data(batches(name, accumulate))
    trainer.train(0, STEPS)
    weights = torch.cat([p.detach().flatten() for p in parameters])
    assert (weights - start).abs().max() > 1e-3
    return weights


@pytest.fixture(scope="module")
def alone():
    """The weights of one process, of each model that a test asks for."""
    known = {}

    def find(name):
        if name not in known:
            known[name] = train(name)
        return known[name]

    return find


# What rounding decides, such as which boxes are positive or which points are least certain, makes more of it.
# How much depends on the processor and the version of torch: 5.8e-5 in the 19th step of Mask R-CNN has been
# seen. test_it_is_rounding shows that nothing else does.
LOOSE = dict.fromkeys(("mask_rcnn", "keypoint_rcnn", "point_rend", "panoptic_fpn", "upernet"), 2e-4)
LOOSE["cascade_mask_rcnn"] = 5e-4
QUICK = (("pixel_mim", 2), ("pixel_mim", 4), ("mfm", 2), ("mask_rcnn", 2), ("dino", 2))


@pytest.mark.parametrize(
    ("name", "world"),
    [
        pytest.param(name, world, marks=() if (name, world) in QUICK else pytest.mark.slow)
        for name in MODELS
        for world in (2, 4)
    ],
)
def test_processes(tmp_path, alone, name, world):
    for weights in forked(world, lambda: train(name), tmp_path):
        assert (weights - alone(name)).abs().max() < LOOSE.get(name, 1e-5)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "mask_rcnn" else pytest.mark.slow) for name in MODELS]
)
def test_it_is_rounding(tmp_path, name):
    def weights():
        use_float64()
        MODELS[name] = lambda build=MODELS[name]: build().double()
        return train(name)

    (one,) = forked(1, weights, tmp_path)
    for two in forked(2, weights, tmp_path):
        assert one.dtype == torch.float64 and (one - two).abs().max() < 1e-12


@pytest.mark.parametrize("name", [*METHODS, "dino"])
def test_micro_batches(alone, name):
    assert (train(name, accumulate=2) - alone(name)).abs().max() < 1e-5


def test_a_validation_loss_of_unequal_shares(tmp_path):
    def losses():
        torch.manual_seed(0)
        found = {}
        for name in ("mask_rcnn", "dino"):
            model = MODELS[name]().train()
            trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.0))
            share = [[picture(position)] for position in range(comm.get_rank(), 3, comm.get_world_size())]
            trainer.register_hooks([ValidationLoss(1, share, model, torch.float32)])
            trainer.set_data(batches(name, 1))
            trainer.train(0, 1)
            found[name] = trainer.storage.latest().get("val_loss", (None,))[0]
        return found

    first, other = forked(2, losses, tmp_path)
    assert first["mask_rcnn"] > 0 and first["dino"] > 0 and other == {"mask_rcnn": None, "dino": None}
