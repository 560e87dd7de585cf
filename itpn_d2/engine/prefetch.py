"""The next batch goes to the GPU while a step runs there."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from copy import copy
from typing import Any, Protocol

import torch
from detectron2.structures import Instances
from torch import Tensor

from ..layers import upload


def on_device(batch: Any, device: torch.device, but: Collection[str] = ()) -> Any:
    """``batch`` with its tensors on ``device``: those in mappings (except under the keys of ``but``), lists
    and tuples, in ``Instances``, and in Detectron2's structures of one tensor (boxes, bitmasks, keypoints).
    The rest, such as polygons, stays what it is. Nothing waits for the copies, which go through pinned
    memory."""
    if isinstance(batch, Tensor):
        return upload(batch, device)
    if isinstance(batch, Mapping):
        return {k: v if k in but else on_device(v, device, but) for k, v in batch.items()}
    if isinstance(batch, list) or type(batch) is tuple:
        return type(batch)(on_device(value, device, but) for value in batch)
    if isinstance(batch, Instances):
        fields = {name: on_device(value, device) for name, value in batch.get_fields().items()}
        return Instances(batch.image_size, **fields)
    if isinstance(getattr(batch, "tensor", None), Tensor):
        moved = copy(batch)
        moved.tensor = upload(batch.tensor, device)
        return moved
    return batch


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """Those that :func:`on_device` moves."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Instances):
        yield from tensors_in(batch.get_fields())
    elif isinstance(batch, Mapping):
        yield from tensors_in(list(batch.values()))
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from tensors_in(value)
    elif isinstance(getattr(batch, "tensor", None), Tensor):
        yield batch.tensor


class Side(Protocol):
    """A queue of work beside the one that a step's work is in."""

    def within(self) -> AbstractContextManager[Any]:
        """What is started in the block goes into this queue."""

    def join(self, tensors: Iterable[Tensor]) -> None:
        """What is started from now on in the step's queue waits for what this one has been given so far.
        Memory of ``tensors``, made here, is not given to others before the step's queue is done with it."""


class SideStream:
    """A stream of CUDA."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)

    def within(self) -> AbstractContextManager[Any]:
        """A context whose work for the GPU is queued on this stream."""
        return torch.cuda.stream(self.stream)

    def join(self, tensors: Iterable[Tensor]) -> None:
        """Let the current stream wait for this one, and keep ``tensors`` in memory until it is done."""
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self.stream)
        for tensor in tensors:
            if tensor.is_cuda:
                tensor.record_stream(current)


def prefetched(
    batches: Iterable[Any], device: torch.device, but: Collection[str] = (), side: Side | None = None
) -> Iterator[Any]:
    """The batches on ``device``, what is under the keys of ``but`` excepted. On CUDA, or with a ``side``, the
    copy of each is under way when the one before is handed out, so that it runs beside the step; for that one
    batch more is asked for than is used. On a CPU they are what they are."""
    if side is None and device.type == "cuda":
        side = SideStream(device)
    if side is not None:
        return _ahead(batches, device, but, side)
    return iter(batches) if device.type == "cpu" else (on_device(batch, device, but) for batch in batches)


def _ahead(batches: Iterable[Any], device: torch.device, but: Collection[str], side: Side) -> Iterator[Any]:
    waiting: list[Any] = []
    for batch in batches:
        with side.within():
            copied = on_device(batch, device, but)
        if waiting:
            yield waiting.pop()
        # joined before the next copy is started, which it would otherwise wait for, too
        side.join(tensors_in(copied))
        waiting.append(copied)
    yield from waiting
