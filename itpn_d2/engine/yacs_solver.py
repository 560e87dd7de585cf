"""``SOLVER`` of a yacs config: the optimizer, how its gradients are clipped, and the schedule."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)


def build_yacs_optimizer(
    params: Iterable[Any],
    lr: float,
    name: Literal["AdamW", "SGD"] = "AdamW",
    momentum: float = 0.9,
    nesterov: bool = False,
    clip_type: Literal["value", "norm"] | None = None,
    clip_value: float = 1.0,
    norm_type: float = 2.0,
) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum; before each step the gradient of every parameter for itself is clipped, as
    Detectron2 does.

    Args:
        params: groups of parameters.
        clip_type: ``value``: every number to ``clip_value``; ``norm``: the norm of order ``norm_type`` of
            each parameter's gradient; None for none.
    """
    if name == "SGD":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(params, lr, momentum=momentum, nesterov=nesterov)
    else:
        optimizer = torch.optim.AdamW(params, lr)

    def clip(_: torch.optim.Optimizer, *__: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if clip_type == "value":
                    torch.nn.utils.clip_grad_value_(parameter, clip_value)
                else:
                    torch.nn.utils.clip_grad_norm_(parameter, clip_value, norm_type)

    if clip_type is not None:
        optimizer.register_step_pre_hook(clip)
    return optimizer


def build_schedule(
    name: str,
    max_iter: int,
    milestones: list[int],
    gamma: float,
    warmup_iter: int,
    warmup_factor: float,
    warmup_method: str = "linear",
    end: float = 0.0,
    num_decays: int = 3,
) -> ParamScheduler:
    """The schedules of Detectron2's yacs solver, as multipliers of the base rate.

    Args:
        end: where the cosine ends.
        num_decays: of WarmupStepWithFixedGammaLR (Detectron2's main branch).

    Raises:
        ValueError: ``name`` is no schedule of Detectron2.
    """
    if name == "WarmupCosineLR":
        after: ParamScheduler = CosineParamScheduler(1.0, end)
    elif name == "WarmupMultiStepLR":
        milestones = [m for m in milestones if m < max_iter]
        values = [gamma**k for k in range(len(milestones) + 1)]
        after = MultiStepParamScheduler(values, milestones=milestones, num_updates=max_iter)
    elif name == "WarmupStepWithFixedGammaLR":
        after = StepWithFixedGammaParamScheduler(1.0, num_decays, gamma, max_iter)
    else:
        raise ValueError(
            f"SOLVER.LR_SCHEDULER_NAME {name!r}: choose WarmupMultiStepLR, WarmupCosineLR or "
            f"WarmupStepWithFixedGammaLR"
        )
    return WarmupParamScheduler(after, warmup_factor, min(warmup_iter / max_iter, 1.0), warmup_method)
