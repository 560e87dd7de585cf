"""From a config file and ``key=value`` overrides to a checked LazyConfig, and back into a file."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf

from ..addresses import masked
from ..errors import ConfigError
from ..files import write_text
from ..lazy.calls import check_calls, plain, stored
from ..lazy.targets import name_of
from ..lazy.texts import Texts
from .config_files import find_config_file
from .config_reading import read_config
from .consistency import check_consistency
from .overrides import apply_overrides
from .schema import SECTIONS, Config, PretrainConfig, kind_of, validated

logger = logging.getLogger(__name__)


def load_config(path: str, overrides: Sequence[str] | None = None) -> DictConfig:
    """Load a LazyConfig ``.py``, the ``config.yaml`` that a run has written, or a yacs ``.yaml``; apply
    ``key=value`` overrides (``KEY=value`` too for the last) and check everything that can be checked without
    the data.

    Raises:
        ConfigError: the file can't be used; or a key or value, in the file or in an override, that is wrong.
    """
    path = str(find_config_file(path))
    yacs, others = _split(list(overrides or []), path)
    config = read_config(path, yacs)
    apply_overrides(config, others)
    try:
        sections = all(OmegaConf.is_dict(config.get(name)) for name in ("dataset", "dataloader"))
        if sections and config.dataset.get("train") is None:
            _forget(config.dataloader, "${dataset.train.")
        check_config(config)
    except ConfigError as error:
        given = [o.partition("=")[0].lstrip("+") for o in others]
        if any(str(error).startswith(key) for key in given):
            raise
        raise ConfigError(f"{path}: {error}") from error
    if kind_of(config) is PretrainConfig and any(o.startswith("train.max_iter=") for o in others):
        raise ConfigError(
            "in pre-training, train.max_iter follows from train.epochs: override train.epochs instead"
        )
    return config


def check_config(config: DictConfig) -> None:
    """Check the keys and values of all sections, and of every call the arguments; fill in the defaults of
    ``train``. Integers that are written as 1e5 become integers.

    Raises:
        ConfigError: with the full key, the value, and what is allowed.
    """
    for section in SECTIONS:
        value = stored(config, section)
        if not OmegaConf.is_dict(value) or value._is_none():
            raise ConfigError(f"{section}={value!r}: it must be a section {{key: value}}")
    content = {section: plain(config._get_node(section), section) for section in SECTIONS}
    found = validated(kind_of(content), content, lambda key: _refers(config, key))
    check_calls(config)
    check_consistency(content, comm.get_world_size())
    _take_over(config, found)


def _forget(node: Any, reference: str) -> None:
    """Empty what refers to a section that is not there: evaluation needs no training set."""
    for name in node if OmegaConf.is_dict(node) else range(len(node)):
        child = node._get_node(name)
        if child._is_interpolation():
            if child._value().startswith(reference):
                node[name] = "${dataset.train}"  # nothing, as a value that the data give
        elif OmegaConf.is_config(child) and not child._is_none():
            _forget(child, reference)


def _refers(config: DictConfig, key: str) -> bool:
    node: Any = config
    for part in key.split("."):
        if OmegaConf.is_dict(node) and part in node:
            node = node._get_node(part)
        elif OmegaConf.is_list(node) and part.isdigit():
            node = node._get_node(int(part))
        if node is None or node._is_interpolation():
            return node is not None
    return False


def _take_over(config: DictConfig, found: Config) -> None:
    """Write what the schema has made of the values into the config, where that is another one."""
    normal = found.model_dump(by_alias=True, exclude_unset=True)
    normal["train"] = found.train.model_dump()
    for section in SECTIONS:
        _merge(config[section], normal[section])


def _merge(node: Any, normal: Mapping[str, Any]) -> None:
    for name, value in normal.items():
        old = node._get_node(name) if name in node else None
        if old is None:
            node[name] = value
        else:
            _settle(node, name, old, value)


def _settle(node: Any, name: Any, old: Any, value: Any) -> None:
    if old is None or old._is_interpolation() or old._is_none():
        return
    if isinstance(value, Mapping) and OmegaConf.is_dict(old):
        _merge(old, value)
    elif isinstance(value, list) and OmegaConf.is_list(old):
        for number, item in enumerate(value):
            _settle(old, number, old._get_node(number), item)
    elif type(value) is int and type(old._value()) is float:
        node[name] = value


def _split(overrides: list[str], path: str) -> tuple[list[str], list[str]]:
    """Those of a yacs config, and those of the sections."""
    if path.endswith(".py"):
        return [], overrides
    ours = [o for o in overrides if "=" in o and re.split("[.=]", o.lstrip("+~"))[0] in SECTIONS]
    return [o for o in overrides if o not in ours], ours


def save_config(config: DictConfig, path: Path) -> None:
    """Write a config as yaml, which :func:`load_config` reads; whole or not at all. Passwords and tokens in
    addresses are left out, references stay references."""
    write_text(path, as_yaml(OmegaConf.to_container(config, resolve=False)))


def as_yaml(content: Any, in_a_line: bool = False) -> str:
    """Plain data as yaml; other objects are written as their ``repr``, and a warning names them."""
    odd: list[str] = []
    data, style = _as_data(content, "", odd), True if in_a_line else None
    text = yaml.safe_dump(data, default_flow_style=style, allow_unicode=True, width=1 << 20, sort_keys=False)
    if odd:
        logger.warning("The yaml can't store the objects at %s, so no run can start from it", ", ".join(odd))
    return str(text)


def _as_data(value: Any, key: str, odd: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _as_data(item, f"{key}.{name}".lstrip("."), odd) for name, item in value.items()}
    if isinstance(value, list | tuple | Texts):
        return [_as_data(item, f"{key}.{number}", odd) for number, item in enumerate(value)]
    if isinstance(value, str):
        return masked(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if key.endswith("_target_"):
        return name_of(value)
    odd.append(key)
    return masked(repr(value))
