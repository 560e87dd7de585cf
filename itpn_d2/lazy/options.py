"""Which arguments a class or function takes, also those that it hands on as ``**options``."""

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from torch import nn

_HANDED_ON = "_handed_on"
F = TypeVar("F", bound=Callable[..., Any])


class Option(NamedTuple):
    """An argument: what it is annotated with (``Any`` where nothing is), its default
    (``inspect.Parameter.empty`` where it has none), and the module of the function that declares it."""

    annotation: Any
    default: Any
    module: str


class Options(NamedTuple):
    """The arguments of a target by their names; ``any_other`` where it takes others that nobody declares."""

    named: dict[str, Option]
    any_other: bool


def hands_on(to: Callable[[Mapping[str, Any]], Mapping[str, Option] | None]) -> Callable[[F], F]:
    """Declare which ``**options`` a function or an ``__init__`` takes, where it hands them to something else
    than the ``__init__`` of its base class.

    Args:
        to: from the arguments that are given to those that may be, None where nobody says which; raises
            ValueError or KeyError where the given ones name nothing.
    """

    def declare(function: F) -> F:
        setattr(function, _HANDED_ON, to)
        return function

    return declare


def options_of(target: Callable[..., Any], given: Mapping[str, Any]) -> Options:
    """The arguments that ``target`` takes, beside the ``given`` ones.

    An ``__init__`` with ``**options`` is read as handing them to that of its base class, and so on, unless it
    says otherwise by :func:`hands_on`.
    """
    if not inspect.isclass(target) or target.__init__ is object.__init__:
        return _options_of_function(target, given)
    found: dict[str, Option] = {}
    for base in inspect.getmro(target):
        if base in (object, nn.Module):  # take anything, to refuse it
            break
        if "__init__" in vars(base):
            more, any_other = _options_of_function(base.__init__, given, bound=True)  # type: ignore[misc]
            found = {**more, **found}
            if any_other and hasattr(base.__init__, _HANDED_ON):  # type: ignore[misc]
                return Options(found, True)
            if not any_other:
                break
    return Options(found, False)


def _options_of_function(
    function: Callable[..., Any], given: Mapping[str, Any], bound: bool = False
) -> Options:
    """``bound``: without the first parameter, which is the object."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[bound:]
    except (TypeError, ValueError):  # compiled, without a signature
        return Options({}, True)
    try:
        hints = typing.get_type_hints(inspect.unwrap(function))
    except Exception:  # names that only a type checker knows
        hints = {}
    module = str(getattr(function, "__module__", ""))
    named = {
        p.name: Option(hints.get(p.name, Any), p.default, module)
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    any_other = any(p.kind == p.VAR_KEYWORD for p in parameters)
    handed_on = getattr(function, _HANDED_ON, None)
    if handed_on is not None and any_other:
        taken = handed_on(given)
        return Options({**(taken or {}), **named}, taken is None)
    return Options(named, any_other)


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean ...?``, or all that is known."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(name, names, 1)
    if close:
        return f"did you mean {close[0]}?"
    return f"choose from {', '.join(names)}" if names else "it takes none"
