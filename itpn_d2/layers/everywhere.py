"""Numbers that a loss is divided by, over the examples of all processes.

Gradients of processes are averaged. A loss that each of them divides by the number of its own examples is
therefore not the loss of the whole batch, wherever these numbers differ.
"""

import torch
from torch import Tensor
from torch import distributed as dist


def apart() -> bool:
    """Whether several processes share a training step now. Losses of a validation, which has no gradients,
    are each process's own: others may not come."""
    return (
        dist.is_available()
        and dist.is_initialized()
        and dist.get_world_size() > 1
        and torch.is_grad_enabled()
    )


def everywhere(count: Tensor) -> Tensor:
    """``count``, of any shape, as its mean over the processes of a step, in float64; itself where
    :func:`apart` says no.

    A sum over the examples of a process divided by this is, after the gradients are averaged, the mean over
    those of all.
    """
    if not apart():
        return count
    total = count.detach().double()  # exact: losses of either precision stay what they are
    dist.all_reduce(total)
    return total / dist.get_world_size()


def shares(counts: Tensor) -> Tensor | None:
    """What means over this process's ``counts`` examples are multiplied with, so that the mean over processes
    is one over all examples, in float64; None where :func:`apart` says no.

    ``counts`` is of any shape, and so is the result.
    """
    if not apart():
        return None
    mean = everywhere(counts)
    return torch.where(mean > 0, counts.double() / mean, 0.0)
