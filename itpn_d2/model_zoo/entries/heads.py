"""The other dense heads: one-stage and cascaded detectors, PointRend, semantic, panoptic, keypoints."""

from ...data.scenes import CLASSES
from ...normalisation import IMAGENET
from ..entry import Entry, Metric, Task, Weights
from . import nano
from .fast_itpn import PRETRAINED, SIZES
from .itpn import CLIP_B, CLIP_L, PIXEL_BASE, PIXELS

_CLIP = "CLIP-L/14 distilled on ImageNet-1K, 1600 epochs"
_FIGURE = "iTPN repository, assets/ft_coco_ade.jpg"
_NOT_THEIRS = "The authors published no such model; the recipe is ours."
_OWN = "For your own data, from which the classes are taken."
# stem of the config (with the schedule), folder, task
_LARGE: tuple[tuple[str, str, Task], ...] = (
    ("cascade_rcnn_fast_itpn_{}_3x", "COCO-Detection", "detection"),
    ("retinanet_fast_itpn_{}_1x", "COCO-Detection", "detection"),
    ("fcos_fast_itpn_{}_1x", "COCO-Detection", "detection"),
    ("cascade_mask_rcnn_fast_itpn_{}_3x", "COCO-InstanceSegmentation", "instance_segmentation"),
    ("point_rend_fast_itpn_{}_1x", "COCO-InstanceSegmentation", "instance_segmentation"),
    ("panoptic_fpn_fast_itpn_{}_1x", "COCO-PanopticSegmentation", "panoptic_segmentation"),
    ("keypoint_rcnn_fast_itpn_{}_1x", "COCO-Keypoints", "keypoints"),
    ("upernet_fast_itpn_{}_160k", "ADE20K-SemanticSegmentation", "semantic_segmentation"),
    ("semantic_fpn_fast_itpn_{}_80k", "ADE20K-SemanticSegmentation", "semantic_segmentation"),
)
_NANO: dict[str, Task] = {
    "cascade_mask_rcnn": "instance_segmentation",
    "cascade_rcnn": "detection",
    "fcos": "detection",
    "keypoint_rcnn": "keypoints",
    "panoptic_fpn": "panoptic_segmentation",
    "point_rend": "instance_segmentation",
    "retinanet": "detection",
    "semantic_fpn": "semantic_segmentation",
    "upernet": "semantic_segmentation",
}
# config, what it starts from, its file, mIoU
_ITPN: tuple[tuple[str, str, Weights | None, float], ...] = (
    ("upernet_itpn_base_160k", PIXELS, PIXEL_BASE, 53.5),
    ("upernet_itpn_clip_base_160k", CLIP_B, None, 54.7),
    ("upernet_itpn_large_160k", PIXELS, None, 56.1),
    ("upernet_itpn_clip_large_160k", CLIP_L, None, 57.7),
)

ENTRIES = (
    *(
        Entry(
            f"{folder}/{stem.format(size)}.py",
            task,
            IMAGENET,
            _CLIP,
            start=PRETRAINED[size],
            note=_NOT_THEIRS,
        )
        for stem, folder, task in _LARGE
        for size in SIZES
    ),
    *(
        Entry(
            f"ADE20K-SemanticSegmentation/{config}.py",
            "semantic_segmentation",
            IMAGENET,
            pretraining,
            start=start,
            metrics=(Metric("mIoU", miou, "ADE20K val", "quoted", _FIGURE),),
        )
        for config, pretraining, start, miou in _ITPN
    ),
    *(
        Entry(f"Custom/{kind}_fast_itpn_nano.py", task, IMAGENET, nano.PIXELS, start=nano.OURS, note=_OWN)
        for kind, task in _NANO.items()
    ),
    *(
        Entry(
            f"Quickstart/{kind}_fast_itpn_nano.py",
            task,
            IMAGENET,
            nano.PIXELS,
            start=nano.OURS,
            classes=(*CLASSES, "background") if task == "semantic_segmentation" else CLASSES,
            note="Uses generated scenes, so there is nothing to download.",
        )
        for kind, task in {"faster_rcnn": "detection", **_NANO}.items()
    ),
)
