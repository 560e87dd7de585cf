"""Converting the values of a json to their intended types, or giving the reason why this is impossible."""

import math
import re
from collections.abc import Mapping
from typing import Any

Identity = int | str
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_YES, _NO = ("true", "yes"), ("false", "no")
_KINDS = {str: "text", bool: "truth value", int: "number", float: "number", list: "list", dict: "object"}
_SHOWN = 60  # characters


class BadValue(ValueError):
    """A value can't be used.

    Attributes:
        kind: of problem, by which they are counted.
    """

    def __init__(self, kind: str, why: str):
        super().__init__(why)
        self.kind = kind


def shown(value: Any) -> str:
    """The value, cut short, with its type: numbers and texts that look alike are told apart."""
    if value is None:
        return "null"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    text = repr(value)
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    kind = _KINDS.get(type(value), type(value).__name__)
    return f"{text} ({'an' if kind[0] in 'aeio' else 'a'} {kind})"


def absent(value: Any) -> bool:
    """Whether there is no value: null, or a text without a letter."""
    return value is None or (isinstance(value, str) and not value.strip())


def real(value: Any, name: str) -> float:
    """A finite number, or a text that contains one."""
    if type(value) is float and math.isfinite(value):  # nearly all
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise BadValue(f"bad {name}", f"{name} is {shown(value)}, not a finite number")


def reals(value: Any, name: str, count: int, what: str) -> list[float]:
    """A list of so many finite numbers; ``what`` describes them in the error."""
    if isinstance(value, list) and len(value) == count:
        if all(type(v) is float and math.isfinite(v) for v in value):
            return list(value)
        try:
            return [real(v, name) for v in value]
        except BadValue:
            pass
    raise BadValue(f"bad {name}", f"{name} {_cut(value)} is not {what}")


def _cut(value: Any) -> str:
    text = repr(value)
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return text if isinstance(value, list) else shown(value)


def whole(value: Any, name: str) -> int:
    """An integer, also as 96.0 or "96"."""
    number = real(value, name)
    if number != int(number) or abs(number) >= 2**53:
        raise BadValue(f"bad {name}", f"{name} is {shown(value)}, not a whole number")
    return int(number)


def flag(value: Any, name: str) -> bool:
    """True or false, 1 or 0, or a text of them."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word in _YES or word in _NO:
        return word in _YES
    try:
        number = real(value, name)
    except BadValue:
        number = -1.0
    if number not in (0, 1):
        raise BadValue(f"bad {name}", f"{name} is {shown(value)}, neither 0 nor 1")
    return bool(number)


def text(value: Any, name: str) -> str:
    """A text with something in it."""
    if isinstance(value, str) and value.strip():
        return value
    raise BadValue(f"bad {name}", f"{name} is {shown(value)}, not a text")


def encodable(value: str) -> str:
    """The text with U+FFFD for halves of characters, which json can hold by itself and no other file can."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def identity(value: Any, name: str) -> Identity:
    """What an id is known by: a number and a text of the same number are one id, and so is what MongoDB's
    exports wrap as ``{"$oid": ...}``."""
    if type(value) is int:  # nearly all
        return value
    if isinstance(value, Mapping) and len(value) == 1:
        ((key, inner),) = value.items()
        if str(key).startswith("$") and isinstance(inner, str | int):
            return identity(inner, name)
    if isinstance(value, str) and value.strip():
        word = value.strip()
        number = int(word) if re.fullmatch(r"-?\d{1,18}", word) else None
        return number if number is not None and str(number) == word else word
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise BadValue(f"bad {name}", f"{name} is {shown(value)}, neither a whole number nor a text")


def alike(one: Identity, other: Identity) -> bool:
    """Whether two different ids look as if they were meant to be the same: they differ only in leading zeros,
    letter case or an ending."""
    return _core(one) == _core(other)


def _core(value: Identity) -> str:
    word = str(value).strip().casefold()
    word = re.sub(r"\.(0+|jpe?g|png|tiff?|bmp)$", "", word)
    return word.lstrip("0") or "0"
