"""An optimizer goes on from a checkpoint's state, with the settings of its own config."""

from typing import Any

import torch

from ..checkpoint.finite import is_finite
from ..errors import ConfigError
from ..sharded import shard_like

_ANOTHER = "start in another train.output_dir from train.init_checkpoint=FILE"


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over the moments and counts of ``state``. Of its groups nothing is taken: learning rates, weight
    decays and the like are those that ``optimizer`` has.

    Raises:
        ConfigError: ``state`` is that of other parameters, or holds values that are not finite.
    """
    # the rate is the schedule's to say
    kept = ("params", "lr")
    groups = [{k: v for k, v in g.items() if k not in kept} for g in optimizer.param_groups]
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if sizes != [len(group["params"]) for group in state["param_groups"]]:
        raise ConfigError(
            "--resume: the optimizer's parameter groups differ from those in the checkpoint: keep "
            "optimizer.params (layer_decay, decayed, undecayed, ...) and the frozen parts unchanged, or "
            f"{_ANOTHER}"
        )
    # these decide, among others, on which device torch keeps the count of steps
    saved = state["param_groups"]
    own = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for group in saved for number in group["params"]]
    moments = {}
    for number, parameter in zip(numbers, own, strict=True):
        if number in state["state"]:
            values = state["state"][number]
            _check(values, parameter)
            moments[number] = {name: shard_like(value, parameter) for name, value in values.items()}
    entries = [{**s, **settings} for s, settings in zip(saved, groups, strict=True)]
    optimizer.load_state_dict({"state": moments, "param_groups": entries})
    for group, settings in zip(optimizer.param_groups, groups, strict=True):
        group.update(settings)


def _check(values: dict[str, Any], parameter: torch.Tensor) -> None:
    """ConfigError where a value has not the shape of its parameter, or is not finite."""
    for name, value in values.items():
        if not torch.is_tensor(value):
            continue
        if value.ndim and value.shape != parameter.shape:
            raise ConfigError(
                f"--resume: {name} of the optimizer has the shape {tuple(value.shape)}, its parameter "
                f"{tuple(parameter.shape)}: the checkpoint belongs to another run; {_ANOTHER}"
            )
        if not is_finite(value):
            raise ConfigError(
                f"--resume: {name} of the optimizer, of a parameter of shape {tuple(parameter.shape)}, has "
                f"values that are not finite: resume from an earlier checkpoint, or {_ANOTHER}"
            )
