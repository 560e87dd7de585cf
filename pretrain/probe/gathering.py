"""What every process has computed for its share of the images, in every process: rows, or their sums."""

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor


def gather_rows(own: Tensor) -> Tensor:
    """The rows of all processes ``(N, ...)``, on the CPU, in the order of their ranks; collective.

    Each process sends its rows once, straight into their place: nothing is pickled or padded.

    Args:
        own: ``(n, ...)``; of a process without rows only the type has to be that of the others.
    """
    own = own.detach().cpu().contiguous()
    if comm.get_world_size() == 1:
        return own
    shapes = comm.all_gather(tuple(own.shape))
    rest = max((shape[1:] for shape in shapes if shape[0]), key=len, default=tuple(own.shape[1:]))
    found = own.new_empty((sum(shape[0] for shape in shapes), *rest))
    group, start = comm._get_global_gloo_group(), 0
    for rank, shape in enumerate(shapes):
        part = found[start : start + shape[0]]
        start += shape[0]
        if not len(part):
            continue
        if rank == comm.get_rank():
            part.copy_(own)
        dist.broadcast(part, rank, group)
    return found


def share_of(rows: Tensor) -> Tensor:
    """This process's part of rows that all have: the parts of all ranks one after the other are the rows.

    ``(N, ...)`` to about N / world size of its rows.
    """
    return torch.tensor_split(rows, comm.get_world_size())[comm.get_rank()]


def add_up(*own: Tensor) -> tuple[Tensor, ...]:
    """The sums over all processes of tensors of any shape, of one type; collective. All processes get the
    same bits."""
    if comm.get_world_size() == 1:
        return own
    together = torch.cat([part.detach().flatten() for part in own]).cpu()
    dist.all_reduce(together, group=comm._get_global_gloo_group())
    parts = together.split([part.numel() for part in own])
    return tuple(part.view_as(like).to(like.device) for part, like in zip(parts, own, strict=True))
