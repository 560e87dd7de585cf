"""Reading a yaml file as data, whoever wrote it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from .arithmetic import list_of_numbers
from .targets import find_harmless

_LARGEST = 4 << 20  # bytes; ten thousands of names of classes have room
_MOST = 200_000  # values, with what aliases stand for
_DEEPEST = 100  # levels
# ${key}, ${..key}, ${a.b[0]} and ${oc.select:a.b,default}: what refers to the same config and to nothing else
_KEY = r"\.*[\w-]+(?:[.\[]+[\w-]+\]?)*"
_REFERENCE = re.compile(rf"\$\{{(?:{_KEY}|oc\.select:{_KEY}(?:, ?[\w.-]*)?)\}}")
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\\$\{")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, which also reads 1e-4 as the number that YAML 1.2 has it for."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
_EVAL = "python/object/apply:eval"


def _list(loader: Any, node: yaml.Node) -> list[Any]:
    """What Detectron2's own files have as Python code, where it is no more than a list of numbers."""
    texts = [part.value for part in node.value] if isinstance(node, yaml.SequenceNode) else []
    try:
        if len(texts) != 1 or not isinstance(texts[0], str):
            raise ValueError("one text is expected")
        return list_of_numbers(texts[0])
    except ValueError as error:
        raise yaml.constructor.ConstructorError(None, None, f"{_EVAL}: {error}", node.start_mark) from error


_Loader.add_constructor(f"tag:yaml.org,2002:{_EVAL}", _list)


def read_yaml(path: str | Path) -> Any:
    """The content of a yaml file: numbers, texts, lists and mappings.

    Raises:
        ConfigError: it can't be read, is no yaml, holds an object of Python (but a list of numbers, see
            :mod:`.arithmetic`), says a key twice, or would grow
            beyond measure.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise ConfigError(f"{path}: more than {_LARGEST >> 20} MiB, which is too large for a config")
        text = raw.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: it can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: it can't be read ({error}); write it in UTF-8") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Any:
    """As :func:`read_yaml`, from the text; ``name`` is for messages.

    Raises:
        ConfigError: the text is no yaml, or wants to create objects.
    """
    loader = _Loader("")
    try:
        _check_events(text, name)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node, name)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, ConfigError):
            raise
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        if "python/" in reason:
            reason += "; a config is data and nothing in it is executed: write the value that this would give"
        raise ConfigError(f"{name}{line}: it can't be read as yaml ({reason})") from error
    finally:
        loader.dispose()


def _check_events(text: str, name: str) -> None:
    """Refuse what is nested too deep or too long, from the events alone: libyaml builds nodes by recursion in
    C, which ends the process where it goes too deep."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST or number > 2 * _MOST:
            raise _too_large(name, event)


def _check_nodes(root: yaml.Node, name: str) -> None:
    """Refuse a tree of nodes that says a key twice or that aliases make endless or huge; before anything is
    made of it. Every node is visited once."""
    measured: dict[int, tuple[int, int]] = {}
    outer: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        """The number of values and of levels."""
        if id(node) in outer:
            raise ConfigError(f"{_line(name, node)}: an alias is inside the value that it repeats")
        if id(node) not in measured:
            outer.add(id(node))
            children: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                _check_keys(node, name)
                children = [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                children = node.value
            inner = [measure(child) for child in children]
            measured[id(node)] = (
                1 + sum(size for size, _ in inner),
                1 + max((depth for _, depth in inner), default=0),
            )
            outer.discard(id(node))
            if measured[id(node)][0] > _MOST or measured[id(node)][1] > _DEEPEST + 1:
                raise _too_large(name, node)
        return measured[id(node)]

    measure(root)


def _check_keys(node: yaml.MappingNode, name: str) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                raise ConfigError(f"{_line(name, key)}: {key.value} occurs twice in one section")
            seen.add(key.value)


def _line(name: str, node: yaml.Node | yaml.Event) -> str:
    return f"{name}:{node.start_mark.line + 1}"


def _too_large(name: str, node: yaml.Node | yaml.Event) -> ConfigError:
    return ConfigError(
        f"{_line(name, node)}: more than {_MOST} values (aliases count as what they stand for) or "
        f"{_DEEPEST} levels, which is too much for a config"
    )


def check_is_data(content: Any, name: str) -> None:
    """Refuse a config that would do more than describe a run.

    Raises:
        ConfigError: a ``_target_`` that is not on the list (:mod:`.targets`), or a ``${...}`` that is more
            than a reference to another key of the config, such as to the environment.
    """
    for key, value in _leaves(content, ""):
        if key.endswith("_target_"):
            find_harmless(value, f"{name}: {key}")
        elif isinstance(value, str) and "${" in _REFERENCE.sub("", _ESCAPED.sub("", value)):
            raise ConfigError(
                f"{name}: {key}={value!r}: a .yaml is data, and may refer only to its own keys "
                "(${section.key}); give the value itself, or on the command line"
            )


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            inner = f"{key}.{name}" if key else str(name)
            if name == "_target_":
                yield inner, item
            else:
                yield from _leaves(item, inner)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{key}.{number}")
    else:
        yield key, value
