"""The nano trunks (ours): small enough for a CPU. Their pre-training is a part of the package."""

from ...boxed import PREFIX
from ...data.scenes import CLASSES
from ...normalisation import IMAGENET
from ..entry import Entry, Weights
from .metrics import ap

PIXELS = "pixels of dropped patches"
_OWN = "For your own data, from which the classes are taken."
_MEASURED = "docs/benchmarks.md"
_OVERRIDES = "trained from scratch; the overrides are given with the number"
OURS = Weights(
    "fast_itpn_nano.safetensors",
    publisher="this project",
    licence="Apache-2.0",
    url=f"{PREFIX}fast_itpn_nano",
    page="itpn_d2/weights/fast_itpn_nano/README.md",
)
PRETRAINED = {"nano": OURS}

ENTRIES = (
    Entry(
        "Quickstart/mask_rcnn_fast_itpn_nano.py",
        "instance_segmentation",
        IMAGENET,
        PIXELS,
        start=OURS,
        metrics=ap(_MEASURED, 56.4, 51.8, "100 generated scenes", "measured here", "trained from scratch"),
        classes=CLASSES,
        note="Trains in minutes, on generated scenes.",
    ),
    Entry(
        "Custom/mask_rcnn_fast_itpn_nano.py",
        "instance_segmentation",
        IMAGENET,
        PIXELS,
        start=OURS,
        metrics=ap(
            _MEASURED,
            43.9,
            46.1,
            "nuclei, 80 images",
            "measured here",
            _OVERRIDES,
        ),
        note=_OWN,
    ),
    Entry(
        "Custom/faster_rcnn_fast_itpn_nano.py",
        "detection",
        IMAGENET,
        PIXELS,
        start=OURS,
        metrics=ap(
            _MEASURED,
            54.7,
            dataset="bccd, 87 images",
            origin="measured here",
            note=_OVERRIDES,
        ),
        note=_OWN,
    ),
    Entry(
        "Custom/classifier_fast_itpn_nano.py",
        "classification",
        IMAGENET,
        PIXELS,
        start=OURS,
        note=_OWN,
    ),
    Entry(
        "Custom/linear_probe_fast_itpn_nano.py",
        "classification",
        IMAGENET,
        "yours",
        note=f"Trains only the head, on frozen features. {_OWN}",
    ),
    *(
        Entry(f"{config}.py", "pretraining", IMAGENET, what)
        for config, what in {
            "Pretrain/pixel_mim_fast_itpn_nano": "pixels of dropped patches",
            "Pretrain/pixel_mim_itpn_nano": "pixels of dropped patches",
            "Pretrain/mfm_fast_itpn_nano": "features of a moving average and pixels",
            "Pretrain/fastmim_hog_fast_itpn_nano": "HOG",
            "Quickstart/pixel_mim_fast_itpn_nano": "pixels of dropped patches, 80 epochs of generated scenes",
            "Quickstart/mfm_fast_itpn_nano": "features of a moving average and pixels, 80 epochs of scenes",
            "Quickstart/fastmim_hog_fast_itpn_nano": "HOG, 24 epochs of generated scenes",
        }.items()
    ),
)
