"""Handling of losses and gradients that are not finite."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from ..errors import DivergenceError
from .records import Record

logger = logging.getLogger(__name__)
_MOST = 10  # steps in a row that are skipped
_REMEDY = (
    "Lower optimizer.lr, set train.clip_grad_norm=1.0, or train.amp.dtype=fp32; "
    "checkpoints written so far are good"
)


def contagious(loss: torch.Tensor) -> torch.Tensor:
    """``loss``, whose gradients are not finite if it is not: a process that exchanges gradients tells the
    others so. Finite ones are unchanged, bit for bit.

    A scalar, in and out.
    """
    return loss * (loss.detach() * 0 + 1)


def drops_by_itself(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``found_inf`` of an optimizer, on the device, makes it leave a step out, as fused ones do."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


class FiniteCheck:
    """Judges steps, and says of each whether the optimizer may take it.

    With an optimizer that drops bad steps by itself, on a device that the host does not want to wait for, a
    step is judged when the next one has been sent there.

    Args:
        nan: ``stop``: a loss that is not finite ends the run. ``skip``: the step is left out, until that has
            happened 10 times in a row.
        scaled: the losses are scaled for float16, so that non-finite gradients are normal.

    Attributes:
        skipped: steps that a loss or gradient has cost, so far.
    """

    def __init__(self, nan: Literal["stop", "skip"] = "stop", scaled: bool = False):
        self.nan, self.scaled = nan, scaled
        self.skipped, self._in_a_row = 0, 0
        self._pending: Record | None = None

    def state_dict(self) -> dict[str, int]:
        """The steps skipped so far, and those in a row."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on counting from there; from 0 where ``state`` is empty."""
        self.skipped, self._in_a_row = int(state.get("skipped", 0)), int(state.get("in_a_row", 0))

    def now(self, record: Record) -> bool:
        """Whether the step that ``record`` tells of may be taken.

        Raises:
            DivergenceError: the run should not go on; the message has the losses and what helps.
        """
        self.finish()
        return self._judge(record)

    def later(self, record: Record) -> None:
        """Judge this one at the next call, and the one before it now; raises as :meth:`now`."""
        self.finish()
        self._pending = record

    def finish(self) -> None:
        """Judge what has been put off; raises as :meth:`now`."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._judge(pending)

    def _judge(self, record: Record) -> bool:
        finite = record.loss_is_finite
        if not finite and self.nan == "stop":
            raise DivergenceError(_advice(record))
        if finite and (self.scaled or math.isfinite(record.norm)):
            self._in_a_row = 0
            return True
        # a finite loss with an overflowed gradient would poison every weight
        self.skipped += 1
        self._in_a_row += 1
        what = "gradient norm" if finite else "loss"
        value = record.norm if finite else sum(record.losses.values())
        logger.warning("iteration %d: %s is %s, optimizer step skipped", record.iteration, what, value)
        if self.nan == "skip" and self._in_a_row >= _MOST:
            raise DivergenceError(f"train.nan=skip has skipped {_MOST} steps in a row: {_advice(record)}")
        return False


@contextmanager
def divergence_named(iteration: int) -> Iterator[None]:
    """Detectron2's proposals stop a training whose boxes or scores are not finite, before there is a loss;
    this is reported like a non-finite loss.

    Raises:
        DivergenceError: in place of any ``FloatingPointError``.
    """
    try:
        yield
    except FloatingPointError as error:
        raise DivergenceError(f"iteration {iteration}: {error} {_REMEDY}") from error


def _advice(record: Record) -> str:
    return (
        f"loss is {sum(record.losses.values())} at iteration {record.iteration}: {record.losses}, gradient "
        f"norm {record.norm}. {_REMEDY}"
    )
