"""Data loaders over registered datasets."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from detectron2.data import DatasetCatalog, DatasetFromList
from detectron2.data.samplers import InferenceSampler, RepeatFactorTrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from ..errors import DatasetError
from .decode import BrokenImageError
from .record_table import RecordTable
from .sampler import Place, ResumableBatchSampler, stand_ins
from .workers import worker_options

logger = logging.getLogger(__name__)
Mapper = Callable[[dict[str, Any], int], dict[str, Any]]


class MappedRecords(Dataset):
    """Records, mapped on access by index or by (position, index), of which a sample then tells its
    ``position``. A list of them is kept serialised, so that workers share one copy.

    If the mapper raises :class:`BrokenImageError`, this is logged and another record is used instead.

    Args:
        replace: also replace records whose mapper raises :class:`DatasetError`, which in training is better
            than losing the run. The sample then has ``instead_of``: (file, reason) of each.
    """

    def __init__(self, records: Sequence[dict[str, Any]], mapper: Mapper, replace: bool = False):
        listed = isinstance(records, list)
        self.records = DatasetFromList(records, copy=False, serialize=True) if listed else records
        self.mapper = mapper
        self.caught = (BrokenImageError, DatasetError) if replace else (BrokenImageError,)
        self.replace = replace

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, place: int | Place) -> dict[str, Any]:
        position, index = place if isinstance(place, tuple) else (int(place), int(place))
        broken: list[tuple[str, str]] = []
        for candidate in stand_ins(index, position, len(self)):
            record = self.records[candidate]
            try:
                sample = self.mapper(record, position)
            except self.caught as error:
                logger.warning("%s: left out, since it can't be read (%s)", record["file_name"], error)
                broken.append((str(record["file_name"]), str(error)))
                continue
            if isinstance(place, tuple):
                sample = {**sample, "position": position}
            return {**sample, "instead_of": broken} if broken and self.replace else sample
        raise DatasetError(
            f"{self.records[index]['file_name']}: neither this image nor those drawn as its replacement "
            "can be read; check that the folder exists"
        )


def _those(
    records: Sequence[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]
) -> Sequence[dict[str, Any]]:
    if isinstance(records, RecordTable):
        return records.take(i for i, r in enumerate(records) if wanted(r))
    return [r for r in records if wanted(r)]


def _not_crowd(record: dict[str, Any]) -> bool:
    return any(not a.get("iscrowd", 0) for a in record.get("annotations", ()))


def _labelled_keypoints(record: dict[str, Any]) -> int:
    kept = (a for a in record.get("annotations", ()) if not a.get("iscrowd", 0))
    return sum(v > 0 for a in kept for v in a.get("keypoints", ())[2::3])


def _require_masks(dataset: str, records: Sequence[dict[str, Any]], remedy: str) -> None:
    """DatasetError that names the first annotation without a segmentation, and how many there are."""
    without = [
        (r, number)
        for r in records
        for number, a in enumerate(r.get("annotations", ()))
        if not (a.get("segmentation") or a.get("iscrowd", 0))
    ]
    if without:
        record, number = without[0]
        raise DatasetError(
            f"dataset {dataset!r}: {len(without)} annotations have no segmentation; the first is number "
            f"{number} of {record['file_name']}. Give each a mask, or {remedy}"
        )


def _log_left_out(dataset: str, count: int, what: str) -> None:
    if count:
        logger.info("dataset %r: %d images are left out, since they have no %s", dataset, count, what)


def build_train_loader(
    dataset: str,
    mapper: Mapper,
    total_batch_size: int,
    num_workers: int = 0,
    seed: int = 0,
    start_iter: int = 0,
    aspect_ratio_grouping: bool = True,
    filter_empty: bool = True,
    repeat_threshold: float | None = None,
    min_keypoints: int = 0,
    reference_batch: int | None = None,
    reference_rule: Literal["linear", "sqrt"] = "linear",
) -> DataLoader:
    """Endless batches (lists of mapped records) of this process's share of ``total_batch_size``.

    Args:
        dataset: registered name.
        start_iter: the first batch to yield; see :class:`ResumableBatchSampler`.
        filter_empty: leave out images without annotations (other than crowds).
        repeat_threshold: category frequency below which images are repeated (LVIS), None for none.
        min_keypoints: leave out images with fewer labelled keypoints.
        reference_batch, reference_rule: not for the loader: a run scales its learning rate by them.

    Raises:
        DatasetError: nothing to train on; the mapper wants masks and an annotation has none; or images of a
            set without annotations were to be repeated, or grouped by sizes that are not known.
    """
    records = DatasetCatalog.get(dataset)
    total = len(records)
    if filter_empty:
        records = _those(records, _not_crowd)
        _log_left_out(dataset, total - len(records), "annotations (filter_empty=False would train on them)")
    if min_keypoints:
        annotated = len(records)
        records = _those(records, lambda r: _labelled_keypoints(r) >= min_keypoints)
        _log_left_out(dataset, annotated - len(records), f"{min_keypoints} labelled keypoints")
    if not records:
        what = f"{min_keypoints} labelled keypoints" if min_keypoints else "annotations"
        raise DatasetError(f"dataset {dataset!r} has no image with {what} to train on")
    if getattr(mapper, "use_instance_mask", False):
        _require_masks(dataset, records, "train boxes only with a faster_rcnn config")
    repeats = None
    if repeat_threshold is not None:
        if "annotations" not in records[0]:
            raise DatasetError(
                f"dataset {dataset!r} has no annotations, from which repeat_threshold counts the classes: "
                "leave repeat_threshold at null"
            )
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            records, repeat_threshold
        )
        repeats = np.asarray(factors).tolist()
    if aspect_ratio_grouping and "width" not in records[0]:
        raise DatasetError(
            f"dataset {dataset!r} does not give the sizes of its images: set "
            "dataloader.train.aspect_ratio_grouping=False, or verify_images=header of the dataset"
        )
    sampler = ResumableBatchSampler(
        len(records),
        total_batch_size,
        seed,
        comm.get_rank(),
        comm.get_world_size(),
        start_iter,
        sizes=[(r["width"], r["height"]) for r in records] if aspect_ratio_grouping else None,
        repeats=repeats,
    )
    return DataLoader(
        MappedRecords(records, mapper, replace=True),
        batch_sampler=sampler,
        collate_fn=list,
        pin_memory=torch.cuda.is_available(),
        **worker_options(num_workers),
    )


def build_test_loader(dataset: str, mapper: Mapper, batch_size: int = 1, num_workers: int = 0) -> DataLoader:
    """Every image once, split over the processes; batches are lists of mapped records."""
    records = DatasetCatalog.get(dataset)
    return DataLoader(
        MappedRecords(records, mapper),
        batch_size=batch_size,
        sampler=InferenceSampler(len(records)),
        collate_fn=list,
        **worker_options(num_workers),
    )


def build_val_loss_loader(
    dataset: str,
    mapper: Mapper,
    batch_size: int = 1,
    num_workers: int = 0,
    max_images: int | None = None,
    filter_empty: bool = True,
) -> DataLoader:
    """As :func:`build_test_loader`, over at most ``max_images`` images (annotated ones, unless
    ``filter_empty`` is off) and a mapper that keeps annotations.

    Raises:
        DatasetError: there is no such image, or the mapper wants masks and an annotation has none.
    """
    records = DatasetCatalog.get(dataset)
    records = (_those(records, _not_crowd) if filter_empty else records)[:max_images]
    if not records:
        raise DatasetError(
            f"dataset {dataset!r} has no annotations, which the validation loss needs: set "
            "train.validation_loss=False"
        )
    if getattr(mapper, "use_instance_mask", False):
        _require_masks(dataset, records, "set train.validation_loss=False")
    return DataLoader(
        MappedRecords(records, mapper),
        batch_size=batch_size,
        sampler=InferenceSampler(len(records)),
        collate_fn=list,
        **worker_options(num_workers),
    )
