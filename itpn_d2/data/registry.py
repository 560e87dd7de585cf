"""Datasets into Detectron2's catalogs, and from there into the config."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from omegaconf import DictConfig, OmegaConf

from .coco_check import VerifyImages, check_coco
from .errors import DatasetError

logger = logging.getLogger(__name__)
_registered: dict[str, tuple[Any, ...]] = {}


def cache_root() -> Path:
    """``$ITPN_D2_CACHE``, else ``~/.cache/itpn_d2``."""
    return Path(os.environ.get("ITPN_D2_CACHE") or Path.home() / ".cache" / "itpn_d2")


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` so that ``path`` is either absent, old, or whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def is_registered(name: str, arguments: tuple[Any, ...]) -> bool:
    """Whether ``name`` was registered with these arguments."""
    return _registered.get(name) == arguments and name in DatasetCatalog.list()


def register(
    name: str, arguments: tuple[Any, ...], load: Callable[[], Sequence[dict]], **metadata: Any
) -> str:
    """Register ``load`` under ``name``; the same arguments again do nothing, others replace the dataset."""
    if is_registered(name, arguments):
        return name
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)
    _registered[name] = arguments
    return name


def register_coco(
    name: str,
    json: str,
    images: str,
    skip_bad_records: bool = False,
    verify_images: VerifyImages = "decode",
) -> str:
    """Check a COCO json and register it under ``name``; classes come from the json.

    Raises:
        DatasetError: no path was given, or :func:`check_coco` refuses.
    """
    split = "val" if name.endswith("val") else "train"
    for key, value in (("json", json), ("images", images)):
        if not value:
            raise DatasetError(
                f"dataset {name!r} has no {key}: set dataset.{split}.{key}=PATH on the command line"
            )
    if not Path(images).is_dir():
        raise DatasetError(f"dataset.{split}.images={images}: no such folder")
    arguments = (
        str(json),
        str(images),
        skip_bad_records,
        verify_images,
        os.path.getmtime(json) if Path(json).is_file() else 0,
    )
    if is_registered(name, arguments):
        return name
    checked = check_coco(json, images, skip_bad_records, verify_images)
    source = _cleaned(Path(json), checked.data) if checked.problems else str(json)
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    records = load_coco_json(source, str(images), name)  # sets the classes and the id map in the metadata
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(json_file=source, image_root=str(images), evaluator_type="coco")
    _registered[name] = arguments
    return name


def _cleaned(path: Path, data: dict[str, Any]) -> str:
    """The good records as a json of their own, for the evaluator; named by its content."""
    text = json.dumps(data)
    target = cache_root() / "cleaned" / f"{path.stem}_{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not target.is_file():
        write_atomically(target, text)
    return str(target)


def register_builtin(name: str) -> str:
    """A dataset that Detectron2 registers itself (``coco_2017_train``, ...); its files must be there.

    Raises:
        DatasetError: no such name, or its json or image folder is missing.
    """
    if name not in DatasetCatalog.list():
        raise DatasetError(
            f"dataset {name!r} is not registered; Detectron2 has coco_2017_train, coco_2017_val, ..."
        )
    metadata = MetadataCatalog.get(name)
    for path in (metadata.get("json_file"), metadata.get("image_root")):
        if path is not None and not Path(path).exists():
            raise DatasetError(
                f"dataset {name!r}: {path} is missing; set DETECTRON2_DATASETS to the folder "
                f"that holds coco/, or use configs/Custom/ with your own json"
            )
    return name


def has_masks(name: str) -> bool:
    """Whether every annotation of the registered dataset has a segmentation, and there is one at all.

    COCO's evaluation of masks can't do with some of them missing.
    """
    found = [bool(a.get("segmentation")) for r in DatasetCatalog.get(name) for a in r.get("annotations", ())]
    return bool(found) and all(found)


def prepare_datasets(dataset: DictConfig) -> None:
    """Register ``dataset.train`` and ``dataset.val`` (either may be None) and fill in ``num_classes`` and
    ``class_names``; where ``dataset.val.classes`` is None, it becomes the classes of the training set.

    Raises:
        DatasetError: a dataset can't be used, or the two have different classes.
    """
    classes: dict[str, list[str]] = {}
    for split in ("train", "val"):
        call = OmegaConf.select(dataset, split)
        if call is not None:
            if classes and call.get("classes", "") is None:
                call.classes = classes["train"]  # a set of labelled images takes the numbers of the other
            name = instantiate(call)
            DatasetCatalog.get(name)  # built-in sets learn their classes on loading
            classes[split] = list(MetadataCatalog.get(name).thing_classes)
    if len(classes) == 2 and classes["train"] != classes["val"]:
        raise DatasetError(
            f"the classes differ: dataset.train has {classes['train']}, dataset.val has {classes['val']}; "
            f"give both json files the same categories"
        )
    if classes:
        names = next(iter(classes.values()))
        dataset.num_classes, dataset.class_names = len(names), names
