"""DINO and Mask DINO over Fast-iTPN and iTPN."""

from ...data.scenes import CLASSES
from ..entry import IMAGENET, Entry, Metric, Task
from .fast_itpn import PRETRAINED, SIZES
from .itpn import PIXEL_BASE

_CLIP = "CLIP-L/14 distilled on ImageNet-1K, 1600 epochs"
_PIXELS = "pixels of dropped patches"
_PAPER = "abstract of the Fast-iTPN paper (box AP of DINO, 12 epochs)"
_OWN = "For your own COCO json, which gives the classes."
_OURS = "Cut down for CPUs; the size is ours, not the papers'."
_QUOTED = {"base": 58.4, "large": 58.8}


def _metrics(size: str, schedule: str) -> tuple[Metric, ...]:
    if schedule != "1x" or size not in _QUOTED:
        return ()
    return (
        Metric("box AP", _QUOTED[size], "COCO val2017", "quoted", _PAPER, "their settings are not known"),
    )


def _coco(folder: str, model: str, schedules: tuple[str, ...], task: Task) -> tuple[Entry, ...]:
    """A model over all backbones."""
    fast = [
        Entry(
            f"{folder}/{model}_fast_itpn_{size}_{schedule}.py",
            task,
            IMAGENET,
            _CLIP,
            start=PRETRAINED[size],
            metrics=_metrics(size, schedule) if model == "dino" else (),
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


_TASKS: dict[str, Task] = {"dino": "detection", "mask_dino": "instance_segmentation"}

ENTRIES = (
    *_coco("COCO-Detection", "dino", ("1x", "3x"), "detection"),
    *_coco("COCO-InstanceSegmentation", "mask_dino", ("1x", "50ep"), "instance_segmentation"),
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
