"""What steps have found, on its way from the device to the log, without a step that waits for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
        waited: seconds for the data.
    """

    iteration: int
    names: tuple[str, ...]
    row: torch.Tensor
    copied: torch.cuda.Event | None
    waited: float

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
            copied.record()
        return cls(iteration, tuple(losses), row, copied, waited)

    def values(self) -> list[float]:
        """Losses and norm; waits until they are there."""
        if self.copied is not None:
            self.copied.synchronize()
            self.copied = None
        return self.row.tolist()

    @property
    def losses(self) -> dict[str, float]:
        return dict(zip(self.names, self.values()[:-1], strict=True))

    @property
    def norm(self) -> float:
        return self.values()[-1]

    @property
    def loss_is_finite(self) -> bool:
        return math.isfinite(sum(self.losses.values()))


def write(records: Sequence[Record], storage: EventStorage) -> None:
    """The means over all processes into the main one's storage, each under its iteration; all processes call
    it, with as many steps. Losses that are not finite are left out.

    ``data_time`` is that of the process that waited longest; ``data_time_rank`` says which waited the most
    over all of these steps.
    """
    if not records:
        return
    told = comm.gather([(record.losses, record.waited) for record in records])
    if not comm.is_main_process():
        return
    last = storage.iter
    for record, by_rank in zip(records, zip(*told, strict=True), strict=True):
        storage.iter = record.iteration
        losses = {name: sum(part[name] for part, _ in by_rank) / len(by_rank) for name in record.names}
        storage.put_scalar("data_time", max(waited for _, waited in by_rank))
        storage.put_scalar("grad_norm", record.norm)
        total = sum(losses.values())
        if math.isfinite(total):
            storage.put_scalar("total_loss", total)
            storage.put_scalars(**losses if len(losses) > 1 else {})
    storage.iter = last
    if len(told) > 1:
        longest = max(range(len(told)), key=lambda rank: sum(waited for _, waited in told[rank]))
        storage.put_scalar("data_time_rank", longest, smoothing_hint=False)
