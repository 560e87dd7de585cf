"""Labelled images as a registered dataset, and the mapper from a record to the input of a classifier."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..errors import DatasetError
from ..seed import seeded
from .catalogs import is_registered, register
from .decode import BrokenImageError, decode, open_image, pixels, upright_size
from .decoder import Decoder, is_quick
from .image_sources import ImageSource, PathTable
from .picture_check import VerifyImages
from .posterize import keep_a_bit
from .sources import as_classes, labelled_source

logger = logging.getLogger(__name__)
View = Callable[[Image.Image], np.ndarray | torch.Tensor]
_SHOWN = 20


class LabelledRecords(Sequence[dict[str, Any]]):
    """Records ``file_name``, ``image_id`` (place in the source) and ``label``, made on access: a million of
    them take no more memory than their paths.

    Args:
        source: N images.
        labels: ``(N,)`` integers, the class of each.
    """

    def __init__(self, source: ImageSource, labels: np.ndarray):
        self.source, self.labels = source, labels

    def __len__(self) -> int:
        return len(self.source)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        path = self.source.path(index)
        return {"file_name": path, "image_id": index % len(self), "label": int(self.labels[index])}


def register_labelled_images(
    name: str,
    images: str,
    root: str = "",
    classes: Sequence[str] | None = None,
    skip_bad_records: bool = False,
    verify_images: VerifyImages = "decode",
) -> str:
    """Register a folder with a folder for each class, or a text file of ``path,label`` lines, under ``name``.

    Args:
        images: the folder or the file.
        root: what relative paths of the file are relative to; by default the folder of the file.
        classes: names in the order of their numbers, those of the training set for a validation set; None:
            the names found, sorted.
        skip_bad_records: leave out and log images that can't be read, instead of refusing the dataset.
        verify_images: ``decode`` reads every image whole, ``header`` its size only, ``none`` does not look.

    Raises:
        DatasetError: nothing was given or found, an image is broken, or a class is not among ``classes``.
    """
    if not images:
        split = "val" if name.endswith("val") else "train"
        raise DatasetError(
            f"dataset {name!r} has no images: set dataset.{split}.images=FOLDER (with one subfolder per "
            "class)"
        )
    arguments = (images, root, tuple(classes or ()), skip_bad_records, verify_images)
    if is_registered(name, arguments):
        return name
    source = labelled_source(images, root)
    if verify_images != "none":
        source = _without_broken(source, images, skip_bad_records, verify_images)
    assert source.labels is not None
    names, labels = source.classes, source.labels
    if classes is not None:
        names = tuple(classes)
        labels = as_classes(torch.from_numpy(labels).long(), source, names).numpy().astype(np.int32)
    records = LabelledRecords(source, labels)
    register(name, arguments, lambda: records, thing_classes=list(names), evaluator_type="classification")
    return name


def _without_broken(source: ImageSource, images: str, skip: bool, verify: VerifyImages) -> ImageSource:
    def problem(index: int) -> str | None:
        try:
            with open_image(source.path(index)) as image:
                if verify == "decode":
                    decode(image)
                else:
                    upright_size(image)
        except BrokenImageError as error:
            return f"{source.path(index)}: {error}"
        return None

    with ThreadPoolExecutor() as pool:
        looked = pool.map(problem, range(len(source)), chunksize=64)
        problems = list(tqdm(looked, "checking images", len(source), delay=1.0, leave=False))
    bad = [p for p in problems if p is not None]
    if not bad:
        return source
    shown = "\n".join(f"  {p}" for p in bad[:_SHOWN])
    if len(bad) > _SHOWN:
        shown += f"\n  ... and {len(bad) - _SHOWN} more"
    if not skip:
        raise DatasetError(
            f"{images}: {len(bad)} image(s) can't be read\n{shown}\nRepair or remove them, or train "
            "without them: --skip-bad-records"
        )
    if len(bad) == len(source):
        raise DatasetError(f"{images}: none of its {len(bad)} images can be read\n{shown}")
    logger.warning("%s: %d unreadable image(s) left out\n%s", images, len(bad), shown)
    kept = [i for i, p in enumerate(problems) if p is None]
    assert source.labels is not None
    return replace(source, paths=PathTable(source.paths[i] for i in kept), labels=source.labels[kept])


class LabelledImageMapper:
    """A record of :class:`LabelledRecords` with its view: ``image`` uint8 ``(3, H, W)``, RGB.

    All randomness of a sample comes from ``seed`` and its position in the sequence of samples, as in
    :class:`TrainMapper`.

    Args:
        view: upright RGB picture to uint8 ``(3, H, W)``, such as ``timm.data.create_transform(size, ...,
            use_prefetcher=True)``; it may draw from Python's, NumPy's and torch's generators. Of timm's its
            posterize operations are changed in place (:func:`.keep_a_bit`).
        min_side: large JPEG pictures are decoded at a fraction of their size, with a short side of at least
            this many pixels (several times that of the view, which may be a small crop); None for whole.
        decoder: the library that decodes; see :mod:`.decoder`. The view resizes as it is made to.
    """

    def __init__(self, view: View, seed: int = 0, min_side: int | None = None, decoder: Decoder = "auto"):
        is_quick(decoder)
        self.view, self.seed, self.min_side = view, seed, min_side
        self.decoder: Decoder = decoder
        keep_a_bit(view)

    def __call__(self, record: dict[str, Any], position: int = 0) -> dict[str, Any]:
        """
        Raises:
            BrokenImageError: the image can't be read; the loaders take another one then.
        """
        with open_image(record["file_name"]) as image:
            reduction = 1.0 if self.min_side is None else min(upright_size(image)) / self.min_side
            picture = Image.fromarray(pixels(image, self.decoder, reduction))
        with seeded(self.seed, position):
            return {**record, "image": torch.as_tensor(self.view(picture))}
