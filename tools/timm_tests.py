"""timm's own tests of its models, over the trunks that this project registers with it.

    python tools/timm_tests.py                    # the sources of the installed version, from PyPI
    python tools/timm_tests.py --source FOLDER    # a checkout, or sources unpacked
    python tools/timm_tests.py -k nano            # what is not known here goes to pytest

What timm tests on all its models, or on all that hand out intermediate maps, runs on ours instead; what it
tests on models that it names itself is left out, and so are the two tests that download weights.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import timm

import itpn_d2
from itpn_d2.errors import UseError, add_debug, errors_of_use

_TESTS = "tests/test_models.py"
# of these timm chooses the models by the modules they are in
_INTERMEDIATES = (
    "test_model_forward_intermediates",
    "test_model_forward_intermediates_features",
    "test_prune_intermediate_layers_contract",
)
_DOWNLOADS = ("test_model_load_pretrained", "test_model_features_pretrained")


class OurModels:
    """A plugin of pytest that leaves of tests over many models those over ours."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parameters are replaced before pytest makes tests of them."""
        marks = metafunc.definition.own_markers
        for place, mark in enumerate(marks):
            if mark.name == "parametrize" and mark.args[0] == "model_name":
                every = metafunc.function.__name__ in _INTERMEDIATES
                names = [name for name in itpn_d2.VARIANTS if every or name in mark.args[1]]
                marks[place] = pytest.mark.parametrize("model_name", names).mark

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Without the tests that are not over our models, and those that download."""
        chosen = [item for item in items if _is_chosen(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def _is_chosen(item: pytest.Item) -> bool:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("model_name") in itpn_d2.VARIANTS and not item.name.startswith(_DOWNLOADS)


@contextmanager
def sources(given: str | None) -> Iterator[Path]:
    """A folder with timm's tests: the given one, or for the time being that of the installed version.

    Raises:
        UseError: it has no tests, or can't be downloaded.
    """
    if given is not None:
        yield _with_tests(Path(given))
        return
    with tempfile.TemporaryDirectory(prefix="timm_") as folder:
        options = ["--quiet", "--no-deps", "--no-binary", "timm", "--dest", folder]
        wanted = f"timm=={timm.__version__}"
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, wanted], stderr=subprocess.PIPE, text=True
        )
        packed = next(iter(sorted(Path(folder).glob("timm-*.tar.gz"))), None)
        if done.returncode or packed is None:
            reason = (done.stderr.strip() or "pip gave no file").splitlines()[-1]
            raise UseError(
                f"{wanted}: its sources can't be downloaded ({reason}); get a copy of its repository "
                f"and name the folder: TIMM_SOURCE=FOLDER make test-timm"
            )
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        yield _with_tests(Path(folder) / packed.name.removesuffix(".tar.gz"))


def _with_tests(folder: Path) -> Path:
    if not (folder / _TESTS).is_file():
        raise UseError(
            f"{folder}: no {_TESTS} in it; name a checkout of timm's repository of version {timm.__version__}"
        )
    return folder


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", metavar="FOLDER", help="folder with timm's sources (default: download them)"
    )
    add_debug(parser)
    args, more = parser.parse_known_args(arguments)
    with errors_of_use(args.debug), sources(args.source or None) as folder:
        settings = ["-c", str(folder / "pyproject.toml"), "--rootdir", str(folder), "-p", "no:cacheprovider"]
        warnings = ["-W", "ignore::pytest.PytestUnknownMarkWarning"]
        return pytest.main([*settings, *warnings, str(folder / _TESTS), *more], plugins=[OurModels()])


if __name__ == "__main__":
    sys.exit(main())
