"""timm's RandAugment beside a Pillow that refuses to keep no bit of a channel.

At the highest magnitude timm's posterize keeps 0 of 8 bits. Pillow made a black picture of that, and since
version 13 raises ValueError, which would end a training: one picture in some hundred is drawn so.
"""

from collections.abc import Callable, Iterable
from typing import Any

from timm.data.auto_augment import AugmentOp


class _AtLeastOneBit:
    """A level function of timm's, whose only result is the number of bits to keep."""

    def __init__(self, level: Callable[..., tuple[int]]):
        self.level = level

    def __call__(self, *args: Any) -> tuple[int]:
        return (max(1, self.level(*args)[0]),)


def keep_a_bit(view: Any) -> None:
    """Let every posterize operation within ``view`` (timm's or torchvision's composition) keep at least one
    bit, in place; others, and views of other kinds, stay as they are."""
    for op in _operations(view):
        if op.name.startswith("Posterize") and not isinstance(op.level_fn, _AtLeastOneBit):
            op.level_fn = _AtLeastOneBit(op.level_fn)


def _operations(view: Any) -> Iterable[AugmentOp]:
    if isinstance(view, AugmentOp):
        yield view
    parts = [getattr(view, name, ()) for name in ("transforms", "ops", "policy")]
    for part in [view] if isinstance(view, list | tuple) else parts:
        for inner in part if isinstance(part, list | tuple) else ():
            yield from _operations(inner)
