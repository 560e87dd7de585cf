"""Datasets that Detectron2 knows by name: COCO's through our reader, the others through its own."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin import _PREDEFINED_SPLITS_COCO

from ..errors import DatasetError
from ..lazy.options import nearest
from .catalogs import dataset_facts, is_registered, register
from .coco_check import judge, read_coco
from .lvis_package import require_lvis
from .official import OfficialChecker
from .picture_check import VerifyImages
from .records import as_dicts
from .registered import put, take_over

_COCO = frozenset(name for splits in _PREDEFINED_SPLITS_COCO.values() for name in splits)


def register_builtin(
    name: str, skip_bad_records: bool = False, verify_images: VerifyImages = "decode"
) -> str:
    """Register a dataset of Detectron2's catalog: one of its own (``coco_2017_train``, ...), whose files must
    exist, or one that a program has registered.

    Boxes, masks and keypoints of COCO are read and checked like any COCO json (:func:`.register_coco`),
    except that everything COCO measures is kept (:class:`.OfficialChecker`) and images are not opened;
    datasets of programs are checked by :func:`.take_over`; all others are read by Detectron2.

    Args:
        skip_bad_records: drop bad records, instead of refusing.
        verify_images: for a program's dataset, see :func:`.check_coco`.

    Raises:
        DatasetError: no such name, its json or one of its folders is missing, it has bad records, or it is an
            LVIS dataset and the package lvis can't be used.
    """
    if name not in DatasetCatalog.list():
        raise DatasetError(
            f"dataset {name!r} is not registered; {nearest(name, DatasetCatalog.list())}. If a program of "
            "yours registers it, run that first: --import FILE.py"
        )
    metadata = MetadataCatalog.get(name)
    for key in ("json_file", "image_root", "sem_seg_root", "panoptic_root", "panoptic_json", "dirname"):
        path = metadata.get(
            "source_json" if key == "json_file" and "source_json" in metadata.as_dict() else key
        )
        if path is not None and not Path(path).exists():
            raise DatasetError(
                f"dataset {name!r}: {path} is missing; set DETECTRON2_DATASETS to the folder that holds "
                "coco/ (VOC2007/, lvis/, ...), correct the path in the program that registers the "
                "dataset, or use configs/Custom/ with your own json"
            )
    if metadata.get("evaluator_type") == "lvis":
        require_lvis(name)
    if name in _COCO and metadata.get("json_file") is not None:
        _register_coco(name, skip_bad_records)
    else:
        take_over(name, skip_bad_records, verify_images)
    return name


def _register_coco(name: str, skip_bad_records: bool) -> None:
    """Replace Detectron2's reader by ours, under the same name and with the same colours and keypoints."""
    known = MetadataCatalog.get(name).as_dict()
    json, images = str(known.get("source_json", known["json_file"])), str(known["image_root"])
    arguments = (json, images, skip_bad_records, os.path.getmtime(json))
    if is_registered(name, arguments):
        return
    checker = OfficialChecker(Path(json), Path(images), read_coco(json))
    coco = judge(checker, skip_bad_records, "none").coco
    trained = replace(coco, annotations=[a for a in coco.annotations if id(a) not in checker.untrained])
    put(name, arguments, known, coco, as_dicts(trained, images))


def register_together(name: str, parts: Sequence[str], skip_bad_records: bool = False) -> str:
    """Datasets that are registered already as one under ``name``, one after the other.

    Args:
        skip_bad_records: see :func:`register_builtin`.

    Raises:
        DatasetError: one can't be used, or they differ in their classes or keypoints.
    """
    facts = [dataset_facts(register_builtin(part, skip_bad_records)) for part in parts]
    for part, found in zip(parts[1:], facts[1:], strict=True):
        if found != facts[0]:
            raise DatasetError(
                f"datasets {parts[0]!r} and {part!r} have different classes or keypoints, so they can't "
                "be used together for training"
            )
    first = MetadataCatalog.get(parts[0]).as_dict()
    kept = {
        key: value
        for key, value in first.items()
        if key not in ("name", "json_file", "image_root", "source_json")
    }

    def load() -> list[dict]:
        return [record for part in parts for record in DatasetCatalog.get(part)]

    return register(name, (*parts, skip_bad_records), load, **kept)
