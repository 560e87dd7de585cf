"""Keypoint R-CNN (Mask R-CNN, section 5), as Detectron2 has it."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler

from itpn_d2.heads import KeypointHead


def keypoints(model, dim=512, convs=8):
    """Turn a Mask R-CNN into a Keypoint R-CNN; in place."""
    heads = model.roi_heads
    for key in ("mask_in_features", "mask_pooler", "mask_head"):
        heads.pop(key, None)
    heads.keypoint_in_features = ["p2", "p3", "p4", "p5"]
    heads.keypoint_pooler = L(ROIPooler)(
        output_size=14, scales=(1 / 4, 1 / 8, 1 / 16, 1 / 32), sampling_ratio=0, pooler_type="ROIAlignV2"
    )
    heads.keypoint_head = L(KeypointHead)(
        input_shape=L(ShapeSpec)(channels="${model.backbone.fpn_dim}", width=14, height=14),
        num_keypoints="${dataset.num_keypoints}",
        conv_dims=[dim] * convs,
        loss_normalizer="visible",
    )
    return model
