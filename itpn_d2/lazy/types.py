"""Whether a value of a config fits the annotation of the argument it is for."""

import inspect
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    types.NoneType: "null",
}


def fits(value: Any, annotation: Any) -> bool:
    """Whether ``value``, as a config has it (numbers, texts, lists and mappings), may be given for an
    argument. What is to be a class of its own, or annotated with nothing, may be anything.

    A list fits a tuple, an integer fits a number; true is no number, a text is no list.
    """
    kind, inner = _parts(annotation)
    if kind is Union:
        known = [a for a in inner if _is_data(a)]
        return any(fits(value, a) for a in known) or (len(known) < len(inner) and not _is_plain(value))
    if kind is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inner)
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is str:
        return isinstance(value, str)
    if kind is Path:
        return isinstance(value, str | os.PathLike)
    if kind is types.NoneType:
        return value is None
    if kind is tuple and inner and Ellipsis not in inner:
        return _is_list(value) and len(value) == len(inner) and all(map(fits, value, inner))
    if kind in (tuple, list, Sequence):
        return _is_list(value) and (not inner or all(fits(v, inner[0]) for v in value))
    if kind is dict or kind is Mapping:
        return isinstance(value, Mapping) and (not inner or all(fits(v, inner[1]) for v in value.values()))
    return True


def describe(annotation: Any) -> str:
    """In words what fits."""
    kind, inner = _parts(annotation)
    if kind is Union:
        return " or ".join(dict.fromkeys(describe(a) for a in inner if _is_data(a)))
    if kind is Literal:
        return " or ".join(map(repr, inner))
    if kind is tuple and inner and Ellipsis not in inner:
        return f"a list of {len(inner)} ({', '.join(map(describe, inner))})"
    if kind in (tuple, list, Sequence):
        return (
            f"a list whose items are each {describe(inner[0])}" if inner and _is_data(inner[0]) else "a list"
        )
    if kind is dict or kind is Mapping:
        return "a mapping {key: value}"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def _parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The kind of an annotation, and what stands in its brackets."""
    kind, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if kind is None:
        return annotation, ()
    if kind is types.UnionType:
        kind = Union
    return kind, inner


def _is_data(annotation: Any) -> bool:
    """Whether a config can hold such a value itself, not only the call that makes it."""
    kind, _ = _parts(annotation)
    return kind in (Union, Literal, tuple, list, dict, Sequence, Mapping, *_WORDS)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | list | tuple | Mapping)


def says_something(annotation: Any) -> bool:
    """Whether :func:`fits` can refuse anything."""
    return annotation is not inspect.Parameter.empty and _is_data(annotation)
