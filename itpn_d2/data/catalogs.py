"""Registering datasets in Detectron2's catalogs, and reading from there what a config needs."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import create_keypoint_hflip_indices
from detectron2.utils import comm

from ..errors import DatasetError, UseError, where_it_failed
from ..files import cache_root, write_text
from ..lazy.texts import Texts
from .once import read_once
from .record_table import RecordTable
from .records import CocoSet, Record, as_dicts, as_json

logger = logging.getLogger(__name__)
_registered: dict[str, tuple[Any, ...]] = {}


def is_registered(name: str, arguments: tuple[Any, ...]) -> bool:
    """Whether ``name`` was registered with these arguments."""
    return _registered.get(name) == arguments and name in DatasetCatalog.list()


def register(
    name: str, arguments: tuple[Any, ...], load: Callable[[], Sequence[dict]], **metadata: Any
) -> str:
    """Register ``load`` under ``name``; the same arguments again do nothing, others replace the dataset."""
    if not is_registered(name, arguments):
        _put(name, arguments, load, metadata)
    return name


def _put(
    name: str, arguments: tuple[Any, ...], load: Callable[[], Sequence[dict]], metadata: Mapping[str, Any]
) -> None:
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)
    _registered[name] = arguments


def registered_once(read: Callable[[], str]) -> str:
    """The name that ``read()`` registers. On each machine one process reads; the others take over its records
    and metadata, which are in memory only once. Collective.

    Raises:
        UseError: the error of the process that reads, raised in all of them.
    """
    if comm.get_world_size() == 1:
        return read()

    def found() -> tuple[str, Any, Sequence[dict], dict[str, Any]]:
        name = read()
        records = DatasetCatalog.get(name)
        table = RecordTable(records) if isinstance(records, list) else records
        metadata = {k: v for k, v in MetadataCatalog.get(name).as_dict().items() if k != "name"}
        return name, _registered.get(name), table, metadata

    name, arguments, records, metadata = read_once("the data", found)
    _put(name, arguments or (), lambda: records, metadata)
    return name


def call(name: str, load: Callable[[], Any]) -> Any:
    """The result of a dataset's function.

    Raises:
        DatasetError: it fails; the message names where.
    """
    try:
        return load()
    except UseError:
        raise
    except Exception as error:
        raise DatasetError(
            f"dataset {name!r}: the function that registers it fails: {where_it_failed(error)}"
        ) from error


def require_paths(name: str, **paths: str) -> None:
    """Check that the files and folders of a custom dataset exist; they are given by their config keys.

    Raises:
        DatasetError: one is not given, or is not there.
    """
    split = "val" if name.endswith("val") else "train"
    for key, path in paths.items():
        if not path:
            raise DatasetError(
                f"dataset {name!r} has no {key}: set dataset.{split}.{key}=PATH on the command line"
            )
        found = Path(path).is_file() if key == "json" else Path(path).is_dir()
        if not found:
            kind, other = ("file", "folder") if key == "json" else ("folder", "file")
            what = f"no such {kind}"
            if Path(path).exists():
                what = f"it is a {other}, but must be the {kind} with the " + (
                    "annotations" if key == "json" else "images"
                )
            raise DatasetError(f"dataset.{split}.{key}={path}: {what}")


def register_detections(
    name: str,
    arguments: tuple[Any, ...],
    coco: CocoSet,
    json: str,
    images: str,
    keypoints: Sequence[str],
    records: Sequence[Record] | None = None,
    kind: str = "coco",
) -> str:
    """Register a dataset that was read from ``json``, with a separate json for the evaluator. Its metadata
    have ``image_ids`` and ``category_ids`` (see :class:`.Numbers`) where the ids of the json are no numbers.

    Args:
        records: the records to train on, with the image ids of ``coco.numbers``, if they differ from those to
            evaluate.
        kind: evaluator type of the dataset.
    """
    found = as_dicts(coco, images) if records is None else records
    numbers = coco.numbers
    register(
        name,
        arguments,
        lambda: found,
        thing_classes=[c.name for c in coco.categories],
        thing_dataset_id_to_contiguous_id={
            numbers.categories[c.id]: i for i, c in enumerate(coco.categories)
        },
        image_ids=numbers.image_ids,
        category_ids=numbers.category_ids,
        json_file=own_json(Path(json), as_json(coco)),
        image_root=images,
        evaluator_type=kind,
    )
    set_keypoints(name, keypoints)
    return name


def set_keypoints(name: str, keypoints: Sequence[str]) -> None:
    """Put the names of keypoints into the metadata, and the pairs that flipping swaps: those whose names
    differ only in left and right."""
    if not keypoints:
        return
    flipped: dict[str, str] = {}
    for one, other in (("left", "right"), ("Left", "Right")):
        flipped.update({k: k.replace(one, other) for k in keypoints if one in k})
    pairs = [(k, f) for k, f in flipped.items() if f != k and f in keypoints]
    MetadataCatalog.get(name).set(keypoint_names=list(keypoints), keypoint_flip_map=pairs)


def own_json(path: Path, text: str) -> str:
    """The accepted records of ``path`` as a json for the evaluator, named after its content."""
    stem = path.stem.encode(errors="replace")[:80].decode(errors="ignore")
    target = cache_root() / "cleaned" / f"{stem}_{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not target.is_file():
        write_text(target, text)
    return str(target)


def has_masks(name: str) -> bool:
    """Whether every annotation of the registered dataset has a segmentation, and there is one at all.

    COCO's evaluation of masks does not work if some are missing.
    """
    found = [bool(a.get("segmentation")) for r in DatasetCatalog.get(name) for a in r.get("annotations", ())]
    return bool(found) and all(found)


def dataset_facts(name: str) -> dict[str, Any]:
    """The facts about a registered dataset that a model needs: ``num_classes`` and ``class_names`` (of a
    semantic set its own, else of the things), and where there are any ``num_semantic_classes``, beside things
    their ``semantic_class_names``, ``num_keypoints`` and ``keypoint_flip`` (the index of each keypoint in a
    flipped image)."""
    call(name, DatasetCatalog[name])  # built-in sets learn their classes on loading
    metadata = MetadataCatalog.get(name)
    semantic = list(metadata.get("stuff_classes", ()))
    names = semantic if metadata.get("evaluator_type") == "sem_seg" else list(metadata.thing_classes)
    facts: dict[str, Any] = {"num_classes": len(names), "class_names": Texts(names)}
    if semantic:
        facts["num_semantic_classes"] = len(semantic)
        if semantic != names:
            facts["semantic_class_names"] = Texts(semantic)
    if metadata.get("keypoint_names"):
        facts["num_keypoints"] = len(metadata.keypoint_names)
        facts["keypoint_flip"] = create_keypoint_hflip_indices(name)
    return facts


def has_annotations(name: str) -> bool:
    """Whether a registered dataset has annotations to evaluate against or to learn from."""
    if MetadataCatalog.get(name).get("evaluator_type") != "coco":
        return True
    return any(record.get("annotations") for record in DatasetCatalog.get(name))
