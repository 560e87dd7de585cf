"""The check of every call in a config against what its target takes, before anything is built."""

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import ConfigError
from .build import first_line
from .options import Option, nearest, options_of
from .targets import find
from .types import describe, fits, says_something

# whose annotations hold, since a type checker sees to it; those of other packages often say other things
_ANNOTATED = ("itpn_d2", "pretrain")


def stored(node: DictConfig, name: Any) -> Any:
    """The value of a key as it is written: a reference is the text of it."""
    child: Any = node._get_node(name)
    return child if OmegaConf.is_config(child) else child._value()


def calls(node: Any, key: str = "") -> Iterator[tuple[str, DictConfig]]:
    """The full key and the node of every call in a config, outer ones first; references are not followed."""
    if OmegaConf.is_dict(node) and not node._is_none() and not node._is_interpolation():
        if "_target_" in node:
            yield key, node
        for name in node:
            yield from calls(node._get_node(name), f"{key}.{name}" if key else str(name))
    elif OmegaConf.is_list(node) and not node._is_none() and not node._is_interpolation():
        for number in range(len(node)):
            yield from calls(node._get_node(number), f"{key}.{number}")


def check_calls(config: DictConfig) -> None:
    """Check the names of all arguments, and the values of those whose annotations are ours.

    Raises:
        ConfigError: a target that isn't there, an argument that it doesn't take (with the nearest that it
            does), or a value that it can't use.
    """
    for key, node in calls(config):
        _check(key, node)


def _check(key: str, node: DictConfig) -> None:
    target = find(stored(node, "_target_"), f"{key}._target_")
    given = {str(name): _value(node, name, key) for name in node if name != "_target_"}
    try:
        named, any_other = options_of(target, given)
    except (ValueError, KeyError, TypeError) as error:
        text = error.args[0] if error.args else error
        raise ConfigError(f"{key}: {text}") from error
    for name, value in given.items():
        if name not in named:
            if any_other:
                continue
            raise ConfigError(f"{key}.{name}: {target.__qualname__} takes no {name}; {nearest(name, named)}")
        if named[name].module.partition(".")[0] in _ANNOTATED:
            _check_value(f"{key}.{name}", node._get_node(name), value, named[name])


def _check_value(key: str, node: Any, value: Any, option: Option) -> None:
    if not says_something(option.annotation) or value is option.default:
        return
    if value is None and node._is_interpolation():  # the data will tell
        return
    if OmegaConf.is_config(value):
        if any(True for _ in calls(value)):
            return
        value = OmegaConf.to_container(value, resolve=True)
    if not fits(value, option.annotation):
        raise ConfigError(f"{key}={value!r}: it must be {describe(option.annotation)}")


def _value(node: DictConfig, name: Any, key: str) -> Any:
    try:
        return node[name]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}.{name}={stored(node, name)}: {first_line(error)}") from error


def plain(node: Any, key: str) -> Any:
    """A section as dicts and lists, references resolved.

    Raises:
        ConfigError: a reference leads nowhere, or a value is missing (``???``).
    """
    if not OmegaConf.is_config(node):
        return node
    try:
        content: Any = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        where = getattr(error, "full_key", None) or key
        raise ConfigError(f"{where}: {first_line(error)}") from error
    return content


def is_call(value: Any) -> bool:
    """Whether a node of a config stands for a call: a mapping with ``_target_``."""
    return isinstance(value, Mapping) and "_target_" in value
