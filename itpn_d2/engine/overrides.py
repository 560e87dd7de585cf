"""``key=value`` from a command line into a config: a text is taken as typed, anything else is parsed."""

import math
import re
from collections.abc import Iterable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import ConfigError
from ..lazy.calls import is_call
from ..lazy.options import nearest

_QUOTED = re.compile(r"""(?P<mark>["']).*(?P=mark)""", re.DOTALL)
_REFERENCE = re.compile(r"(\\*)\$\{")


def apply_overrides(cfg: DictConfig, overrides: Iterable[str]) -> DictConfig:
    """Set ``key=value`` pairs in ``cfg``, one after the other, and return it.

    Where the config holds a text, the value is the text as typed, whatever is in it: ``data (1)``, ``2024``,
    ``a,b``, ``x=y``. Quotes around all of it are taken off, ``null`` is none, and a ``${reference}`` to what
    there is stays one. Where it holds anything else (numbers, truth values, lists, mappings, null), and for
    new keys (``+key=value``), values are read by Hydra's grammar. A mapping is merged into the one that is
    there, unless it is a call of its own.

    An argument of a call may be new without the ``+``: the check of the whole config decides about it.

    Raises:
        ConfigError: no such key (with the nearest), or a value can't be read or put there; the message says
            how to quote it.
    """
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            wanted = "a key can't be removed; " if key.startswith("~") else ""
            if key.startswith("--"):
                wanted = "options must come before the first key=value; "
            raise ConfigError(f"override {override!r}: {wanted}write key=value, e.g. train.max_iter=1000")
        if not key.startswith("+"):
            _check_key(cfg, key, override)
        if _holds_text(cfg, key):
            _set_text(cfg, key, value)
            continue
        try:
            _set_value(cfg, override)
        except (HydraException, OmegaConfBaseException, LookupError, TypeError, ValueError, AttributeError,
                AssertionError, RecursionError) as error:  # fmt: skip
            if isinstance(error, ConfigError):
                raise
            reason = " ".join(str(error.args[0] if error.args else error).split())[:300]
            raise ConfigError(
                f"override {override!r} can't be read or set ({reason}). A text with characters other than "
                f"letters, digits and . / - _ needs its own quotes inside those of the shell, as in "
                f'\'{key}="{value or "a text"}"\'; items of a list as in \'{key}=["a text","another"]\''
            ) from error
    return cfg


def _check_key(cfg: DictConfig, key: str, override: str) -> None:
    node: Any = cfg
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if node is not None and node._is_interpolation():
            try:
                node = node._dereference_node()
            except OmegaConfBaseException as error:
                reason = str(error).partition("\n")[0]
                raise ConfigError(f"override {override!r}: {'.'.join(parts[:depth])}: {reason}") from error
        if OmegaConf.is_list(node) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
            continue
        known = [str(name) for name in node] if OmegaConf.is_dict(node) and not node._is_none() else []
        if part not in known:
            if depth == len(parts) - 1 and "_target_" in known:
                return
            outer = ".".join(parts[:depth])
            near = nearest(part, known) if known else f"{outer} has no keys"
            if outer:
                near = near.replace("did you mean ", f"did you mean {outer}.")
            raise ConfigError(f"override {override!r}: no key {'.'.join(parts[: depth + 1])}; {near}")
        node = node._get_node(part)


def _set_value(cfg: DictConfig, override: str) -> None:
    read = OverridesParser.create().parse_override(override)
    if read.is_sweep_override():
        raise ValueError("a single value is expected; write a list in brackets")
    value = read.value()
    _check_number(cfg, read.key_or_group, value, override)
    OmegaConf.update(cfg, read.key_or_group, value, merge=not is_call(value), force_add=read.is_add())


def _check_number(cfg: DictConfig, key: str, value: Any, override: str) -> None:
    """Most parts of a model do not check their numbers before they compute with them."""
    if not key.startswith("model."):
        return
    try:
        before = OmegaConf.select(cfg, key)
    except OmegaConfBaseException:
        return
    if not isinstance(before, int | float) or isinstance(before, bool):
        return
    text = isinstance(value, str) and "${" not in value
    if text or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"override {override!r}: a number is expected, like {before} in the config")


def _holds_text(cfg: DictConfig, key: str) -> bool:
    try:
        return isinstance(OmegaConf.select(cfg, key), str)
    except OmegaConfBaseException:  # no such key, or one that refers to what isn't there yet
        return isinstance(_stored(cfg, key), str)


def _stored(cfg: DictConfig, key: str) -> Any:
    """The value as it is written, references and all; None where there is none."""
    parent, _, name = key.rpartition(".")
    try:
        node = OmegaConf.select(cfg, parent) if parent else cfg
        found = node._get_node(name) if OmegaConf.is_dict(node) else None
        return None if found is None else found._value()
    except OmegaConfBaseException:
        return None


def _set_text(cfg: DictConfig, key: str, value: str) -> None:
    if value == "null":
        OmegaConf.update(cfg, key, None)
        return
    quoted = _QUOTED.fullmatch(value)
    text = value[1:-1] if quoted else value
    if text.strip() == "???":
        raise ConfigError(f"{key}={value}: in a config, ??? marks a missing value; choose another name")
    if "${" in text and (quoted or not _refers(cfg, key, text)):
        text = _REFERENCE.sub(r"\1\1\\${", text)  # as OmegaConf escapes what is no reference
    OmegaConf.update(cfg, key, text)


def _refers(cfg: DictConfig, key: str, text: str) -> bool:
    """Whether the references in ``text`` are to what the config, or the environment, has."""
    before = _stored(cfg, key)
    try:
        OmegaConf.update(cfg, key, text)
        return OmegaConf.select(cfg, key, throw_on_missing=True) is not None
    except OmegaConfBaseException:
        return False
    finally:
        OmegaConf.update(cfg, key, before)
