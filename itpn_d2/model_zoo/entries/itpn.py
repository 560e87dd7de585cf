"""iTPN, base and large (CVPR'23)."""

from ...normalisation import HALVES, IMAGENET
from ..entry import Entry, Weights
from .metrics import ap, top1

_ACCURACIES = "iTPN repository, assets/ft_in1k.jpg"
_DETECTORS = "iTPN repository, assets/ft_coco_ade.jpg"
PIXELS = "pixels of dropped patches, 1600 epochs of ImageNet-1K"
CLIP_B = "CLIP-B/16 distilled on ImageNet-1K, 800 epochs"
CLIP_L = "CLIP-L/14 distilled on ImageNet-1K, 300 epochs"
_MMPRETRAIN = (
    "A recipe of mmpretrain, which publishes neither weights nor accuracies; costs: docs/pretraining.md."
)
_UNKNOWN = "Pre-trained files are passed on under names that no public text gives."

# pre-trained trunk, pyramid and decoder
PIXEL_BASE = Weights(
    "itpn_base_pixel.pth",
    publisher="the authors, on their drives: the links are in the README of the iTPN repository",
    licence="not stated for the file; headers of the code: MIT",
    aliases=("itpn-base-pixel.pth",),
)
_SIBLING = "their config is not published; this one follows its siblings"
# config, pre-training, box and mask AP, what they are numbers of
_COCO = (
    ("mask_rcnn_itpn_base_1x", PIXELS, (53.0, 46.5), ""),
    (
        "mask_rcnn_itpn_base_3x",
        PIXELS,
        (54.0, 47.4),
        "their config of this name has 12 epochs, the table says 3x",
    ),
    ("mask_rcnn_itpn_clip_base_1x", CLIP_B, (53.2, 46.6), _SIBLING),
    ("mask_rcnn_itpn_clip_base_3x", CLIP_B, (54.1, 47.5), ""),
    ("mask_rcnn_itpn_large_1x", PIXELS, (55.6, 48.6), _SIBLING),
    ("mask_rcnn_itpn_large_3x", PIXELS, None, ""),
    ("mask_rcnn_itpn_clip_large_1x", CLIP_L, (55.2, 48.2), ""),
    ("mask_rcnn_itpn_clip_large_3x", CLIP_L, None, ""),
    ("cascade_mask_rcnn_itpn_base_3x", PIXELS, (56.0, 48.5), ""),
    ("cascade_mask_rcnn_itpn_clip_base_3x", CLIP_B, (56.1, 48.6), ""),
    ("cascade_mask_rcnn_itpn_large_3x", PIXELS, None, ""),
    ("cascade_mask_rcnn_itpn_clip_large_3x", CLIP_L, None, ""),
)


def _start(config: str) -> Weights | None:
    return PIXEL_BASE if "base" in config and "clip" not in config else None


ENTRIES = (
    Entry(
        "ImageNet-Classification/itpn_base_pixel_224.py",
        "classification",
        IMAGENET,
        PIXELS,
        start=PIXEL_BASE,
        metrics=top1(85.5, _ACCURACIES),
        note="After 400 epochs of pre-training the authors have 85.1.",
    ),
    Entry(
        "ImageNet-Classification/itpn_large_pixel_224.py",
        "classification",
        IMAGENET,
        PIXELS,
        metrics=top1(86.7, _ACCURACIES),
        note=f"After 400 epochs of pre-training the authors have 86.3. {_UNKNOWN}",
    ),
    Entry(
        "ImageNet-Classification/itpn_base_clip_224.py",
        "classification",
        HALVES,
        CLIP_B,
        metrics=top1(86.2, _ACCURACIES),
        note=f"After 300 epochs of pre-training the authors have 85.9. {_UNKNOWN}",
    ),
    Entry(
        "ImageNet-Classification/itpn_large_clip_256.py",
        "classification",
        HALVES,
        f"{CLIP_L}, at 256 pixels",
        metrics=top1(88.0, _ACCURACIES, "called L/14 there"),
        note=_UNKNOWN,
    ),
    *(
        Entry(f"Pretrain/{config}.py", "pretraining", HALVES, pretraining, note=_UNKNOWN)
        for config, pretraining in (
            ("clip_distillation_itpn_base", CLIP_B),
            ("clip_distillation_itpn_large", CLIP_L),
            ("clip_distillation_itpn_large_256", f"{CLIP_L}, at 256 pixels"),
        )
    ),
    *(
        Entry(f"Pretrain/mmpretrain/{config}.py", "pretraining", IMAGENET, pretraining, note=_MMPRETRAIN)
        for config, pretraining in (
            ("pixel_mim_itpn_base_8xb512_800e", "pixels of dropped patches, 800 epochs"),
            ("pixel_mim_itpn_large_8xb512_800e", "pixels of dropped patches, 800 epochs"),
            ("clip_distillation_itpn_base_8xb256_800e", "CLIP-B/16 distilled, 800 epochs"),
        )
    ),
    Entry(
        "ImageNet-Classification/itpn_large_clip_224.py",
        "classification",
        HALVES,
        CLIP_L,
        metrics=top1(87.8, _ACCURACIES, "patches of 16 pixels"),
        note=f"With CLIP-B as the teacher the authors have 87.0. {_UNKNOWN}",
    ),
    *(
        Entry(
            f"COCO-InstanceSegmentation/{config}.py",
            "instance_segmentation",
            IMAGENET,
            pretraining,
            start=_start(config),
            metrics=ap(_DETECTORS, *found, note=note) if found else (),
        )
        for config, pretraining, found, note in _COCO
    ),
    *(
        Entry(f"Pretrain/{config}.py", "pretraining", IMAGENET, pretraining, weights, note=note)
        for config, pretraining, weights, note in (
            ("pixel_mim_itpn_base", PIXELS, PIXEL_BASE, "The file may hold a pyramid of 512 channels."),
            ("pixel_mim_itpn_large", PIXELS, None, _UNKNOWN),
            ("mfm_itpn_base", "features of a moving average and pixels, 1600 epochs", None, "Ours."),
            ("mfm_itpn_large", "features of a moving average and pixels, 1600 epochs", None, "Ours."),
            ("fastmim_hog_itpn_base", "HOG at 128 pixels, 800 epochs", None, "Ours."),
            ("fastmim_hog_itpn_large", "HOG at 128 pixels, 800 epochs", None, "Ours."),
        )
    ),
)
