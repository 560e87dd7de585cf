"""Data loaders over image sources."""

from typing import Any

import torch
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader

from itpn_d2.data import ResumableBatchSampler
from itpn_d2.data.image_sources import ImageSource
from itpn_d2.data.workers import worker_options

from .dataset import ImageDataset, View, collate


def _options(num_workers: int) -> dict[str, Any]:
    options = worker_options(num_workers, persistent=False)
    return {"collate_fn": collate, "pin_memory": torch.cuda.is_available(), **options}


def build_pretrain_loader(
    source: ImageSource,
    view: View,
    total_batch_size: int,
    num_workers: int = 0,
    seed: int = 0,
    start_iter: int = 0,
) -> DataLoader:
    """Endless batches of this process's share of ``total_batch_size``, in a new order every epoch.

    A batch has ``image`` uint8 ``(B, 3, H, W)``, ``index`` int64 ``(B,)``, ``position`` (B
    integers), ``broken`` (see :class:`~pretrain.data.ImageDataset`), and where view and source give them
    ``teacher_image`` and ``label`` int64 ``(B,)``. Batch ``i`` is the same for any number of workers, and
    whether reached from the start or with ``start_iter=i``, so that a change of size is a new loader with
    another view.

    Raises:
        ValueError: the batch can't be split evenly over the processes.
    """
    sampler = ResumableBatchSampler(
        len(source), total_batch_size, seed, comm.get_rank(), comm.get_world_size(), start_iter
    )
    return DataLoader(ImageDataset(source, view), batch_sampler=sampler, **_options(num_workers))


def build_image_loader(source: ImageSource, view: View, batch_size: int, num_workers: int = 0) -> DataLoader:
    """Every image once, in order, split over the processes; batches as from :func:`build_pretrain_loader`.

    Another image stands in for a broken one, as ``index`` tells.
    """
    return DataLoader(
        ImageDataset(source, view),
        batch_size=batch_size,
        sampler=InferenceSampler(len(source)),
        **_options(num_workers),
    )
