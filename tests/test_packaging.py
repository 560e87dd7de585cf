"""The wheel: what it contains; and that it works without a checkout, by its console scripts alone."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterable, Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
from PIL import Image

import itpn_d2

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("train", "pretrain", "export", "convert", "zoo", "shards", "demo", "app", "install-detectron2")

pytest.importorskip("setuptools", minversion="77")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the repository: building writes into the source folder."""
    copy = tmp_path_factory.mktemp("packaging") / "repository"
    copy.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy)
    for name in ("itpn_d2", "pretrain", "configs", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "fixtures"))
    script = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    (wheel,) = (copy / "dist").glob("itpn_d2-*.whl")
    return wheel


@pytest.fixture(scope="session")
def names(built: Path) -> set[str]:
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_every_module_is_packed(names: set[str]) -> None:
    for package in ("itpn_d2", "pretrain"):
        sources = (path for path in (ROOT / package).rglob("*.py"))
        missing = {path.relative_to(ROOT).as_posix() for path in sources} - names
        assert not missing, f"not in the wheel (a folder without __init__.py?): {sorted(missing)}"


def test_every_config_is_packed(names: set[str]) -> None:
    paths = [path for path in (ROOT / "configs").rglob("*") if path.suffix in (".py", ".yaml")]
    assert len(paths) > 100
    assert {f"itpn_d2/{path.relative_to(ROOT).as_posix()}" for path in paths} <= names


def test_data_and_licence_are_packed(names: set[str]) -> None:
    info = f"itpn_d2-{itpn_d2.__version__}.dist-info"
    expected = {"itpn_d2/py.typed", "pretrain/py.typed"}
    expected |= {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"}
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "itpn_d2").rglob("*.html")}
    assert len(expected) > 4 and expected <= names


def test_nothing_else_is_packed(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"itpn_d2", "pretrain"}
    assert not [name for name in names if "__pycache__" in name]


def test_the_size_that_is_documented(built: Path) -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    stated = re.search(r"The wheel has (\d+) MB", page)
    assert stated and abs(built.stat().st_size / 1e6 - int(stated[1])) < 1


def test_metadata(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        info = f"itpn_d2-{itpn_d2.__version__}.dist-info"
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Version"] == itpn_d2.__version__
    targets = dict(re.findall(r"^itpn-(\S+) = (\S+)$", scripts, re.MULTILINE))
    assert sorted(targets) == sorted(SCRIPTS)
    for target in targets.values():
        module, function = target.split(":")
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
        assert f"\ndef {function}(" in source, f"{target} does not exist"


def test_one_version() -> None:
    """The citation and the newest entry of the changelog say the package's version."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {itpn_d2.__version__}\n" in citation
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = next(
        line for line in changes.splitlines() if line.startswith("## [") and "Unreleased" not in line
    )
    assert first.startswith(f"## [{itpn_d2.__version__}]")


def test_one_version_of_the_checks() -> None:
    """A commit is checked before it is made with the versions that `make lint` has."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for project, package in (("ruff-pre-commit", "ruff"), ("codespell", "codespell")):
        (pinned,) = re.findall(rf"/{project}\n    rev: v(\S+)", hooks)
        assert f"\n{package}=={pinned}\n" in lock, package


def test_every_script_has_a_page() -> None:
    """The site shows what each command answers to --help."""
    source = (ROOT / "tools" / "site_pages.py").read_text(encoding="utf-8")
    assert sorted(re.findall(r'^    "itpn-(\S+)": "', source, re.MULTILINE)) == sorted(SCRIPTS)


def test_no_links() -> None:
    """A checkout on Windows has none: git writes a file with the target's name in their place."""
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    assert not [line for line in listed.stdout.splitlines() if line.startswith("120000")]


def _at_import(nodes: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported and that may not fail."""
    for node in nodes:
        if isinstance(node, ast.Try) and any("ImportError" in ast.dump(h) for h in node.handlers):
            continue
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _at_import(
                child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)
            )


def test_no_module_imports_what_only_posix_has() -> None:
    """Windows has none of these: a module may import them in a function, or do without."""
    posix = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
    for package in ("itpn_d2", "pretrain"):
        for path in (ROOT / package).rglob("*.py"):
            for node in _at_import(ast.parse(path.read_text(encoding="utf-8")).body):
                found = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
                found |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
                assert not found & posix, f"{path}:{node.lineno} imports {found & posix}"


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts' folder of an environment that has the wheel, and sees the packages it needs where this
    interpreter has them; nothing is downloaded."""
    pytest.importorskip("uv", reason="installs the wheel")
    folder = tmp_path_factory.mktemp("installed") / "env"
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = str(scripts / "python")
    command = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--python", python]
    done = subprocess.run([*command, str(built)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    place = Path(
        subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    )
    # addsitedir would run .pth files as well, and so find an editable install of the checkout
    (Path(place) / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


@pytest.mark.slow
def test_the_wheel_works_by_its_scripts(installed: Path, tmp_path: Path) -> None:
    """Trains the Quickstart shortly, evaluates, predicts and shows the checkpoint, outside the checkout."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "XDG_CACHE_HOME": str(tmp_path / "c")}

    def call(script: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(installed / script), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{script} {arguments}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    where = "import itpn_d2, pretrain; print(itpn_d2.__file__, pretrain.__file__)"
    found = subprocess.run(
        [str(installed / "python"), "-c", where],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.stdout.count(str(installed.parent)) == 2, found.stdout + found.stderr

    run = tmp_path / "run"
    few = [f"dataset.{split}.{key}" for split in ("train", "val") for key in ("num_images=4", "size=64")]
    few += ["dataloader.image.short_sides=[64]", "dataloader.image.test_short_side=64"]
    few += ["dataloader.train.total_batch_size=2", "model.backbone.depths=[1,1,1]", "train.max_iter=2"]
    few += ["train.eval_period=2", f"train.output_dir={run}"]
    call("itpn-train", "--config-file", "configs/Quickstart/mask_rcnn_fast_itpn_nano.py", *few)
    weights = str(run / "model_final.pth")
    again = [*few[:-1], f"train.output_dir={tmp_path / 'again'}", f"train.init_checkpoint={weights}"]
    call("itpn-train", "--config-file", "Quickstart/mask_rcnn_fast_itpn_nano", "--eval-only", *again)
    results = json.loads((tmp_path / "again" / "results.json").read_text())
    assert any("AP" in key for key in results)
    Image.new("RGB", (96, 64), (200, 30, 30)).save(tmp_path / "photo.png")
    inputs = ["--input", str(tmp_path / "photo.png"), "--output", str(tmp_path / "demo")]
    call("itpn-demo", "--config-file", str(run / "config.yaml"), "--weights", weights, *inputs)
    assert (tmp_path / "demo" / "pictures" / "photo.png").is_file()
    assert "blocks" in call("itpn-convert", weights)
    assert "Quickstart/mask_rcnn_fast_itpn_nano" in call("itpn-zoo", "list")
    assert "stays" in call("itpn-install-detectron2")
    loaded = "from importlib.metadata import entry_points as found; "
    loaded += "print([e.load().__module__ for e in found(group='console_scripts') if e.name[:5] == 'itpn-'])"
    assert call("python", "-c", loaded).count(".") >= len(SCRIPTS)
