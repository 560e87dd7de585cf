"""Building what a config describes, so that a failure names its place."""

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

from ..errors import ConfigError, UseError
from .targets import find

_SENTENCES = (ValueError, KeyError, AssertionError)  # by which constructors refuse an argument
_ACCIDENTS = (TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, ImportError, OSError)


def build(config: Any) -> Any:
    """What a config describes: its ``_target_`` called with its arguments, which are built first. Lists are
    built item by item; anything else is returned as it is. As Detectron2's ``instantiate``.

    Raises:
        ConfigError: a target refuses its arguments; the message begins with its full key in the config.
    """
    if isinstance(config, ListConfig):
        return ListConfig([build(item) for item in config], flags={"allow_objects": True})
    if isinstance(config, list):
        return [build(item) for item in config]
    if not (isinstance(config, Mapping) and "_target_" in config):
        return config
    key = str(config._get_full_key("")) if isinstance(config, DictConfig) else ""
    try:
        parts = dict(config.items())
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}: {first_line(error)}") from error
    arguments = {str(name): build(part) for name, part in parts.items() if name != "_target_"}
    target = find(build(parts["_target_"]), f"{key}._target_".lstrip("."))
    try:
        return target(**arguments)
    except UseError:
        raise
    except torch.OutOfMemoryError:
        raise
    except _SENTENCES as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        raise ConfigError(_with_key(key, text or _accident(target, arguments, error))) from error
    except _ACCIDENTS as error:
        raise ConfigError(_with_key(key, _accident(target, arguments, error))) from error


def first_line(error: BaseException) -> str:
    """What an error says, without the lines that some libraries add about its place."""
    return str(error).strip().partition("\n")[0]


def _with_key(key: str, text: str) -> str:
    return f"{key}: {text}" if key else text


def _accident(target: Any, arguments: Mapping[str, Any], error: BaseException) -> str:
    """For an error that was not made to be read by the one who wrote the config: what it was called with."""
    given = ", ".join(f"{k}={_short(v)}" for k, v in arguments.items())
    name = getattr(target, "__qualname__", str(target))
    reason = " ".join(str(error).split())[:300]
    return f"{name}({given}) can't be built ({type(error).__name__}{': ' if reason else ''}{reason})"


def _short(value: Any) -> str:
    if value is None or isinstance(value, str | int | float | ListConfig | DictConfig | list | tuple | dict):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return f"<{type(value).__name__}>"
