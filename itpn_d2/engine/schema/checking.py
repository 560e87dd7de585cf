"""Configs against their sections: every wrong key on a line of its own, in plain words."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from ...errors import ConfigError
from ...lazy.options import nearest
from .values import Section

_Section = TypeVar("_Section", bound=Section)


def validated(
    schema: type[_Section], content: Mapping[str, Any], refers: Callable[[str], bool] = lambda key: False
) -> _Section:
    """Check the sections, references resolved.

    Args:
        refers: whether the value at a key is a reference, which has what it refers to to blame.

    Raises:
        ConfigError: every wrong key on a line of its own: the key, its value, and what is allowed.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        found = {_line(schema, content, e): _key(e) for e in error.errors(include_url=False)}
        told = [line for line, key in found.items() if not refers(key)]
        raise ConfigError("\n".join(told or found)) from error


def _key(error: Any) -> str:
    return ".".join(str(part) for part in error["loc"] if not _is_branch(part))


def _line(schema: type[Section], content: Any, error: Any) -> str:
    *outer, last = [part for part in error["loc"] if not _is_branch(part)]
    section, field = schema, None
    for part in [*outer, last]:
        field = _fields(section).get(str(part)) if section is not None else None
        section = _section_of(field.annotation) if field is not None else None  # type: ignore[assignment]
    key = ".".join(map(str, [*outer, last]))
    if error["type"] == "extra_forbidden":
        known = _fields(_at(schema, outer))
        return f"{key}: there is no such key; {nearest(str(last), known)}"
    if error["type"] == "missing":
        return f"{key} is missing"
    note = f" ({field.description})" if field is not None and field.description else ""
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        keys = ", ".join(_fields(section)) if section is not None else "key: value"
        return f"{key}={error['input']!r}: it has to be a section {{{keys}}}"
    text = re.sub(r"^(Value error, |\w+ (?=should))", "", error["msg"])
    text = "it can't be that" if "pattern" in error["type"] else re.sub("^should", "it should", text)
    return f"{key}={error['input']!r}: {text}{note}"


def _is_branch(part: Any) -> bool:
    """Of a union pydantic also says which branch it tried."""
    return isinstance(part, str) and ("[" in part or part in ("int", "float", "str", "list"))


def _fields(section: Any) -> dict[str, Any]:
    return {field.alias or name: field for name, field in section.model_fields.items()} if section else {}


def _at(schema: type[Section], keys: list[Any]) -> Any:
    section: Any = schema
    for key in keys:
        field = _fields(section).get(str(key))
        section = _section_of(field.annotation) if field is not None else section
    return section


def _section_of(annotation: Any) -> type[Section] | None:
    """The section in an annotation, also of a list of them or of one that may be null."""
    inside = get_args(annotation)  # of list[int], which is a type to Python 3.10
    if not inside and isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for inner in inside:
        found = _section_of(inner)
        if found is not None:
            return found
    return None
