"""A detector as a config of this project and what differs from it; and back."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ..engine import load_config
from ..engine.config_files import configs_folder
from ..errors import ZooError
from ..lazy.options import options_of
from ..lazy.targets import find
from ..lazy.texts import Texts
from .description import Description, check_plain

_NAME = re.compile(r"[A-Za-z0-9]\w*(/[A-Za-z0-9]\w*)*", re.ASCII)
_KEY = re.compile(r"[A-Za-z]\w*(\.[A-Za-z0-9]\w*)+", re.ASCII)
# what a description may set: parts of the network, and how images are resized for it
_SECTIONS = ("model", "dataloader.image", "dataloader.test.mapper")
_DATASET = {
    "num_classes": int,
    "num_semantic_classes": int,
    "num_keypoints": int,
    "class_names": str,
    "semantic_class_names": str,
    "keypoint_flip": int,
}
_CLASS = re.compile(r"[^\x00-\x1f]{1,200}")
_MISSING = object()


def config_name(config: str | Path | None) -> str:
    """The name of a config of this project, from it or from a path.

    Raises:
        ZooError: it is none.
    """
    name = Path(config or "").as_posix()
    folder = configs_folder()
    if Path(name).is_file() and Path(name).resolve().is_relative_to(folder.resolve()):
        name = Path(name).resolve().relative_to(folder.resolve()).as_posix()
    name = name.removeprefix("configs/").removesuffix(".py")
    if not _NAME.fullmatch(name) or name.startswith("common/") or not (folder / f"{name}.py").is_file():
        names = [p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.py")]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}?" if near else "e.g. COCO-Detection/faster_rcnn_fast_itpn_base_1x"
        raise ZooError(
            f"config {name[:100]!r} is not a config of this project, and a detector can only be described "
            f"by one; {hint}"
        )
    return name


def describe_detector(cfg: DictConfig, config: str | Path | None) -> Description:
    """What makes the config ``config`` the one whose model the weights are of.

    Raises:
        ZooError: no such config, or ``cfg`` differs from it by more than plain values.
    """
    name = config_name(config)
    base = load_config(str(configs_folder() / f"{name}.py"))
    overrides: dict[str, Any] = {}
    for section in _SECTIONS:
        theirs, ours = OmegaConf.select(cfg, section), OmegaConf.select(base, section)
        if ours is not None and theirs is not None:
            _differences(_raw(theirs), _raw(ours), section, overrides, cfg)
    dataset = {k: cfg.dataset[k] for k in _DATASET if cfg.dataset.get(k) is not None}
    found = Description(
        "detector", {}, name, overrides, {k: _raw(v) for k, v in dataset.items()}, f"the model of {name}"
    )
    detector_config(found)  # whether it can be read again
    return found


def _raw(node: Any) -> Any:
    if isinstance(node, Texts):
        return list(node)
    return OmegaConf.to_container(node) if isinstance(node, DictConfig | ListConfig) else node


def _differences(theirs: Any, ours: Any, key: str, found: dict[str, Any], cfg: DictConfig) -> None:
    if key.endswith("._target_"):
        same = _name(theirs) == _name(ours)
    elif isinstance(theirs, dict) and isinstance(ours, dict):
        for name in dict.fromkeys([*ours, *theirs]):
            _differences(theirs.get(name, _MISSING), ours.get(name, _MISSING), f"{key}.{name}", found, cfg)
        return
    else:
        same = _lists(theirs) == _lists(ours)
    if same:
        return
    value = None if theirs is _MISSING else _raw(OmegaConf.select(cfg, key))
    try:
        if theirs is _MISSING or key.endswith("._target_"):
            raise ZooError("it is another class, or it is missing")
        check_plain(value, key, "")
    except ZooError as error:
        raise ZooError(
            f"{key} differs from the config of this project in a way that data can't describe "
            f"({str(error).removeprefix(': ')}): name the config that the model was trained with"
        ) from error
    found[key] = _lists(value)


def _name(target: Any) -> str:
    found = find(target, "_target_")
    return f"{found.__module__}.{found.__qualname__}"


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def detector_config(found: Description) -> DictConfig:
    """The config of a description, whose keys and values may be anybody's.

    Raises:
        ZooError: no such config of this project; a key that it has not, or that is no setting of the network;
            or a value that is no plain data.
    """
    try:
        name = config_name(found.config)
    except ZooError as error:
        raise ZooError(f"{found.source}: {error}") from error
    if name != found.config:
        raise ZooError(f"{found.source}: config {found.config[:100]!r}: write {name!r}")
    cfg = load_config(str(configs_folder() / f"{name}.py"))
    for key, value in found.overrides.items():
        check_plain(value, f"overrides.{key[:100]}", found.source)
        _set(cfg, key, value, found.source)
    for key, value in found.dataset.items():
        kind = _DATASET.get(key)
        if kind is None:
            raise ZooError(f"{found.source}: dataset has no {key[:100]!r}; there are {', '.join(_DATASET)}")
        check_plain(value, f"dataset.{key}", found.source, _CLASS)
        items = value if isinstance(value, list) else [value]
        is_list = not key.startswith("num_")
        if isinstance(value, list) is not is_list or not all(type(item) is kind for item in items):
            words = f"a list of {'names' if kind is str else 'numbers'}" if is_list else "a number"
            raise ZooError(f"{found.source}: dataset.{key} is not {words}")
        if not is_list and not 0 < value <= 1 << 20:
            raise ZooError(f"{found.source}: dataset.{key}={value}: this is more than any model has")
        cfg.dataset[key] = Texts(value) if kind is str else value
    for key in ("num_classes", "num_semantic_classes", "num_keypoints"):
        if key in cfg.dataset and cfg.dataset[key] is None:
            raise ZooError(f"{found.source}: dataset.{key} is missing, from which the model is built")
    names, count = cfg.dataset.get("class_names"), cfg.dataset.get("num_classes")
    if names is not None and len(names) != count:
        raise ZooError(f"{found.source}: dataset has {len(names)} class_names, and num_classes={count}")
    return cfg


def _set(cfg: DictConfig, key: str, value: Any, source: str) -> None:
    """Set a value that is plain already, where the config has such a setting."""
    section = next((s for s in _SECTIONS if key.startswith(f"{s}.")), None)
    if section is None or not _KEY.fullmatch(key) or isinstance(value, Mapping) and not value:
        raise ZooError(
            f"{source}: overrides has {key[:100]!r}; it may set values below {', '.join(_SECTIONS)}"
        )
    *parents, leaf = key.split(".")
    node: Any = cfg
    for part in parents:
        node = node._get_node(part) if isinstance(node, DictConfig) and part in node else None
    if not isinstance(node, DictConfig) or leaf not in _settings(node):
        raise ZooError(f"{source}: overrides.{key[:100]}: the config has no such setting")
    if _holds_calls(_raw(node).get(leaf)):
        raise ZooError(f"{source}: overrides.{key[:100]} would replace a part of the model by plain data")
    node[leaf] = value


def _settings(node: DictConfig) -> set[str]:
    """The keys of a node that are settings: those it has, and the further arguments of its call."""
    known = {str(key) for key in node}
    target = node.get("_target_")
    if target is not None:
        given = {str(key): value for key, value in _raw(node).items() if value is not None}
        known |= options_of(find(target, "_target_"), given).named.keys()
    return {key for key in known if not key.startswith("_")}


def _holds_calls(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_holds_calls, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_calls, value))
    return not (value is None or isinstance(value, str | int | float))
