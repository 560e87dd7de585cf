"""Mask R-CNN over the integral pyramid: RPN on p2..p6, RoI heads on p2..p5.

Heads as in the reference detectors: L1 loss in the RPN; box head of 4 convolutions and 1 linear layer with
SyncBN; GIoU loss of
weight 10 on class-specific boxes; mask head of 4 convolutions.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    MaskRCNNConvUpsampleHead,
)

from itpn_d2.backbone import create_model
from itpn_d2.heads import RPN, StandardROIHeads
from itpn_d2.meta_arch import GeneralizedRCNN
from itpn_d2.normalisation import IMAGENET


def rcnn_fast_itpn(name, mask=True, fpn_dim=256, num_classes="${dataset.num_classes}"):
    """A Faster R-CNN or, with ``mask``, a Mask R-CNN over the backbone ``name``."""

    levels = "${model.backbone.fpn_dim}"

    def pooler(resolution):
        return L(ROIPooler)(
            output_size=resolution,
            scales=(1.0 / 4, 1.0 / 8, 1.0 / 16, 1.0 / 32),
            sampling_ratio=0,
            pooler_type="ROIAlignV2",
        )

    def shape(size):
        return L(ShapeSpec)(channels=levels, height=size, width=size)

    roi_heads = L(StandardROIHeads)(
        num_classes=num_classes,
        batch_size_per_image=512,
        positive_fraction=0.25,
        proposal_matcher=L(Matcher)(thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False),
        box_in_features=["p2", "p3", "p4", "p5"],
        box_pooler=pooler(7),
        box_head=L(FastRCNNConvFCHead)(
            input_shape=shape(7), conv_dims=[256, 256, 256, 256], fc_dims=[1024], conv_norm="SyncBN"
        ),
        box_predictor=L(FastRCNNOutputLayers)(
            input_shape=L(ShapeSpec)(channels=1024),
            test_score_thresh=0.05,
            test_nms_thresh=0.5,
            test_topk_per_image=100,
            box2box_transform=L(Box2BoxTransform)(weights=(10, 10, 5, 5)),
            num_classes="${..num_classes}",
            box_reg_loss_type="giou",
            loss_weight=dict(loss_cls=1.0, loss_box_reg=10.0),
        ),
    )
    if mask:
        roi_heads.mask_in_features = ["p2", "p3", "p4", "p5"]
        roi_heads.mask_pooler = pooler(14)
        roi_heads.mask_head = L(MaskRCNNConvUpsampleHead)(
            input_shape=shape(14), num_classes="${..num_classes}", conv_dims=[256, 256, 256, 256, 256]
        )
    return L(GeneralizedRCNN)(
        backbone=L(create_model)(
            name=name, pyramid=True, drop_path=0.0, fpn_dim=fpn_dim, freeze_at=0, checkpointing=()
        ),
        proposal_generator=L(RPN)(
            in_features=["p2", "p3", "p4", "p5", "p6"],
            head=L(StandardRPNHead)(in_channels=levels, num_anchors=3),
            anchor_generator=L(DefaultAnchorGenerator)(
                sizes=[[32], [64], [128], [256], [512]],
                aspect_ratios=[0.5, 1.0, 2.0],
                strides=[4, 8, 16, 32, 64],
                offset=0.0,
            ),
            anchor_matcher=L(Matcher)(
                thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True
            ),
            box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_topk=(2000, 1000),
            post_nms_topk=(1000, 1000),
            nms_thresh=0.7,
        ),
        roi_heads=roi_heads,
        pixel_mean=list(IMAGENET.mean),  # RGB
        pixel_std=list(IMAGENET.std),
        input_format="RGB",
    )


def slim_heads(model, dim=128, fc=256):
    """Narrow heads with GroupNorm for small data sets, small models and CPUs; in place."""
    heads = model.roi_heads
    heads.batch_size_per_image = 128
    heads.box_head.update(conv_dims=[dim, dim], fc_dims=[fc], conv_norm="GN")
    heads.box_predictor.input_shape.channels = fc
    if "mask_head" in heads:
        heads.mask_head.update(conv_dims=[dim, dim, dim], conv_norm="GN")
    model.proposal_generator.update(pre_nms_topk=(1000, 500), post_nms_topk=(300, 300))
    return model


def without_masks(model, dataloader):
    """Turn a Mask R-CNN and its loaders into a Faster R-CNN; in place."""
    for key in ("mask_in_features", "mask_pooler", "mask_head"):
        model.roi_heads.pop(key, None)
    dataloader.train.mapper.use_instance_mask = False
    # without masks there is nothing to recompute boxes from
    dataloader.train.mapper.recompute_boxes = False
    return model
