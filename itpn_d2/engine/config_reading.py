"""Reading a config file: a ``.py`` is a program, a ``.yaml`` is data."""

import builtins
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

from ..errors import ConfigError, UseError
from ..lazy.options import nearest
from ..lazy.texts import Texts
from ..lazy.yaml_files import check_is_data, read_yaml
from .precision import DEVICE
from .schema import SECTIONS
from .yacs import translate
from .yacs_files import merge_yacs

_STANDARD = Path(traceback.__file__).resolve().parent
_PACKAGE = Path(__file__).resolve().parents[1]
_TEXTS = ("class_names", "semantic_class_names", "classes")  # of datasets, whatever they say


def read_config(path: str, yacs_overrides: Sequence[str] = ()) -> DictConfig:
    """The config in a file with all its sections; nothing is checked but that a yaml is data.

    Args:
        path: a LazyConfig ``.py``, the ``config.yaml`` that a run has written, or a yacs ``.yaml``, which is
            translated.
        yacs_overrides: ``KEY=value`` for the last.

    Raises:
        ConfigError: no such file, it can't be read (with the line where it fails), it is no config, or a
            section is missing.
    """
    _check_place(path)
    if path.endswith(".py"):
        config = _run(path)
    else:
        content = read_yaml(path)
        if not isinstance(content, dict) or not content:
            found = "is empty" if not content else f"holds a {type(content).__name__}"
            raise ConfigError(f"{path}: it {found}; a config has the sections {', '.join(SECTIONS)}")
        if not set(SECTIONS) & content.keys():
            return translate(*merge_yacs(path, content, yacs_overrides), path)
        content = _with_texts(content)
        check_is_data(content, path)
        config = OmegaConf.create(content, flags={"allow_objects": True})
    if yacs_overrides:
        raise ConfigError(f"override {yacs_overrides[0]!r}: {hint(yacs_overrides[0], config)}")
    missing = [section for section in SECTIONS if section not in config]
    if missing:
        has = [str(name) for name in config if name not in SECTIONS]
        raise ConfigError(
            f"{path}: section {', '.join(missing)} is missing; a config has {', '.join(SECTIONS)}"
            + (f" ({nearest(has[0], missing)})" if has else "")
        )
    return config


def hint(override: str, config: DictConfig) -> str:
    """The problem with an override whose first part is not a section."""
    key, equals, _ = override.lstrip("+~").partition("=")
    if not equals:
        return "write key=value, e.g. train.max_iter=1000"
    first = key.partition(".")[0]
    return f"no key {first}; {nearest(first, map(str, config))}"


def _check_place(path: str) -> None:
    place = Path(path)
    try:
        if place.is_dir():
            raise ConfigError(f"--config-file {path}: it is a folder; name a file in it")
        if not place.is_file():
            raise ConfigError(f"--config-file {path}: no such file; see configs/ for the project's configs")
    except (OSError, ValueError) as error:  # too long a name, a zero in it
        raise ConfigError(f"--config-file {path!r}: no such file ({error})") from error
    if place.suffix not in (".py", ".yaml", ".yml"):
        raise ConfigError(f"--config-file {path}: a config must be a .py (LazyConfig) or a .yaml file")


def _run(path: str) -> DictConfig:
    """Execute a LazyConfig; errors name the line of the config."""
    importer = builtins.__import__
    try:
        config = load_lazy(path)
    except UseError:
        raise
    except Exception as error:
        cause: BaseException = error.__cause__ if isinstance(error.__cause__, SyntaxError) else error
        where, reason = _place(path, cause), " ".join(str(cause).split())
        if isinstance(cause, SyntaxError):
            reason = cause.msg
        raise ConfigError(f"{where}: the config can't be run ({type(cause).__name__}: {reason})") from error
    finally:
        builtins.__import__ = importer  # Detectron2 leaves its own there when a config fails
    return config


def load_lazy(path: str) -> DictConfig:
    """What a ``.py`` holds. ``train.device`` is ``auto`` where it refers to what ``auto`` is on this machine:
    another one may go on."""
    config = LazyConfig.load(path)
    train: Any = config.get("train") if OmegaConf.is_dict(config) else None
    if OmegaConf.is_dict(train) and not train._is_none() and "device" in train:
        node = train._get_node("device")
        if node is not None and node._value() == DEVICE:
            train.device = "auto"
    return config


def _place(path: str, error: BaseException) -> str:
    """File and line of the innermost config that an error went through."""
    if isinstance(error, SyntaxError):
        file = error.filename if error.filename and Path(error.filename).is_file() else path
        return f"{file}:{error.lineno}" if error.lineno else file
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_file()]
    own = [f for f in frames if not _is_of_a_library(Path(f.filename).resolve())]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else path


def _is_of_a_library(file: Path) -> bool:
    """Whether a file is neither a config nor a module of the user's: the project's configs may be installed
    among the libraries."""
    if file.is_relative_to(_STANDARD):
        return True
    installed = file.is_relative_to(_PACKAGE) or {"site-packages", "dist-packages"} & set(file.parts)
    return bool(installed) and "configs" not in file.parts


def _with_texts(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the names of classes as texts."""

    def wrap(section: Any) -> Any:
        if not isinstance(section, dict):
            return section
        found = {name: wrap(value) if name in ("train", "val") else value for name, value in section.items()}
        for name in _TEXTS:
            if isinstance(found.get(name), list):
                found[name] = Texts(map(str, found[name]))
        return found

    return {**content, "dataset": wrap(content.get("dataset"))} if "dataset" in content else content
