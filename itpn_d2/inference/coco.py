"""A model's outputs in COCO's result formats (https://cocodataset.org/#format-results)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.catalog import Metadata
from detectron2.evaluation.coco_evaluation import instances_to_coco_json

from ..data.records import order
from ..data.values import Identity
from ..errors import ConfigError
from ..evaluation.drawing import semantic_map
from ..evaluation.files import save_png
from ..files import write_json, writing
from .inputs import printable
from .known_ids import KnownIds

Record = dict[str, Any]
LINES = "results.jsonl"


class Categories:
    """Category ids by the contiguous numbers of a model's classes.

    Args:
        metadata: ids from ``<kind>_dataset_id_to_contiguous_id`` where it has them, else number + 1, as COCO
            counts.
        ids: category ids by name, which win.

    Raises:
        ConfigError: ``ids`` lacks a class of the model.
    """

    def __init__(self, metadata: Metadata, ids: Mapping[str, Identity] | None = None):
        self.things = self._of(metadata, "thing", ids)
        self.stuff = self._of(metadata, "stuff", ids)

    @staticmethod
    def _of(
        metadata: Metadata, kind: str, ids: Mapping[str, Identity] | None
    ) -> dict[int, tuple[Identity, str]]:
        names = list(metadata.get(f"{kind}_classes") or ())
        if ids is not None:
            missing = [name for name in names if name not in ids]
            if missing and kind == "thing":
                raise ConfigError(
                    f"the json of image ids has no category {', '.join(missing[:5])} of the model's"
                )
            return {i: (ids[name], name) for i, name in enumerate(names) if name in ids}
        stored = metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {}
        found = {number: dataset for dataset, number in stored.items()}
        return {i: (found.get(i, i + 1), name) for i, name in enumerate(names)}

    def id(self, number: int, thing: bool = True) -> Identity:
        """The category id of a class."""
        known = self.things if thing else self.stuff
        return known[number][0] if number in known else number + 1

    def listing(self) -> list[Record]:
        """Id and name of each, once."""
        both = {**dict(self.stuff.values()), **dict(self.things.values())}
        return [{"id": i, "name": name} for i, name in sorted(both.items(), key=lambda c: order(c[0]))]


def instance_results(output: Record, image_id: Identity, categories: Categories) -> list[Record]:
    """Boxes XYWH in pixels, scores, and masks (RLE) and keypoints where the model has them; of a classifier
    its five best classes."""
    if "instances" in output:
        found = output["instances"].to("cpu")
        if found.has("pred_keypoints"):  # they are shifted in place
            found.pred_keypoints = found.pred_keypoints.clone()
        results = instances_to_coco_json(found, image_id)
        return [{**r, "category_id": categories.id(r["category_id"])} for r in results]
    if "scores" in output:
        scores = output["scores"].float().cpu()
        best = scores.topk(min(5, len(scores)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [{"image_id": image_id, "category_id": categories.id(i), "score": s} for i, s in pairs]
    return []


def semantic_results(output: Record, image_id: Identity, categories: Categories) -> list[Record]:
    """A mask (RLE) for each class that is there."""
    labels = semantic_map(output)
    return [
        {
            "image_id": image_id,
            "category_id": categories.id(int(number), thing=False),
            "segmentation": _rle(labels == number),
        }
        for number in np.unique(labels)
    ]


def panoptic_result(
    output: Record, image_id: Identity, file_name: str, categories: Categories
) -> tuple[Record, np.ndarray]:
    """The segments of an image, and its map of segment ids as COCO's RGB picture.

    The map is ``(H, W)`` int32, the picture ``(H, W, 3)`` uint8, with id = R + 256 G + 65536 B.
    """
    ids, segments = output["panoptic_seg"]
    ids = ids.cpu().numpy()
    listed = [
        {
            "id": int(segment["id"]),
            "category_id": categories.id(int(segment["category_id"]), bool(segment.get("isthing", True))),
            "area": int((ids == segment["id"]).sum()),
        }
        for segment in segments or ()
    ]
    picture = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8)
    return {"image_id": image_id, "file_name": file_name, "segments_info": listed}, picture


def _png_name(image_id: Identity) -> str:
    return f"{image_id:012d}.png" if isinstance(image_id, int) else f"{quote(image_id, safe='')[-200:]}.png"


def _rle(mask: np.ndarray) -> Record:
    encoded = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}


class ResultFiles:
    """The results of many images: ``instances.json``, ``stuff.json`` and ``panoptic.json`` with
    ``panoptic/*.png``, as far as the model makes such, and ``images.json`` with the ids that they use.

    Until :meth:`save`, ``results.jsonl`` has a line for each image that is done, which also a killed process
    leaves.

    Args:
        folder: where :meth:`save` writes.
        metadata: of the classes.
        known: a COCO json whose ids of images (by file name) and categories (by name) count.

    Raises:
        ConfigError: ``known`` is no such json, or lacks a class.
    """

    def __init__(self, folder: Path, metadata: Metadata, known: Path | None = None):
        self.folder = folder
        self.images: list[Record] = []
        self.known = None if known is None else KnownIds(known)
        self.categories = Categories(metadata, None if self.known is None else self.known.categories)
        self._next = 0 if self.known is None else self.known.largest
        self._results: dict[str, list[Record]] = {"instances": [], "stuff": [], "panoptic": []}
        self._seen: set[str] = set()
        self._lines: TextIO | None = None

    def add(self, file_name: str, size: tuple[int, int], output: Record) -> Identity:
        """Take the output of an image of ``size`` (height, width); returns its id: that of the json for the
        one file whose path ends in the same way, else a new one."""
        number = None if self.known is None else self.known.image(file_name)
        if number is None:
            number = self._next = self._next + 1
        image = {"id": number, "file_name": file_name, "height": size[0], "width": size[1]}
        found: dict[str, list[Record]] = {}
        if "instances" in output or "scores" in output:
            found["instances"] = instance_results(output, number, self.categories)
        if "sem_seg" in output and "panoptic_seg" not in output:
            found["stuff"] = semantic_results(output, number, self.categories)
        if "panoptic_seg" in output:
            result, picture = panoptic_result(output, number, _png_name(number), self.categories)
            save_png(self.folder / "panoptic" / result["file_name"], picture)
            found["panoptic"] = [result]
        self._append({"image": image, **found})
        self.images.append(image)
        for name, results in found.items():
            self._results[name] += results
            self._seen.add(name)
        return number

    def unmatched(self) -> list[str]:
        """What to say of images and ids of the json that did not find each other."""
        if self.known is None:
            return []
        said = []
        if self.known.unknown:
            count, first = len(self.known.unknown), printable(self.known.unknown[0])
            said.append(
                f"{count} images have no unique id in the json and got new ones; the first is {first}"
            )
        if self.known.missing:
            said.append(f"{self.known.missing} images of the json have no results")
        return said

    def _append(self, line: Record) -> None:
        path = self.folder / LINES
        with writing(path):
            if self._lines is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lines = open(path, "w", encoding="utf-8")  # noqa: SIM115  (until save)
            self._lines.write(json.dumps(line) + "\n")
            self._lines.flush()

    def save(self) -> list[Path]:
        """Write what there is, each file whole or not at all; the paths. Nothing without an image."""
        if not self.images:
            return []
        contents: dict[str, Any] = {name: self._results[name] for name in sorted(self._seen)}
        categories = self.categories.listing()
        if "panoptic" in contents:  # COCO's panoptic results are one object
            contents["panoptic"] = {"annotations": contents["panoptic"], "categories": categories}
        contents["images"] = {"images": self.images, "categories": categories}
        paths = []
        for name, content in contents.items():
            paths.append(self.folder / f"{name}.json")
            write_json(paths[-1], content, indent=None)
        if self._lines is not None:  # all of it is in the others now
            self._lines.close()
            self._lines = None
            (self.folder / LINES).unlink(missing_ok=True)
        return paths
