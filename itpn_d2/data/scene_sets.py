"""Quick-start scenes as registered datasets."""

from pathlib import Path
from typing import Literal

from ..files import cache_root
from .catalogs import register_detections
from .coco_check import check_coco
from .panoptic import register_panoptic
from .scenes import CLASSES, KEYPOINTS, generate_scenes
from .semantic import register_semantic

Task = Literal["instances", "semantic", "panoptic", "keypoints"]


def register_scenes(
    name: str,
    split: str,
    num_images: int,
    size: int = 160,
    seed: int = 7,
    root: str | None = None,
    task: Task = "instances",
) -> str:
    """Make the scenes on first use under ``root`` (default: :func:`~itpn_d2.data.catalogs.cache_root`) and
    register them.

    Args:
        task: which of their labels: boxes and masks, those with ``keypoints``, ``semantic`` (the background
            is a class of its own) or ``panoptic``.

    Raises:
        ValueError: ``task`` is none of these; or as :func:`~.scenes.generate_scenes`.
    """
    base = Path(root) if root else cache_root() / "quickstart"
    folder = generate_scenes(base, split, num_images, size, seed)
    pictures = str(folder / "images")
    if task == "panoptic":
        return register_panoptic(
            name, str(folder / "panoptic.json"), pictures, str(folder / "panoptic"), verify_images="none"
        )
    if task == "semantic":
        return register_semantic(
            name, pictures, str(folder / "sem_seg"), [*CLASSES, "background"], verify_images="header"
        )
    if task not in ("instances", "keypoints"):
        raise ValueError(f"task {task!r}: choose instances, semantic, panoptic or keypoints")
    source = str(folder / "instances.json")
    coco = check_coco(source, pictures, verify_images="none").coco
    keypoints = KEYPOINTS if task == "keypoints" else ()
    return register_detections(name, (str(folder), task), coco, source, pictures, keypoints)
