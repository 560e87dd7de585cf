"""iTPN, base and large (CVPR'23)."""

from ...normalisation import HALVES, IMAGENET
from ..entry import Entry, Weights
from .fast_itpn import official
from .metrics import ap, top1

_ACCURACIES = "iTPN repository, assets/ft_in1k.jpg"
_DETECTORS = "iTPN repository, assets/ft_coco_ade.jpg"
PIXELS = "pixels of dropped patches, 1600 epochs of ImageNet-1K"
CLIP_B = "CLIP-B/16 distilled on ImageNet-1K, 800 epochs"
CLIP_L = "CLIP-L/14 distilled on ImageNet-1K, 300 epochs"
_MMPRETRAIN = (
    "A recipe of mmpretrain, which publishes neither weights nor accuracies; costs: docs/pretraining.md."
)
_UNKNOWN = "The name of the pre-trained file is ours: the authors' README only gives a link."

# pre-trained trunk, pyramid and decoder
PIXEL_BASE = official(
    "itpn_base_pixel.pth",
    "1HxW37BOEhIE9UNgHq0zblK0fTy2-IyzM",
    "1DjT2qtwGX5Kg1sU5kKlfEw?pwd=abcd",
    "itpn-base-pixel.pth",
)
CLIP_BASE = official("itpn_base_clip.pth", "1H51Zusrvlj8RjcWA7yuUyeqaVhmndSeN", "1__LnTBBYzpvVEmGZFt7nFw")
PIXEL_LARGE = official("itpn_large_pixel.pth", "1TYCaepVflm0xMrQefG5Sj4ityXYbJLFt", "1zy__QWtAhRyUHqKlTjKBGw")
CLIP_LARGE = official("itpn_large_clip.pth", "1gyyjcdMvAQsz2xC7ei-rEd7G4po2spy4", "1Gu-I3Z-25GFsfB31MQ_xZg")
# fine-tuned on ImageNet-21K, and then on 1K (89.2): on Baidu's drive alone
CLIP_LARGE_21K = official("itpn_large_clip_21k.pth", "", "1JF0_PRLth4SkiOeSjiKk2Q", holds="classifier")
CLIP_LARGE_1K = official("itpn_large_clip_21k_1k.pth", "", "1TtV4kuW4nao7O1osNUxKhw", holds="classifier")
OTHER_WEIGHTS = (CLIP_LARGE_21K, CLIP_LARGE_1K)
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


def _start(config: str) -> Weights:
    if "clip" in config:
        return CLIP_BASE if "base" in config else CLIP_LARGE
    return PIXEL_BASE if "base" in config else PIXEL_LARGE


ENTRIES = (
    Entry(
        "ImageNet-Classification/itpn_base_pixel_224.py",
        "classification",
        IMAGENET,
        PIXELS,
        start=PIXEL_BASE,
        metrics=top1(85.5, _ACCURACIES),
        note="After 400 epochs of pre-training the authors report 85.1.",
    ),
    Entry(
        "ImageNet-Classification/itpn_large_pixel_224.py",
        "classification",
        IMAGENET,
        PIXELS,
        start=PIXEL_LARGE,
        metrics=top1(86.7, _ACCURACIES),
        note=f"After 400 epochs of pre-training the authors report 86.3. {_UNKNOWN}",
    ),
    Entry(
        "ImageNet-Classification/itpn_base_clip_224.py",
        "classification",
        HALVES,
        CLIP_B,
        start=CLIP_BASE,
        metrics=top1(86.2, _ACCURACIES),
        note=f"After 300 epochs of pre-training the authors report 85.9. {_UNKNOWN}",
    ),
    Entry(
        "ImageNet-Classification/itpn_large_clip_256.py",
        "classification",
        HALVES,
        f"{CLIP_L}, at 256 pixels",
        start=CLIP_LARGE,
        metrics=top1(88.0, _ACCURACIES, "called L/14 there"),
        note=_UNKNOWN,
    ),
    *(
        Entry(f"Pretrain/{config}.py", "pretraining", HALVES, pretraining, weights, note=_UNKNOWN)
        for config, pretraining, weights in (
            ("clip_distillation_itpn_base", CLIP_B, CLIP_BASE),
            ("clip_distillation_itpn_large", CLIP_L, CLIP_LARGE),
            ("clip_distillation_itpn_large_256", f"{CLIP_L}, at 256 pixels", None),
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
        start=CLIP_LARGE,
        metrics=top1(87.8, _ACCURACIES, "patches of 16 pixels"),
        note=f"With CLIP-B as the teacher the authors report 87.0. {_UNKNOWN}",
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
            ("pixel_mim_itpn_large", PIXELS, PIXEL_LARGE, _UNKNOWN),
            ("mfm_itpn_base", "features of a moving average and pixels, 1600 epochs", None, "Ours."),
            ("mfm_itpn_large", "features of a moving average and pixels, 1600 epochs", None, "Ours."),
            ("fastmim_hog_itpn_base", "HOG at 128 pixels, 800 epochs", None, "Ours."),
            ("fastmim_hog_itpn_large", "HOG at 128 pixels, 800 epochs", None, "Ours."),
        )
    ),
)
