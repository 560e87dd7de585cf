"""From a config file and ``key=value`` overrides to a checked LazyConfig."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

from ..errors import ConfigError
from ..files import written_whole
from .config_files import find_config_file
from .overrides import apply_overrides

_SECTIONS = ("model", "dataset", "dataloader", "optimizer", "lr_multiplier", "train")


def load_config(path: str, overrides: list[str] | None = None) -> DictConfig:
    """Load a LazyConfig ``.py``, the ``config.yaml`` that a run has written, or a yacs ``.yaml`` through the
    registry, and apply ``key=value`` overrides.

    Raises:
        ConfigError: no such file, a section is missing, or an override names a key that isn't there (with the
        nearest).
    """
    path = str(find_config_file(path))
    if path.endswith((".yaml", ".yml")):
        written = _of_run(path)
        if written is None:
            from .yacs import load_yacs

            return load_yacs(path, overrides or [])
        cfg = written
    else:
        cfg = LazyConfig.load(path)
    missing = [s for s in _SECTIONS if s not in cfg]
    if missing:
        raise ConfigError(
            f"{path}: section {', '.join(missing)} is missing; a config has {', '.join(_SECTIONS)}"
        )
    for override in overrides or []:
        _check_override(cfg, override)
    return apply_overrides(cfg, overrides or [])


def save_config(cfg: DictConfig, path: Path) -> None:
    """Write a config as yaml, which :func:`load_config` reads; whole or not at all."""
    with written_whole(path) as partial:
        LazyConfig.save(cfg, str(partial))


def _of_run(path: str) -> DictConfig | None:
    """The config that a run has written to a yaml file; None of other yaml files."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--config-file {path}: it can't be read ({reason})") from error
    if not isinstance(content, dict) or not set(_SECTIONS) <= content.keys():
        return None
    return OmegaConf.create(content, flags={"allow_objects": True})


def _check_override(cfg: DictConfig, override: str) -> None:
    key, equals, _ = override.lstrip("+~").partition("=")
    if not equals:
        raise ConfigError(f"override {override!r}: write key=value, e.g. train.max_iter=1000")
    if override.startswith(("+", "~")):
        return
    node: Any = cfg
    *parents, leaf = key.split(".")
    for depth, part in enumerate([*parents, leaf]):
        if OmegaConf.is_list(node) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        known = [str(k) for k in node] if OmegaConf.is_dict(node) else []
        if part not in known:
            # a call's argument that the config leaves at its default may be set
            if depth == len(parents) and "_target_" in known:
                return
            near = difflib.get_close_matches(part, known, 1)
            hint = (
                f"did you mean {'.'.join([*parents[:depth], near[0]])}?"
                if near
                else f"there are: {', '.join(known)}"
            )
            raise ConfigError(
                f"override {override!r}: no key {'.'.join(key.split('.')[: depth + 1])}; {hint}"
            )
        node = node._get_node(part)
