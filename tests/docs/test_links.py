"""Links between the repository's pages lead to files and headings that exist; terms are standard."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "README.md"])
GENERATED = {"docs/reference/commands.md", "docs/reference/config_keys.md", "docs/reference/api.md"}


def headings(path):
    """Anchors of a page, as GitHub and the site make them."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if path.relative_to(ROOT).as_posix() in GENERATED:
            continue
        assert path.is_file() or path.is_dir(), f"{page.name}: {target}"
        if anchor and path.suffix == ".md":
            assert anchor in headings(path), f"{page.name}: {target}"


def test_own_files_are_linked_by_their_path():
    """An address of the repository would lead to one state of it, or nowhere."""
    for page in PAGES:
        assert "github.com/itpn-d2" not in page.read_text(encoding="utf-8"), page


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_training_from_scratch_is_called_so():
    for page in [*PAGES, ROOT / "Makefile"]:
        found = re.search(r"\bfrom nothing\b|\bbeats? nothing\b", page.read_text(encoding="utf-8"))
        assert found is None, f"{page}: {found}"
