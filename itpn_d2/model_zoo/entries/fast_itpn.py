"""Fast-iTPN, tiny to large (TPAMI'24)."""

from ...normalisation import IMAGENET
from ..entry import Entry, Weights
from .metrics import top1

SIZES = ("tiny", "small", "base", "large")
_REPOSITORY = "iTPN repository, README and assets (accuracies of Fast-iTPN)"
_CLIP = "CLIP-L/14 distilled on ImageNet-1K, 1600 epochs"


def official(file: str, drive: str, baidu: str, *aliases: str, holds: str = "pre-training") -> Weights:
    """A file of the iTPN repository's README: its ID on Google Drive and its place on Baidu's."""
    return Weights(
        file,
        publisher="the authors of iTPN: links in the README of their repository",
        licence="not stated for the files; headers of the code: MIT",
        url=f"gdrive://{drive}" if drive else None,
        aliases=aliases,
        page=f"https://pan.baidu.com/s/{baidu}",
        holds=holds,
    )


# pre-trained trunk and pyramid; DeepSpeed files in half precision
PRETRAINED = {
    "tiny": official(
        "fast_itpn_tiny_1600e_1k.pt", "1Ze9RkJggxxi58Dl7sqWrf2TNOSnRK4Wi", "1H6vYLmG2pUAvL7uD7plxTQ?pwd=itpn"
    ),
    "small": official(
        "fast_itpn_small_1600e_1k.pt", "1Wvk5kQSh8fWQCUwzAp7eaVpmOi3D5_H4", "1aovyWpsQqB-V5M3OXoVCMA?pwd=itpn"
    ),
    "base": official(
        "fast_itpn_base_clipl_e1600.pt",
        "1ADXPV95XpWb1ROMCih1n3AD52fGdr8C_",
        "1R-FfMAx-wmIUSJR-JUVnVw?pwd=itpn",
        "fast_itpn_base_clipl_e1600e.pt",
        "fast_itpn_base_1600e_1k.pt",
    ),
    "large": official(
        "fast_itpn_large_1600e_1k.pt", "16uybbJ23Fp7lnGNYL5I198glHGhwn_y2", "1wbnbBkjHIUgHS_1okxMHCg?pwd=itpn"
    ),
}
# the README gives it no name; the loader reports whether it holds a classifier
BASE_21K = official(
    "fast_itpn_base_21k.pt", "1ddGbBm46FiUdNs9HPSepokhuOKhEnBdV", "1kkX2E5Z4VwQ4joYvLyebnQ?pwd=itpn"
)
OTHER_WEIGHTS = (BASE_21K,)
_TOP1 = {
    ("tiny", 224): 85.1,
    ("tiny", 384): 86.2,
    ("tiny", 512): 86.5,
    ("small", 224): 86.4,
    ("small", 384): 86.95,
    ("small", 512): 87.8,
    ("base", 224): 87.4,
    ("base", 512): 88.5,
    ("large", 640): 89.5,
}
_NOTES = {("base", 512): "With an intermediate fine-tuning on ImageNet-21K the authors report 88.75."}
_DETECTOR = "The authors published no such detector: their numbers are for DINO and Mask DINO."

ENTRIES = (
    *(
        Entry(
            f"ImageNet-Classification/fast_itpn_{size}_{pixels}.py",
            "classification",
            IMAGENET,
            _CLIP,
            start=PRETRAINED[size],
            metrics=top1(value, _REPOSITORY),
            note=_NOTES.get((size, pixels), ""),
        )
        for (size, pixels), value in _TOP1.items()
    ),
    Entry(
        "ImageNet-Classification/linear_probe_fast_itpn_base.py",
        "classification",
        IMAGENET,
        _CLIP,
        start=PRETRAINED["base"],
        note="Trains only the head, on frozen features.",
    ),
    *(
        Entry(
            f"COCO-InstanceSegmentation/mask_rcnn_fast_itpn_{size}_{schedule}.py",
            "instance_segmentation",
            IMAGENET,
            _CLIP,
            start=PRETRAINED[size],
            note=_DETECTOR,
        )
        for size in SIZES
        for schedule in ("1x", "3x", "lsj")
    ),
    *(
        Entry(
            f"COCO-Detection/faster_rcnn_fast_itpn_{size}_{schedule}.py",
            "detection",
            IMAGENET,
            _CLIP,
            start=PRETRAINED[size],
            note=_DETECTOR,
        )
        for size in SIZES
        for schedule in ("1x", "3x", "lsj")
    ),
    *(
        Entry(
            f"Custom/{kind}_rcnn_fast_itpn_{size}.py",
            "instance_segmentation" if kind == "mask" else "detection",
            IMAGENET,
            _CLIP,
            start=PRETRAINED[size],
            note="For your own COCO json, from which the classes are taken.",
        )
        for kind in ("mask", "faster")
        for size in SIZES
    ),
    *(
        Entry(
            f"Pretrain/distillation_fast_itpn_{size}.py",
            "pretraining",
            IMAGENET,
            _CLIP,
            weights=PRETRAINED[size],
            note="The authors' files came from their own code, which is not released.",
        )
        for size in SIZES
    ),
    *(
        Entry(
            f"Pretrain/{method}_fast_itpn_{size}.py",
            "pretraining",
            IMAGENET,
            what,
            note="The settings are ours.",
        )
        for method, what in {
            "pixel_mim": "pixels of dropped patches, 1600 epochs",
            "mfm": "features of a moving average and pixels, 1600 epochs",
            "fastmim_hog": "HOG at 128 pixels, 800 epochs",
        }.items()
        for size in SIZES
    ),
    Entry(
        "Pretrain/fastmim_progressive_fast_itpn_base.py",
        "pretraining",
        IMAGENET,
        "HOG at 128, 160 and 192 pixels, 800 epochs",
        note="The settings are ours.",
    ),
)
