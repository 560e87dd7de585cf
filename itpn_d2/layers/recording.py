"""Whether a graph is being recorded, which will serve other inputs than the one at hand."""

import torch


def is_stand_in(x: object) -> bool:
    """Whether ``x`` is what ``torch.fx`` follows through a model instead of a tensor: neither its values nor
    its sizes can decide anything."""
    return isinstance(x, torch.fx.Proxy)


def is_recorded(x: object) -> bool:
    """Whether what happens to ``x`` becomes a graph: compiled, exported, traced, or followed by
    ``torch.fx``."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or is_stand_in(x)
