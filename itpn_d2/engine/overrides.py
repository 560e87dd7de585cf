"""``key=value`` from a command line into a config: a text is taken as it was typed, anything else is read."""

import re
from collections.abc import Iterable
from typing import Any

from detectron2.config import LazyConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import ConfigError

_QUOTED = re.compile(r"""(?P<mark>["']).*(?P=mark)""", re.DOTALL)
_REFERENCE = re.compile(r"(\\*)\$\{")


def apply_overrides(cfg: DictConfig, overrides: Iterable[str]) -> DictConfig:
    """Set ``key=value`` pairs in ``cfg``, one after the other, and return it.

    Where the config holds a text, the value is the text as typed, whatever is in it: ``data (1)``, ``2024``,
    ``a,b``, ``x=y``. Quotes around all of it are taken off, ``null`` is none, and a ``${reference}`` to what
    there is stays one. Where it holds anything else (numbers, truth values, lists, mappings, null), and for
    new keys (``+key=value``), values are read by Hydra's grammar.

    Raises:
        ConfigError: a value can't be read or put there; the message says how to quote it.
    """
    for override in overrides:
        key, equals, value = override.partition("=")
        if equals and _holds_text(cfg, key):
            _set_text(cfg, key, value)
            continue
        try:
            LazyConfig.apply_overrides(cfg, [override])
        except (HydraException, OmegaConfBaseException, KeyError, NotImplementedError) as error:
            reason = " ".join(str(error.args[0] if error.args else error).split())
            raise ConfigError(
                f"override {override!r} can't be read or set ({reason}). A text with other characters than "
                f"letters, digits and . / - _ goes in quotes of its own within those of the shell, as in "
                f'\'{key}="{value or "a text"}"\'; items of a list as in \'{key}=["a text","another"]\''
            ) from error
    return cfg


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
        raise ConfigError(f"{key}={value}: in a config ??? is a value that is missing; give another name")
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
