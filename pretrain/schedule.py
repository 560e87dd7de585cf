"""Image size, batch and learning rate by epoch (progressive FastMIM)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Stage:
    """From ``epoch`` on: image side in pixels, images per step over all devices, peak learning rate.

    ``batch`` and ``lr`` are None where the run's own values hold.
    """

    epoch: int
    size: int
    batch: int | None = None
    lr: float | None = None


class ProgressiveSchedule:
    """Stages of growing (or any) image size.

    Args:
        stages: mappings with ``epoch`` and ``size``, optionally ``batch`` and ``lr``, which otherwise stay
            as in the stage before.
        divisor: what every size must be a multiple of: the token stride, or the mask block if that is larger.

    Raises:
        ValueError: no stages, the first not at epoch 0, epochs that do not increase, a size that is no
            multiple of ``divisor``, a batch or lr that is not positive, or an unknown or absent key.
    """

    def __init__(self, stages: Iterable[Mapping[str, Any]], divisor: int = 16):
        self.stages: list[Stage] = []
        for index, entry in enumerate(stages):
            where = f"stage {index} of the progressive schedule"
            unknown = set(entry) - {"epoch", "size", "batch", "lr"}
            absent = {"epoch", "size"} - set(entry)
            if unknown or absent:
                raise ValueError(
                    f"{where}: keys epoch, size, batch and lr are known; "
                    f"unknown {sorted(unknown)}, absent {sorted(absent)}"
                )
            stage = Stage(**entry)
            if self.stages:
                last = self.stages[-1]
                stage = replace(
                    stage,
                    batch=last.batch if stage.batch is None else stage.batch,
                    lr=last.lr if stage.lr is None else stage.lr,
                )
            self._check(stage, where, divisor)
            self.stages.append(stage)
        if not self.stages:
            raise ValueError("the progressive schedule has no stages")

    def _check(self, stage: Stage, where: str, divisor: int) -> None:
        if not self.stages and stage.epoch != 0:
            raise ValueError(f"{where}: the first stage starts at epoch 0, not {stage.epoch}")
        if self.stages and stage.epoch <= self.stages[-1].epoch:
            raise ValueError(f"{where}: epoch {stage.epoch} is not after {self.stages[-1].epoch}")
        if stage.size < 1 or stage.size % divisor:
            raise ValueError(f"{where}: size {stage.size} is not a positive multiple of {divisor}")
        for name in ("batch", "lr"):
            value = getattr(stage, name)
            if value is not None and value <= 0:
                raise ValueError(f"{where}: {name} {value} is not positive")

    def at(self, epoch: int) -> Stage:
        """The stage that holds in ``epoch``, counted from 0; ValueError if that is negative."""
        if epoch < 0:
            raise ValueError(f"epoch {epoch} is negative")
        return [s for s in self.stages if s.epoch <= epoch][-1]

    def starts(self, epoch: int) -> bool:
        """Whether a stage begins with this epoch."""
        return any(s.epoch == epoch for s in self.stages)
