"""``--import``: what a user registers before the config is read."""

import argparse
import sys

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from itpn_d2.engine import base_parser, run_command
from itpn_d2.engine.imports import import_all
from itpn_d2.errors import ConfigError

SETS = """
from detectron2.data.datasets import register_coco_instances
from names_of_sets import NAME

register_coco_instances(NAME, {}, "none.json", "none")
"""
TWICE = """
from detectron2.data import DatasetCatalog

for _ in range(2):
    DatasetCatalog.register("set_of_mine", list)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A program and what it imports; afterwards catalogs, modules and path are as before."""
    (tmp_path / "my_own_sets.py").write_text(SETS)
    (tmp_path / "names_of_sets.py").write_text("NAME = 'set_of_mine'\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules), set(DatasetCatalog.list())
    yield tmp_path
    for module in set(sys.modules) - before[0]:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]
    for name in set(DatasetCatalog.list()) - before[1]:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def test_a_file_with_its_neighbours_once(folder):
    import_all([str(folder / "my_own_sets.py")] * 2)
    assert "set_of_mine" in DatasetCatalog.list()


def test_a_module_of_the_working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    import_all(["my_own_sets"])
    assert "set_of_mine" in DatasetCatalog.list()


def test_before_the_config_is_read_and_in_each_process(folder):
    seen: list[bool] = []

    def main(arguments: argparse.Namespace) -> None:
        seen.append("set_of_mine" in DatasetCatalog.list())

    given = ["--config-file", "none.py", "--import", str(folder / "my_own_sets.py")]
    run_command(main, base_parser("").parse_args(given))
    assert seen == [True]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.py", None, "none.py: no such file"),
        ("no.such.module", None, "no such module; name a file"),
        ("fails.py", "x = 1\nprint(1 / 0)\n", r"it fails: ZeroDivisionError.*fails.py:2"),
        ("broken.py", "def\n", "it fails: SyntaxError"),
        ("json.py", "", "another module is also named json; rename"),
        ("again.py", TWICE, "AssertionError.*already registered"),
    ],
)
def test_what_is_wrong_is_said(folder, name, content, words):
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(ConfigError, match=f"(?s)--import .*{words}"):
        import_all([str(folder / name) if name.endswith(".py") else name])
