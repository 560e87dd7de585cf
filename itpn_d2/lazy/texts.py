"""Texts of a dataset in a config, where they stay texts."""

from collections.abc import Iterable, Sequence
from typing import Any, overload


class Texts(Sequence[str]):
    """A list of texts that are data: names of classes, as a dataset has them.

    A config treats a plain ``${...}`` as a reference and ``???`` as a missing value; in here they are what
    they are. Equal to a list of the same texts.
    """

    def __init__(self, texts: Iterable[str]):
        self._texts = tuple(texts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Texts": ...
    def __getitem__(self, index: int | slice) -> "str | Texts":
        return Texts(self._texts[index]) if isinstance(index, slice) else self._texts[index]

    def __len__(self) -> int:
        return len(self._texts)

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, str) or not isinstance(other, Sequence):
            return NotImplemented
        return list(self) == list(other)

    def __hash__(self) -> int:
        return hash(self._texts)

    def __repr__(self) -> str:
        return repr(list(self._texts))
