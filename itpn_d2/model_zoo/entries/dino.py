"""DINO and Mask DINO over Fast-iTPN and iTPN."""

from ...data.scenes import CLASSES
from ..entry import IMAGENET, Entry, Metric, Task
from .fast_itpn import PRETRAINED, SIZES
from .itpn import PIXEL_BASE

_CLIP = "CLIP-L/14 distilled on ImageNet-1K, 1600 epochs"
_PIXELS = "pixels of dropped patches"
_PAPER = "abstract of the Fast-iTPN paper"
_OWN = "For your own data, which give the classes."
_OURS = "Cut down for CPUs; the size is ours, not the papers'."
# by model, schedule and size
_QUOTED = {
    ("dino", "1x"): {"base": ("box AP", 58.4, "COCO val2017"), "large": ("box AP", 58.8, "COCO val2017")},
    ("mask_dino", "160k"): {"base": ("mIoU", 57.5, "ADE20K val"), "large": ("mIoU", 58.7, "ADE20K val")},
}


def _metrics(model: str, schedule: str, size: str) -> tuple[Metric, ...]:
    if size not in _QUOTED.get((model, schedule), {}):
        return ()
    name, value, dataset = _QUOTED[model, schedule][size]
    return (Metric(name, value, dataset, "quoted", _PAPER, "their settings are not known"),)


def _coco(folder: str, model: str, schedules: tuple[str, ...], task: Task) -> tuple[Entry, ...]:
    """A model over all backbones."""
    fast = [
        Entry(
            f"{folder}/{model}_fast_itpn_{size}_{schedule}.py",
            task,
            IMAGENET,
            _CLIP,
            start=PRETRAINED[size],
            metrics=_metrics(model, schedule, size),
        )
        for size in SIZES
        for schedule in schedules
    ]
    first = [
        Entry(
            f"{folder}/{model}_itpn_{size}_{schedule}.py",
            task,
            IMAGENET,
            _PIXELS,
            start=PIXEL_BASE if size == "base" else None,
        )
        for size in ("base", "large")
        for schedule in schedules
    ]
    return (*fast, *first)


_SEGMENTATION: tuple[tuple[str, Task, tuple[str, ...]], ...] = (
    ("semantic", "semantic_segmentation", (*CLASSES, "background")),
    ("panoptic", "panoptic_segmentation", CLASSES),
)
_TASKS: dict[str, Task] = {"dino": "detection", "mask_dino": "instance_segmentation"}

ENTRIES = (
    *_coco("COCO-Detection", "dino", ("1x", "3x"), "detection"),
    *_coco("COCO-InstanceSegmentation", "mask_dino", ("1x", "50ep"), "instance_segmentation"),
    *_coco("COCO-PanopticSegmentation", "mask_dino", ("1x", "50ep"), "panoptic_segmentation"),
    *_coco("ADE20K-SemanticSegmentation", "mask_dino", ("160k",), "semantic_segmentation"),
    *(
        Entry(
            f"{folder}/{task}_mask_dino_fast_itpn_nano.py", kind, IMAGENET, "none", classes=classes, note=note
        )
        for task, kind, classes in _SEGMENTATION
        for folder, classes, note in (("Custom", (), f"{_OWN} {_OURS}"), ("Quickstart", classes, _OURS))
    ),
    *(
        Entry(f"Custom/{model}_fast_itpn_{size}.py", task, IMAGENET, _CLIP, start=PRETRAINED[size], note=_OWN)
        for model, task in _TASKS.items()
        for size in SIZES
    ),
    *(
        Entry(f"Custom/{model}_fast_itpn_nano.py", task, IMAGENET, "none", note=f"{_OWN} {_OURS}")
        for model, task in _TASKS.items()
    ),
    *(
        Entry(f"Quickstart/{model}_fast_itpn_nano.py", task, IMAGENET, "none", classes=CLASSES, note=_OURS)
        for model, task in _TASKS.items()
    ),
)
