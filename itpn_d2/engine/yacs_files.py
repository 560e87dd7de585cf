"""Reading a Detectron2 ``.yaml`` config as data, through its ``_BASE_`` files."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ..backbone.yacs import add_itpn_config
from ..errors import ConfigError
from ..lazy.options import nearest
from ..lazy.yaml_files import read_yaml

_BASE = "_BASE_"
_MOST_FILES = 30


def merge_yacs(
    path: str, content: Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[CfgNode, frozenset[str]]:
    """Detectron2's defaults with our keys, the content of a file and of those it is based on, and
    ``KEY=value`` or ``KEY value`` overrides; and the keys that were given, if only with their defaults.

    Raises:
        ConfigError: a key that isn't there (with the nearest), a value of another type, a base that can't be
            read or that is based on itself.
    """
    cfg = add_itpn_config(get_cfg())
    merged = _with_bases(path, content, (os.path.realpath(path),))
    version = merged.pop("VERSION", cfg.VERSION)
    if version != cfg.VERSION:
        raise ConfigError(f"{path}: VERSION={version!r}: only {cfg.VERSION}, Detectron2's own, can be read")
    pairs = [*_leaves(merged, ""), *_pairs(overrides)]
    for key, value in pairs:
        _set(cfg, key, value, path)
    return cfg, frozenset(key for key, _ in pairs)


def _with_bases(path: str, content: Any, seen: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: it contains no section; a yacs config consists of KEY: value")
    merged: dict[str, Any] = {}
    bases = content.get(_BASE, [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or "://" in base:
            raise ConfigError(f"{path}: {_BASE}={base!r}: name a file")
        place = Path(path).parent / os.path.expanduser(base)
        real = os.path.realpath(place)
        if real in seen:
            raise ConfigError(f"{path}: {_BASE}={base}: that file is itself based on this one")
        if not place.is_file():
            raise ConfigError(f"{path}: {_BASE}={base}: no such file ({place})")
        if len(seen) > _MOST_FILES:
            raise ConfigError(f"{path}: {_BASE}={base}: more than {_MOST_FILES} files based on each other")
        merged = _overlay(merged, _with_bases(str(place), read_yaml(place), (*seen, real)))
    return _overlay(merged, {key: value for key, value in content.items() if key != _BASE})


def _overlay(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _overlay(merged[key], value)
        else:
            merged[key] = value
    return merged


def _leaves(section: Mapping[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        inner = f"{key}.{name}" if key else str(name)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, inner)
        else:
            yield inner, value


def _pairs(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """Both ``KEY=value`` and yacs' ``KEY value``."""
    flat: list[str] = []
    for item in overrides:
        flat.extend(item.split("=", 1) if "=" in item else [item])
    if len(flat) % 2:
        raise ConfigError(f"override {flat[-1]!r}: write KEY=value")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _set(cfg: CfgNode, key: str, value: Any, path: str) -> None:
    """One key, of a file or an override; yacs checks the type."""
    names = key.split(".")
    node: Any = cfg
    for depth, name in enumerate(names):
        if isinstance(node, CfgNode) and node.is_new_allowed():
            break
        if not isinstance(node, CfgNode) or name not in node:
            known = list(node) if isinstance(node, CfgNode) else []
            raise ConfigError(f"{path}: no key {'.'.join(names[: depth + 1])}; {nearest(name, known)}")
        node = node[name]
    else:
        if isinstance(node, CfgNode) and not isinstance(value, Mapping):
            raise ConfigError(f"{path}: {key}={value!r}: this key is a section {{{', '.join(node)}}}")
    if isinstance(value, str) and "${" in value:
        raise ConfigError(f"{path}: {key}={value!r}: a yacs config has no references; give the value itself")
    nested = value
    for name in reversed(names):
        nested = {name: nested}
    try:
        cfg.merge_from_other_cfg(CfgNode(nested))
    except Exception as error:  # yacs asserts, and raises KeyError and ValueError
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: {key}={value!r}: {reason}") from error
