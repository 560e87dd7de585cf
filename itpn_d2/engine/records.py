"""What steps have found, on its way from the device to the log, without a step that waits for it."""

import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage


@dataclass
class Record:
    """One step.

    Attributes:
        iteration: its number.
        names: of the losses.
        row: (losses + 1,) float32 of the CPU: the losses and the norm of the gradients. The copy from a GPU
            may be under way.
        copied: tells when it is done; None where ``row`` is complete.
        waited: seconds for the data; seconds: for the whole step, these included.
        images: of this process.
    """

    iteration: int
    names: tuple[str, ...]
    row: torch.Tensor
    copied: torch.cuda.Event | None
    waited: float
    seconds: float = 0.0
    images: int = 0

    @classmethod
    def begin(
        cls, iteration: int, losses: dict[str, torch.Tensor], norm: torch.Tensor, waited: float, late: bool
    ) -> "Record":
        """Send losses and norm, scalars of one device, on their way; ``late`` does not wait for them."""
        found = torch.stack([*losses.values(), norm.to(next(iter(losses.values())).device)]).detach()
        row = found.to("cpu", non_blocking=late)  # from a GPU into memory that is pinned for it
        copied = None
        if late and found.device.type == "cuda":
            copied = torch.cuda.Event()
            copied.record(torch.cuda.current_stream(found.device))
        return cls(iteration, tuple(losses), row, copied, waited)

    def values(self) -> list[float]:
        """Losses and norm; waits until they are there."""
        if self.copied is not None:
            self.copied.synchronize()
            self.copied = None
        return self.row.tolist()

    @property
    def losses(self) -> dict[str, float]:
        """The losses by name; waits until they are there."""
        return dict(zip(self.names, self.values()[:-1], strict=True))

    @property
    def norm(self) -> float:
        """The L2 norm of the gradients, before clipping; waits until it is there."""
        return self.values()[-1]

    @property
    def loss_is_finite(self) -> bool:
        """Whether the sum of the losses is finite; waits until they are there."""
        return math.isfinite(sum(self.losses.values()))


def images_in(batch: Any) -> int:
    """How many images a batch has: a list of samples, a tensor of images, or a mapping with one."""
    if isinstance(batch, Mapping):
        tensors = [value for value in batch.values() if isinstance(value, torch.Tensor) and value.ndim]
        return len(tensors[0]) if tensors else 0
    return len(batch) if isinstance(batch, Sized) else 0


def positions_in(batch: Any) -> list[int] | None:
    """Where the samples of a batch stand in the sequence of all, ``position`` of each; None if it is not
    said."""
    if isinstance(batch, Mapping):
        return batch.get("position")
    if isinstance(batch, list) and batch and all(isinstance(s, Mapping) and "position" in s for s in batch):
        return [sample["position"] for sample in batch]
    return None


def write(records: Sequence[Record], storage: EventStorage) -> None:
    """The means over all processes into the main one's storage, each under its iteration; all processes call
    it, with as many steps. Losses that are not finite are left out.

    ``data_time`` is that of the process that waited longest; ``data_time_rank`` says which waited the most
    over all of these steps. ``images_per_s`` are those of all processes in these steps, without what
    happened in between.
    """
    told = comm.gather([(r.losses, r.waited, r.seconds, r.images) for r in records])
    if not comm.is_main_process():
        return
    last = storage.iter
    for record, by_rank in zip(records, zip(*told, strict=True), strict=True):
        storage.iter = record.iteration
        losses = {name: sum(part[0][name] for part in by_rank) / len(by_rank) for name in record.names}
        storage.put_scalar("data_time", max(part[1] for part in by_rank))
        storage.put_scalar("grad_norm", record.norm)
        total = sum(losses.values())
        if math.isfinite(total):
            storage.put_scalar("total_loss", total)
            storage.put_scalars(**losses if len(losses) > 1 else {})
    storage.iter = last
    seconds = sum(max(part[2] for part in by_rank) for by_rank in zip(*told, strict=True))
    images = sum(part[3] for by_step in told for part in by_step)
    if seconds > 0 and images:
        storage.put_scalar("images_per_s", images / seconds, smoothing_hint=False)
    if len(told) > 1:
        longest = max(range(len(told)), key=lambda rank: sum(part[1] for part in told[rank]))
        storage.put_scalar("data_time_rank", longest, smoothing_hint=False)
