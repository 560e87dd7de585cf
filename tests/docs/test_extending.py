"""docs/extending.md does what it says: its examples run, one after the other, as they stand."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"


def examples():
    """(heading, code) of each example, in order; the first has what all of them need."""
    parts = re.split(r"^## (.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    titled = [("preparation", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    return [
        (title, code)
        for title, text in titled
        for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ]


def test_there_is_an_example_of_each_kind():
    titles = [title for title, _ in examples()]
    kinds = ("backbone", "head", "dataset", "metric", "target", "method")
    assert len(titles) == len(kinds) + 1 and all(
        kind in title for kind, title in zip(kinds, titles[1:], strict=True)
    )


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    # as a module of its own: what a config names has to be importable
    code = "\n".join(code for _, code in examples())
    (tmp_path / "own_parts.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("own_parts")
    for name in ("backbone", "head", "dataset", "metric", "target", "method", "started"):
        assert (tmp_path / "output" / name / "model_final.pth").is_file(), name
