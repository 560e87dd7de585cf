"""Parts of a model by their kind, and what they are called with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import nn

Part = TypeVar("Part", bound=nn.Module)
Call = tuple[tuple[Any, ...], dict[str, Any]]


def find_part(model: nn.Module, kind: type[Part]) -> Part | None:
    """The first module of a kind within a model, or None."""
    return next((m for m in model.modules() if isinstance(m, kind)), None)


@contextmanager
def calls_of(module: nn.Module) -> Iterator[list[Call]]:
    """A list that grows by the arguments of every call of a module."""
    calls: list[Call] = []
    hook = module.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    try:
        yield calls
    finally:
        hook.remove()
