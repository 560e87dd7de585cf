"""``--import``: a program of the user that runs before the config is read, for example to register
datasets."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, UseError, where_it_failed


def import_all(names: Sequence[str]) -> None:
    """Import modules, each by its name or its file, once in a process: a file as a module named as it is,
    with its folder on the path, so that it finds its neighbours and other processes find it.

    Raises:
        ConfigError: there is none, it fails, or its name is that of another module.
    """
    for name in names:
        is_file = name.endswith(".py") or os.sep in name
        try:
            _run(Path(name)) if is_file else _import(name)
        except UseError:
            raise
        except Exception as error:
            raise ConfigError(f"--import {name}: it fails: {where_it_failed(error)}") from error


def _import(name: str) -> None:
    """A module by its name, also of the working directory."""
    _search(os.getcwd(), last=True)
    try:
        known = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        known = None
    if known is None:
        raise ConfigError(f"--import {name}: no such module; name a file FILE.py, or one on PYTHONPATH")
    importlib.import_module(name)


def _run(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"--import {path}: no such file")
    place, module = path.resolve(), path.stem
    before = sys.modules.get(module)
    if before is not None:
        if os.path.realpath(getattr(before, "__file__", None) or "") == str(place):
            return
        raise ConfigError(f"--import {path}: another module is also named {module}; rename the file")
    _search(str(place.parent), last=False)
    spec = importlib.util.spec_from_file_location(module, place)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--import {path}: it is not a Python file (FILE.py)")
    found = importlib.util.module_from_spec(spec)
    sys.modules[module] = found
    try:
        spec.loader.exec_module(found)
    except BaseException:
        del sys.modules[module]
        raise


def _search(folder: str, last: bool) -> None:
    if folder not in sys.path:
        sys.path.insert(len(sys.path) if last else 0, folder)
