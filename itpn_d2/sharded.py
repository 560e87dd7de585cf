"""State of which each process holds a shard (FSDP2), as the whole tensors that every file has, and back.

A file does not tell how the run that wrote it was distributed: one process, several or other shards read it.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def is_sharded(model: nn.Module) -> bool:
    """Whether a process holds but a shard of the parameters."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def gathered_parts(model: nn.Module) -> list[FSDPModule]:
    """The parts of a sharded model that hold their whole weights now. Reading or loading its state makes
    them shards again; ``part.unshard()``, which all processes call, gathers them."""
    if is_sharded(model):
        return []
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def whole(content: Any, keep: bool = True) -> Any:
    """``content`` with every sharded tensor, in whatever dicts and lists, as a whole one on the CPU.

    All processes have to call it, with the same content in the same order.

    Args:
        keep: False in processes that don't want the result: they take part, and get empty tensors instead.
    """
    if isinstance(content, DTensor):
        full = content.full_tensor().detach()
        return full.cpu() if keep else full.new_empty(0)
    if type(content) in (dict, OrderedDict):
        return type(content)((key, whole(value, keep)) for key, value in content.items())
    if type(content) in (list, tuple):
        return type(content)(whole(value, keep) for value in content)
    return content


def shard_like(value: Any, like: Any) -> Any:
    """A whole tensor as this process's shard, if ``like`` is one of its shape; anything else as it is.
    Nothing is sent: every process has read the whole."""
    is_whole = isinstance(value, Tensor) and not isinstance(value, DTensor)
    if not (isinstance(like, DTensor) and is_whole and value.shape == like.shape):
        return value
    value = value.to(like.device, like.dtype)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def load_whole(module: nn.Module, state: Mapping[str, Any]) -> None:
    """``module.load_state_dict(state)`` of whole tensors, whether the module is sharded or not."""
    own = module.state_dict()
    module.load_state_dict({name: shard_like(value, own.get(name)) for name, value in state.items()})
