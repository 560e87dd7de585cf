"""DINO and Mask DINO over the integral pyramid: four scales, strides 8 to 64, and p2 for masks."""

from detectron2.config import LazyCall as L

from itpn_d2.backbone import create_model
from itpn_d2.meta_arch import DINO, MaskDINO
from itpn_d2.meta_arch.dino import Criterion, Decoder, Encoder, HungarianMatcher
from itpn_d2.meta_arch.mask_dino import MaskCriterion, MaskMatcher
from itpn_d2.normalisation import IMAGENET


def dino(name, dim=256, heads=8, hidden=2048, layers=(6, 6), queries=900):
    """A DINO over the backbone ``name``; ``layers`` are those of encoder and decoder."""
    model = L(DINO)(
        **_parts(name, dim, heads, hidden, layers),
        num_queries=queries,
        criterion=L(Criterion)(
            matcher=L(HungarianMatcher)(class_cost=2.0, box_cost=5.0, giou_cost=2.0),
            weights={"class": 1.0, "box": 5.0, "giou": 2.0},
        ),
        denoising=dict(number=100, label_noise=0.5, box_noise=1.0),
        test_topk_per_image=300,
    )
    model.backbone.out_features = model.in_features
    return model


def mask_dino(name, task="instance", dim=256, heads=8, hidden=2048, layers=(6, 9), queries=300):
    """A Mask DINO over the backbone ``name`` for a task: instance, semantic or panoptic."""
    model = L(MaskDINO)(
        task=task,
        **_parts(name, dim, heads, hidden, layers),
        num_queries=queries,
        criterion=L(MaskCriterion)(
            matcher=L(MaskMatcher)(
                class_cost=4.0, box_cost=5.0, giou_cost=2.0, mask_cost=5.0, dice_cost=5.0, num_points=12544,
                things=None,
            ),
            weights={"class": 4.0, "mask": 5.0, "dice": 5.0, "box": 5.0, "giou": 2.0},
            num_points=12544,
            oversample=3.0,
            importance=0.75,
            things=None,  # as published: boxes of stuff are learnt as well
        ),
        denoising=dict(number=100, label_noise=0.4, box_noise=0.4),
        test_topk_per_image=100,
        transform_scores=True,  # of semantic and panoptic maps
        temperature=0.06,
    )  # fmt: skip
    if task == "panoptic":
        model.num_semantic_classes = "${dataset.num_semantic_classes}"
    return model


def _parts(name, dim, heads, hidden, layers):
    sizes = dict(dim=dim, num_heads=heads, hidden=hidden, levels=4, points=4)
    return dict(
        backbone=L(create_model)(
            name=name, pyramid=True, drop_path=0.0, fpn_dim=256, freeze_at=0, checkpointing=()
        ),
        num_classes="${dataset.num_classes}",
        encoder=L(Encoder)(**sizes, num_layers=layers[0]),
        decoder=L(Decoder)(**sizes, num_layers=layers[1]),
        in_features=["p3", "p4", "p5", "p6"],
        extra_levels=0,
        checkpointing=(),
        deformable="auto",  # triton on CUDA where it works, else torch
        pixel_mean=list(IMAGENET.mean),  # RGB
        pixel_std=list(IMAGENET.std),
        input_format="RGB",
    )


def as_dino(model):
    """The official DINO's choices of parts (not its rules for padding, see docs/dino.md); in place."""
    model.decoder.refine_normed = model.encoder.centred = False
    model.groups = 32
    return model


def as_detrex(model):
    """detrex's choices of DINO's parts; in place."""
    model.decoder.update(refine_normed=False, share_heads=False)
    model.encoder.temperature = 10000.0
    model.groups = 32
    return model


def as_mask_dino(model):
    """Mask DINO's own choices of parts; in place."""
    model.decoder.refine_normed = model.encoder.centred = False
    model.encoder.temperature = 10000.0
    model.denoising.contrastive = False
    model.update(groups=32, shared_encoder_heads=True, initial_prediction=True, norm_twice=True)
    if model.task == "semantic":
        model.update(two_stage=False, no_object=True, shared_encoder_heads=False)
        model.criterion.class_loss = "cross_entropy"
    else:
        model.update(coarsest_first=True, box_init="mask2box" if model.task == "instance" else "no")
    return model


def five_scales(model):
    """Let encoder and decoder see p2 as well; in place."""
    model.in_features = model.backbone.out_features = ["p2", "p3", "p4", "p5", "p6"]
    model.encoder.levels = model.decoder.levels = 5
    return model


def boxes_of_things(model):
    """Let boxes of stuff have no say in matching and no loss (ours); in place."""
    model.criterion.things = model.criterion.matcher.things = "${dataset.num_classes}"
    return model


def small_masks(model, points=1024):
    """Fewer points of each mask, for small images and CPUs; in place."""
    model.criterion.num_points = model.criterion.matcher.num_points = points
    return model


def boxes_only(dataloader):
    """Loaders that read no masks, from which boxes would be recomputed; in place."""
    dataloader.train.mapper.update(use_instance_mask=False, recompute_boxes=False)
