"""Labelled images from sources of any kind, with common class numbers."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DatasetError
from .arrow import hf_images, is_arrow
from .image_sources import ImageSource, image_folder, text_list
from .shards import are_shards, image_shards


def labelled_source(place: str, root: str = "") -> ImageSource:
    """A folder of class folders, a text file of ``path,label`` lines relative to ``root``, tar files with
    ``.cls`` members (a folder of them, one, a pattern or an address), or a Hugging Face dataset (see
    :mod:`.arrow`).

    Raises:
        DatasetError: see :func:`.image_folder`, :func:`.text_list`, :func:`.image_shards` and
            :func:`.hf_images`.
    """
    if is_arrow(place):
        return hf_images(place, labelled=True)
    if are_shards(place):
        return image_shards(place, labelled=True)
    if Path(place).is_file():
        return text_list(place, root, labelled=True)
    return image_folder(place, labelled=True)


def as_classes(labels: Tensor, source: ImageSource, classes: tuple[str, ...]) -> Tensor:
    """Labels of ``source`` ``(N,)`` as numbers of ``classes``: two places need not have the same classes.

    Where a list has numbers and ``classes`` none (ImageNet's lists beside its folders), they count the
    classes from 0.

    Raises:
        DatasetError: a label that ``classes`` lacks.
    """
    number = {name: i for i, name in enumerate(classes)}
    listed = source.summary.get("kind") == "list" and all(name.isdecimal() for name in source.classes)
    if listed and not any(name.isdecimal() for name in classes):
        number = {str(i): i for i in range(len(classes))}
    seen = sorted({source.classes[i] for i in labels.unique().tolist()})
    unknown = [name for name in seen if name not in number]
    if unknown:
        raise DatasetError(
            f"{source.summary.get('file') or source.summary['root']}: class {', '.join(unknown[:5])} has "
            "no training image; add some, or remove the class from the test set"
        )
    return torch.from_numpy(np.array([number.get(name, -1) for name in source.classes]))[labels]
