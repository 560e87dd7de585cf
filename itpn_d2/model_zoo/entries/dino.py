"""DINO and Mask DINO over Fast-iTPN and iTPN."""

from ...data.scenes import CLASSES
from ...normalisation import IMAGENET
from ..entry import Entry, Task
from .fast_itpn import PRETRAINED, SIZES
from .itpn import PIXEL_BASE
from .nano import OURS, PIXELS

_CLIP = "CLIP-L/14 distilled on ImageNet-1K, 1600 epochs"
_PIXELS = "pixels of dropped patches"
_OWN = "For your own data, from which the classes are taken."
_OURS = "Reduced for CPUs; the size is ours, not the papers'."
# The numbers of the Fast-iTPN paper stand in docs/dino.md: its settings are not known.
_JITTER = ("lsj1024_1x", "lsj1024_3x", "lsj1536_1x", "lsj1536_3x")


def _coco(
    folder: str, model: str, schedules: tuple[str, ...], task: Task, fast_only: tuple[str, ...] = ()
) -> tuple[Entry, ...]:
    """A model over all backbones; ``fast_only``: schedules that it has over Fast-iTPN."""
    fast = [
        Entry(
            f"{folder}/{model}_fast_itpn_{size}_{schedule}.py",
            task,
            IMAGENET,
            _CLIP,
            start=PRETRAINED[size],
        )
        for size in SIZES
        for schedule in (*schedules, *fast_only)
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
    *_coco("COCO-Detection", "dino", ("1x", "3x"), "detection", _JITTER),
    *_coco("COCO-InstanceSegmentation", "mask_dino", ("1x", "50ep"), "instance_segmentation"),
    *_coco("COCO-PanopticSegmentation", "mask_dino", ("1x", "50ep"), "panoptic_segmentation"),
    *_coco("ADE20K-SemanticSegmentation", "mask_dino", ("160k",), "semantic_segmentation"),
    *(
        Entry(
            f"{folder}/{task}_mask_dino_fast_itpn_nano.py",
            kind,
            IMAGENET,
            PIXELS,
            start=OURS,
            classes=classes,
            note=note,
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
        Entry(f"Custom/{model}_fast_itpn_nano.py", task, IMAGENET, PIXELS, start=OURS, note=f"{_OWN} {_OURS}")
        for model, task in _TASKS.items()
    ),
    *(
        Entry(
            f"Quickstart/{model}_fast_itpn_nano.py",
            task,
            IMAGENET,
            PIXELS,
            start=OURS,
            classes=CLASSES,
            note=_OURS,
        )
        for model, task in _TASKS.items()
    ),
)
