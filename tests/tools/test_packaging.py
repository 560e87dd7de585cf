"""The wheel that setup.py builds: both packages, and the configs inside."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("setuptools", minversion="70.1")


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in the wheel of a copy of the repository: building writes into the source folder."""
    copy = tmp_path_factory.mktemp("packaging") / "repository"
    copy.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, copy)
    for name in ("itpn_d2", "pretrain", "configs", "tests"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    script = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    (built,) = (copy / "dist").glob("itpn_d2-*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_every_module_is_packed(wheel_names: set[str]) -> None:
    for package in ("itpn_d2", "pretrain"):
        sources = (path for path in (ROOT / package).rglob("*.py"))
        missing = {path.relative_to(ROOT).as_posix() for path in sources} - wheel_names
        assert not missing, f"not in the wheel (a folder without __init__.py?): {sorted(missing)}"


def test_a_checkout_has_the_configs_under_the_package_too() -> None:
    folder = ROOT / "itpn_d2" / "configs"
    assert folder.resolve() == ROOT / "configs", f"{folder} must be a link to configs/"


def test_every_config_is_packed(wheel_names: set[str]) -> None:
    sources = [path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.py")]
    assert len(sources) > 3
    assert {f"itpn_d2/{path.as_posix()}" for path in sources} <= wheel_names


def test_nothing_else_is_packed(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name}
    assert tops <= {"itpn_d2", "pretrain"}
    assert not [name for name in wheel_names if "__pycache__" in name]
