"""Pages of the site that the code writes."""

import pytest

import site_pages
from key_meanings import MEANINGS


def test_keys_have_types_ranges_and_defaults():
    page = site_pages.config_page()
    assert "| `train.accumulate` | int, at least 1 | `1` |" in page
    assert "| `dataloader.train.total_batch_size` | int, at least 1 |  | number of images per step" in page
    assert page.index("`train.max_iter`") < page.index("`model.pixel_mean`")


def test_every_key_has_a_meaning():
    """Which is shown as it is written, also where it holds what looks like an element of the page."""
    rows = [line for line in site_pages.config_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 100 and not [row for row in rows if row.endswith("|  |")]
    assert any("earlier_&lt;n&gt;" in row for row in rows)


def test_every_meaning_is_used():
    page = site_pages.config_page()
    unused = [key for key in MEANINGS if f"{key}` |" not in page]
    assert not unused


def test_every_command_has_its_help():
    page = site_pages.commands_page()
    assert all(f"## {name}\n\n```text\nusage: " in page for name in site_pages.COMMANDS)
    assert "usage: itpn-train" in page and "usage: itpn-export" in page


class _Page:
    def __init__(self, source):
        self.file = self
        self.src_uri = source


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("index.md", "[zoo](../MODEL_ZOO.md)", "[zoo](model_zoo.md)"),
        ("roadmap.md", "[d](docs/debugging.md#traps)", "[d](debugging.md#traps)"),
        ("model_zoo.md", "[Custom/x](configs/Custom/x.py)", "`Custom/x`"),
        ("roadmap.md", "[c](configs/Custom/x.py)", "c (`configs/Custom/x.py`)"),
        ("index.md", "[n](tutorials/coco_to_report.ipynb)", "[n](tutorials/coco_to_report.md)"),
        ("tutorial.md", "[install.md](install.md#docker)", "[Installing](install.md#docker)"),
        ("model_zoo.md", "[docs/install.md](docs/install.md)", "[Installing](install.md)"),
        ("heads.md", "[a](https://example.org/a.md)", "[a](https://example.org/a.md)"),
        ("heads.md", "[a](#b)", "[a](#b)"),
    ],
)
def test_links(source, link, expected):
    assert site_pages.on_page_markdown(link, page=_Page(source)) == expected
