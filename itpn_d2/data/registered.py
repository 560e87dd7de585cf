"""Datasets that other programs have registered with Detectron2: they are checked and kept under their own
names."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin import _PREDEFINED_SPLITS_COCO, _PREDEFINED_SPLITS_COCO_PANOPTIC

from ..errors import DatasetError
from .catalogs import call, register, register_detections
from .coco_check import judge, read_coco
from .given import GivenChecker, require_records
from .json_checker import JsonChecker
from .labels import IGNORED, Labelling
from .picture_check import VerifyImages
from .problems import Problem, settle
from .records import Category, CocoSet, Record, as_dicts
from .semantic import look_at_pair, tell_empty
from .values import Identity

logger = logging.getLogger(__name__)
Load = Callable[[], Any]
_PANOPTIC = "coco_panoptic_seg"
_OWN = frozenset(name for splits in _PREDEFINED_SPLITS_COCO.values() for name in splits) | {
    f"{name}_{kind}" for name in _PREDEFINED_SPLITS_COCO_PANOPTIC for kind in ("separated", "stuffonly")
}
# what is read anew, and so replaces what the metadata have
_READ = (
    "name",
    "json_file",
    "image_root",
    "evaluator_type",
    "thing_classes",
    "thing_dataset_id_to_contiguous_id",
    "image_ids",
    "category_ids",
)


@dataclass
class _Taken:
    """A set that was taken over: by which arguments, what its owner had registered, and what is there now."""

    arguments: tuple[Any, ...]
    theirs: Load
    known: dict[str, Any]
    ours: Load


_taken: dict[str, _Taken] = {}


def take_over(name: str, skip_bad_records: bool = False, verify_images: VerifyImages = "decode") -> None:
    """Check a registered set, and put the records that were read, with a json of our own for the evaluator,
    in its place; nothing is done where the set is Detectron2's own, ours, or of a kind with an evaluator of
    its own (LVIS, PascalVOC, Cityscapes).

    A set of ``register_coco_instances`` is read from its json as by :func:`.register_coco`, one of
    ``register_coco_panoptic_separated`` too, with its label images beside. Of any other function the records
    are checked; they are measured against ``json_file`` of the metadata where that is given, else against
    themselves.

    Args:
        skip_bad_records, verify_images: as of :func:`.check_coco`.

    Raises:
        DatasetError: its function fails, its metadata don't fit, or records can't be used.
    """
    if name in _OWN or name not in DatasetCatalog.list():
        return
    load, before = DatasetCatalog[name], _taken.get(name)
    again = before is not None and load is before.ours
    theirs, known = (before.theirs, before.known) if before and again else (load, _metadata(name))
    kind, module = known.get("evaluator_type"), str(getattr(theirs, "__module__", ""))
    maker = str(getattr(theirs, "__qualname__", "")).partition(".")[0]
    by_json = maker in ("register_coco_instances", "register_coco_panoptic_separated") and kind != "sem_seg"
    detectron2s = module.startswith("detectron2.")
    semantic = kind == "sem_seg" and maker == "register_coco_panoptic_separated"
    if module.startswith("itpn_d2.") or (detectron2s and not by_json and not semantic):
        return
    if kind not in (None, "coco", "sem_seg", _PANOPTIC):
        return
    stamp = _stamp(known.get("json_file"))
    arguments = (theirs, skip_bad_records, verify_images, stamp)
    if before and again and before.arguments == arguments:
        return
    one = _Set(name, arguments, theirs, known, skip_bad_records, verify_images)
    if detectron2s and by_json:
        one.from_json()
    elif kind == "sem_seg":
        one.of_labels()
    else:
        one.of_function()
    _taken[name] = _Taken(arguments, theirs, known, DatasetCatalog[name])


def put(
    name: str,
    arguments: tuple[Any, ...],
    known: Mapping[str, Any],
    coco: CocoSet,
    records: Sequence[Record],
    kind: str = "coco",
) -> None:
    """Register what was read in the place of a set, whose metadata are ``known``: its colours, keypoints and
    what else it has stay where they fit."""
    json, images = str(known.get("source_json") or known.get("json_file") or name), known.get("image_root")
    kept = {key: value for key, value in known.items() if key not in _READ}
    if len(kept.get("thing_colors", ())) != len(coco.categories):
        kept.pop("thing_colors", None)
    if coco.keypoints and coco.keypoints != list(kept.get("keypoint_names", ())):
        kept = {key: value for key, value in kept.items() if not key.startswith("keypoint")}
    flips = "keypoint_names" not in kept or "keypoint_flip_map" not in kept
    register_detections(
        name, arguments, coco, json, str(images or ""), coco.keypoints if flips else [], records, kind
    )
    known_json = {} if known.get("json_file") is None else {"source_json": json}
    MetadataCatalog.get(name).set(**{**kept, **known_json})


def _metadata(name: str) -> dict[str, Any]:
    return MetadataCatalog.get(name).as_dict()


def _stamp(json: Any) -> float | None:
    """When a json was last written."""
    try:
        return None if json is None else os.path.getmtime(json)
    except OSError:
        return None


@dataclass
class _Set:
    """One set, and the ways in which it can be read."""

    name: str
    arguments: tuple[Any, ...]
    theirs: Load
    known: dict[str, Any]
    skip: bool
    verify: VerifyImages

    def from_json(self, read: CocoSet | None = None) -> None:
        coco, json = read or self._json(), str(self.known["json_file"])
        names = self.known.get("thing_classes")
        if names is not None and list(names) != [_plain_name(c) for c in coco.categories]:
            raise DatasetError(
                f"dataset {self.name!r}: its metadata has thing_classes={list(names)}, {json} has "
                f"{[c.name for c in coco.categories]} in the order of the ids; remove thing_classes from "
                "the metadata"
            )
        kind = str(self.known.get("evaluator_type") or "coco")
        records = as_dicts(coco, str(self.known["image_root"]))
        if kind == _PANOPTIC:
            records = self._labelled([self._with_labels(r) for r in records])
        put(self.name, self.arguments, self.known, coco, records, kind)

    def _json(self) -> CocoSet:
        json, images = Path(self.known["json_file"]), Path(self.known["image_root"])
        data, points = read_coco(json), list(self.known.get("keypoint_names") or ())
        categories = [c for c in data["categories"] if isinstance(c, dict)]
        if points and not any(c.get("keypoints") for c in categories):
            for category in categories:  # the names may be in the metadata alone
                category["keypoints"] = points
        return judge(JsonChecker(json, images, data), self.skip, self.verify).coco

    def of_function(self) -> None:
        kind = str(self.known.get("evaluator_type") or "coco")
        both = self.known.get("json_file"), self.known.get("image_root")
        has_json = kind == "coco" and None not in both
        try:
            found = call(self.name, self.theirs)
        except DatasetError as error:
            if not has_json:
                raise
            logger.warning("%s; the json_file of its metadata is read instead", error)
            return self.from_json()
        self.known = {**_metadata(self.name), **self.known}  # the function may set some itself
        measured = self._json() if has_json else None
        names = self.known.get("thing_classes")
        if measured and names is None:
            names = [c.name for c in measured.categories]
        if not names:
            raise DatasetError(self._lacks("thing_classes", "category_id"))
        points = self.known.get("keypoint_names") or ()
        root = str(self.known["image_root"]) if measured else ""
        checker = GivenChecker(self.name, found, names, points, root)
        given = judge(checker, self.skip, "none" if measured else self.verify).coco
        if measured and (fitting := self._fitting(measured, given)) is not None:
            self._measured_by(measured, given, checker, fitting)
        else:
            self._measured_by_itself(given, checker, kind)

    def _fitting(self, measured: CocoSet, given: CocoSet) -> dict[Identity, Identity] | None:
        """The id in the json of each image that the function gives; None where they don't belong together."""
        root = str(self.known["image_root"])
        of_file = {os.path.abspath(os.path.join(root, p.file_name)): p.id for p in measured.pictures}
        ids = {p.id: of_file.get(os.path.abspath(os.path.join(root, p.file_name))) for p in given.pictures}
        same = [_plain_name(c) for c in measured.categories] == [c.name for c in given.categories]
        if same and None not in ids.values():
            return {key: value for key, value in ids.items() if value is not None}
        logger.warning(
            "dataset %r: its function returns other %s than %s, the json_file of its metadata; it is "
            "evaluated against what the function returns",
            self.name,
            "images" if same else "classes",
            self.known["json_file"],
        )
        return None

    def _measured_by(
        self, measured: CocoSet, given: CocoSet, checker: GivenChecker, ids: Mapping[Identity, Identity]
    ) -> None:
        alike = len(ids) == len(measured.pictures) and len(given.annotations) == len(measured.annotations)
        if alike and not checker.extended and not checker.repeated:
            return self.from_json(measured)
        kept = set(ids.values())
        pictures = [p for p in measured.pictures if p.id in kept]
        annotations = [a for a in measured.annotations if a.image in kept]
        coco = replace(measured, pictures=pictures, annotations=annotations)
        logger.log(
            logging.INFO if len(given.annotations) >= len(annotations) else logging.WARNING,
            "dataset %r: its function returns %d images with %d annotations, which are trained; "
            "evaluation uses the %d annotations of these images in %s",
            self.name,
            len(given.pictures),
            len(given.annotations),
            len(annotations),
            self.known["json_file"],
        )
        records = checker.dicts(given, {key: coco.numbers.images[ids[key]] for key in ids})
        put(self.name, self.arguments, self.known, coco, records)

    def _measured_by_itself(self, given: CocoSet, checker: GivenChecker, kind: str) -> None:
        theirs = self.known.get("thing_dataset_id_to_contiguous_id") or {}
        if any(i != number for i, number in theirs.items()):  # results are written with their ids
            given.numbers.category_ids = {number: i for i, number in theirs.items()}
        records = checker.dicts(given, given.numbers.images)
        if kind == _PANOPTIC and any("sem_seg_file_name" in r for r in records):
            records = self._labelled(records)
        put(self.name, self.arguments, self.known, given, records, kind)

    def of_labels(self) -> None:
        found = call(self.name, self.theirs)
        self.known = {**_metadata(self.name), **self.known}
        good = self._labelled(require_records(self.name, found))
        kept = {key: value for key, value in self.known.items() if key not in ("name", "ignore_label")}
        register(self.name, self.arguments, lambda: good, **kept, ignore_label=IGNORED)

    def _with_labels(self, record: Record) -> Record:
        """The label image has the path of the image apart from the file extension, as in Detectron2."""
        inner = os.path.relpath(record["file_name"], self.known["image_root"])
        path = os.path.join(self.known["sem_seg_root"], f"{os.path.splitext(inner)[0]}.png")
        return {**record, "sem_seg_file_name": path}

    def _labelled(self, records: Sequence[Record]) -> list[Record]:
        """Those whose label images can be used, each with what the numbers in it mean."""
        names = self.known.get("stuff_classes")
        if not names:
            raise DatasetError(self._lacks("stuff_classes", "the numbers in its label images"))
        ignored = self.known.get("ignore_label")
        labelling = Labelling(len(names), ignore_label=IGNORED if ignored is None else int(ignored))
        empty: list[str] = []

        def look(numbered: tuple[int, Record]) -> Problem | None:
            number, record = numbered
            missing = [key for key in ("file_name", "sem_seg_file_name") if not record.get(key)]
            if missing:
                return Problem("missing key", f"records[{number}]", f"no {', '.join(missing)}")
            return look_at_pair(record, labelling, self.verify, empty)

        copies = [{k: str(v) if k.endswith("file_name") else v for k, v in r.items()} for r in records]
        with ThreadPoolExecutor() as pool:
            problems = list(pool.map(look, enumerate(copies)))
        settle(f"dataset {self.name!r}", [p for p in problems if p is not None], self.skip)
        good = [{**r, "labelling": labelling} for r, p in zip(copies, problems, strict=True) if p is None]
        if not good:
            raise DatasetError(f"dataset {self.name!r}: it has no usable pair of image and labels")
        if self.verify == "decode":
            tell_empty(f"dataset {self.name!r}", sorted(empty), len(good), labelling)
        return good

    def _lacks(self, key: str, what: str) -> str:
        return (
            f"dataset {self.name!r}: its metadata lacks {key}, the names of its classes in the order of "
            f"{what}: write MetadataCatalog.get({self.name!r}).{key} = [...] where it is registered"
        )


def _plain_name(category: Category) -> str:
    """The file name as in the json."""
    return category.name.removesuffix(f" (id {category.id})")
