"""One-stage detectors over the integral pyramid, on p3..p7: RetinaNet and FCOS, as Detectron2 has them."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch.fcos import FCOSHead
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead

from itpn_d2.backbone import create_model
from itpn_d2.meta_arch import FCOS, RetinaNet
from itpn_d2.normalisation import IMAGENET

LEVELS = ("p3", "p4", "p5", "p6", "p7")


def _detector(target, head, name, dim, convs, **options):
    return L(target)(
        backbone=L(create_model)(
            name=name,
            pyramid=True,
            drop_path=0.0,
            fpn_dim=dim,
            out_features=LEVELS,
            freeze_at=0,
            checkpointing=(),
        ),
        head=L(head)(
            input_shape=[L(ShapeSpec)(channels="${model.backbone.fpn_dim}") for _ in LEVELS],
            num_classes="${..num_classes}",
            conv_dims=[dim] * convs,
            prior_prob=0.01,
            norm="GN",
        ),
        head_in_features=list(LEVELS),
        num_classes="${dataset.num_classes}",
        max_detections_per_image=100,
        pixel_mean=list(IMAGENET.mean),  # RGB
        pixel_std=list(IMAGENET.std),
        **options,
    )


def anchor_sizes(smallest=32):
    """Three sizes a level, from ``smallest`` pixels on p3."""
    return [[smallest * 2 ** (level + k / 3) for k in range(3)] for level in range(len(LEVELS))]


def retinanet(name, dim=256, convs=4):
    """RetinaNet over the backbone ``name``, with GroupNorm in its head (ours)."""
    model = _detector(
        RetinaNet,
        RetinaNetHead,
        name,
        dim,
        convs,
        anchor_generator=L(DefaultAnchorGenerator)(
            sizes=anchor_sizes(), aspect_ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32, 64, 128], offset=0.0
        ),
        box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        anchor_matcher=L(Matcher)(thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True),
        test_score_thresh=0.05,
        test_nms_thresh=0.5,
        input_format="RGB",
    )
    model.head.num_anchors = 9
    return model


def fcos(name, dim=256, convs=4):
    """FCOS over the backbone ``name``."""
    return _detector(FCOS, FCOSHead, name, dim, convs, test_score_thresh=0.2, test_nms_thresh=0.6)
