"""Where the configs of this project are, and which file a name stands for."""

import difflib
import os
from functools import cache
from pathlib import Path

from ..errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]


def configs_folder() -> Path:
    """The folder of the project's configs: ``itpn_d2/configs`` where a wheel is installed; beside the package
    in a checkout and in an editable install of one."""
    packed = _PACKAGE / "configs"
    return packed if packed.is_dir() else _PACKAGE.parent / "configs"


def find_config_file(name: str | Path) -> Path:
    """The config file that a name stands for.

    Args:
        name: a file; or, from any folder, a config of this project: its path with or without ``configs/``
            before and ``.py`` behind (``Quickstart/mask_rcnn_fast_itpn_nano``), or the last part of the path
            where that is unique.

    Raises:
        ConfigError: no such file or config, or several configs of that name.
    """
    if os.path.isfile(name):  # False also of a name that no file can have
        return Path(name)
    wanted = Path(name).as_posix().removeprefix("./").removeprefix("configs/")
    known = _known()
    for full in (wanted, f"{wanted}.py"):
        if full in known:
            return configs_folder() / full
    found = [full for full in known if full.rsplit("/", 1)[-1] in (wanted, f"{wanted}.py")]
    if len(found) == 1:
        return configs_folder() / found[0]
    if found:
        raise ConfigError(
            f"--config-file {name}: several configs have this name; choose one of {', '.join(found)}"
        )
    names = [full.removesuffix(".py") for full in known]
    short = {n.rsplit("/", 1)[-1] for n in names}
    close = difflib.get_close_matches(wanted.removesuffix(".py"), [*names, *sorted(short)])
    hint = f"did you mean {' or '.join(close)}?" if close else "`itpn-zoo list` shows the project's configs"
    raise ConfigError(
        f"--config-file {name}: no such file, and no config of the project has this name; {hint}"
    )


@cache
def _known() -> tuple[str, ...]:
    """Paths below the folder, without those that only serve others."""
    folder = configs_folder()
    paths = sorted(p for ending in ("*.py", "*.yaml") for p in folder.rglob(ending))
    relative = [p.relative_to(folder) for p in paths]
    return tuple(p.as_posix() for p in relative if p.parts[0] != "common" and p.name != "__init__.py")
