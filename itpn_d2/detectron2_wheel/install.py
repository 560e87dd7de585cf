"""Make Detectron2 importable: keep the one that is there, or build and install 0.6 as a pure-Python wheel.

    itpn-install-detectron2                               # download, build, install into this interpreter
    itpn-install-detectron2 --wheel-dir dist --no-install
    itpn-install-detectron2 --sdist pb1-detectron2-0.6.tar.gz      # a file fetched earlier

Detectron2 is not on PyPI under its own name. The sdist pinned below holds the Python files of the official
tag v0.6; `substitutions.py` beside this file lists what is changed in them. Compiled operators (rotated
boxes, deformable convolutions, the fast COCO evaluator) need a build from source, which this tool leaves
alone.
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ..errors import UseError, add_debug, errors_of_use
from .substitutions import apply_substitutions
from .wheel import write_wheel

SDIST_PROJECT = "pb1-detectron2"
SDIST_VERSION = "0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"

# The import of the engine pulls in almost all of Detectron2, so that a half-working install is noticed here.
_PROBE = "import detectron2, detectron2.engine; print(detectron2.__version__, detectron2.__path__[0])"


class InstallError(UseError):
    """Detectron2 cannot be installed; the message says why and what to do."""


def installed_detectron2(python: str = sys.executable) -> str | None:
    """Version and folder of the Detectron2 that ``python`` imports, or None where there is none.

    Raises:
        InstallError: a Detectron2 is there but fails to import.
    """
    # From an empty folder, so that a checkout in the current one does not answer for an install.
    with tempfile.TemporaryDirectory() as empty:
        probe = subprocess.run([python, "-c", _PROBE], cwd=empty, capture_output=True, text=True)
    if probe.returncode == 0:
        return probe.stdout.strip().splitlines()[-1]
    reason = (probe.stderr.strip().splitlines() or ["no message"])[-1]
    if reason == "ModuleNotFoundError: No module named 'detectron2'":
        return None
    raise InstallError(
        f"{python} has a Detectron2 that does not import: {reason}\n"
        "Repair it, or remove it (pip uninstall detectron2) and run this tool again."
    )


def require_modules(*names: str) -> None:
    """Raise InstallError, with the remedy, unless this interpreter has all the modules ``names``."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise InstallError(
            f"{', '.join(missing)} missing in {sys.prefix}: run `make env`, or "
            f"`{sys.executable} -m pip install {' '.join(missing)}`, then run this tool again."
        )


def verify_sha256(path: Path, expected: str = SDIST_SHA256) -> None:
    """Raise InstallError unless the file at ``path`` has the SHA-256 digest ``expected`` (hex)."""
    if not path.is_file():
        raise InstallError(f"{path} does not exist: give --sdist an existing file, or omit it to download.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise InstallError(
            f"{path} has the SHA-256 {found}, expected {expected}: it is damaged or another file. "
            "Delete it and download it again; never install it as it is."
        )


def download_sdist(directory: Path) -> Path:
    """Download the pinned sdist with pip into ``directory`` and return its path.

    Raises:
        InstallError: pip is missing or fails; its last lines are in the message.
    """
    require_modules("pip", "setuptools")
    stand_in = directory / "stand_in"
    stand_in.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("stand_in_torch.py"), stand_in / "torch.py")
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{SDIST_PROJECT}=={SDIST_VERSION} --hash=sha256:{SDIST_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    command += ["-r", str(requirements), "-d", str(directory)]
    search_path = [str(stand_in), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search_path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    sdists = list(directory.glob("*.tar.gz"))
    if result.returncode != 0 or len(sdists) != 1:
        tail = "\n".join((result.stderr.strip() or result.stdout.strip()).splitlines()[-15:])
        raise InstallError(
            f"pip could not download {SDIST_PROJECT}=={SDIST_VERSION} (status {result.returncode}):\n{tail}\n"
            "Check that pip reaches its package index and that setuptools is current "
            "(pip install -U setuptools), or fetch the file elsewhere and pass it with --sdist."
        )
    return sdists[0]


def unpack_sdist(sdist: Path, directory: Path) -> Path:
    """Unpack ``sdist`` into ``directory`` and return its single top folder.

    Raises:
        InstallError: it has not exactly one top folder.
    """
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):  # security updates of 3.10 and 3.11 brought it
            archive.extractall(directory, filter="data")
        else:
            archive.extractall(directory)
    folders = [path for path in directory.iterdir() if path.is_dir()]
    if len(folders) != 1:
        raise InstallError(f"{sdist} has {len(folders)} top folders, expected 1: it is not the pinned sdist.")
    return folders[0]


def build_wheel(sdist: Path, wheel_dir: Path, sha256: str = SDIST_SHA256) -> Path:
    """Check ``sdist``, substitute, and write the wheel into ``wheel_dir``; returns the wheel's path."""
    verify_sha256(sdist, sha256)
    with tempfile.TemporaryDirectory() as work:
        root = unpack_sdist(sdist, Path(work))
        apply_substitutions(root)
        return write_wheel(root, wheel_dir)


def install_wheel(wheel: Path) -> None:
    """Install ``wheel`` and what it requires into this interpreter, with uv if present, else with pip.

    Raises:
        InstallError: the installer failed, or there is none.
    """
    if importlib.util.find_spec("uv") is not None:
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    else:
        require_modules("pip")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    status = subprocess.run([*command, str(wheel)]).returncode
    if status != 0:
        raise InstallError(f"`{' '.join(command)} {wheel}` failed with status {status}; its output is above.")


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--sdist", type=Path, help="use this file instead of a download; its hash is checked")
    parser.add_argument("--wheel-dir", type=Path, help="keep the built wheel in this folder")
    parser.add_argument("--no-install", action="store_true", help="only build the wheel; needs --wheel-dir")
    add_debug(parser)
    args = parser.parse_args(argv)
    if args.no_install and args.wheel_dir is None:
        parser.error("--no-install needs --wheel-dir, or the wheel would be thrown away")
    with errors_of_use(args.debug):
        act = _build_only if args.no_install else _install
        print(act(args.sdist, args.wheel_dir))
    return 0


def _build_only(sdist: Path | None, wheel_dir: Path) -> str:
    with tempfile.TemporaryDirectory() as work:
        return f"Wrote {build_wheel(sdist or download_sdist(Path(work) / 'sdist'), wheel_dir)}"


def _install(sdist: Path | None, wheel_dir: Path | None) -> str:
    present = installed_detectron2()
    if present is not None:
        return f"Detectron2 {present} is installed already and stays."
    require_modules("torch", "torchvision")
    with tempfile.TemporaryDirectory() as work:
        found = sdist or download_sdist(Path(work) / "sdist")
        install_wheel(build_wheel(found, wheel_dir or Path(work)))
    present = installed_detectron2()
    if present is None:
        raise InstallError(f"the wheel was installed but {sys.executable} does not find detectron2.")
    return f"Installed Detectron2 {present}"


if __name__ == "__main__":
    sys.exit(main())
