"""Sections of documents that a command writes: one in a page, whatever stands around it."""

import pytest

from itpn_d2.errors import UseError
from pages import rewrite_section, with_section


def test_a_section_is_appended_and_then_replaced():
    page = with_section("# Title\n\nBefore.\n", "costs", "first \\1")
    assert page == "# Title\n\nBefore.\n\n<!-- costs: begin -->\nfirst \\1\n<!-- costs: end -->\n"
    page = with_section(page + "\nAfter.\n", "costs", "second\n")
    assert "Before." in page and page.endswith(
        "<!-- costs: begin -->\nsecond\n<!-- costs: end -->\n\nAfter.\n"
    )
    assert "first" not in page


@pytest.mark.parametrize(
    "page", ["<!-- a: begin -->", "<!-- a: end -->", "<!-- a: begin --><!-- a: end -->" * 2]
)
def test_marks_come_in_pairs(page, tmp_path):
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(UseError, match=r"page\.md: give .* once each, or neither"):
        rewrite_section(tmp_path / "page.md", "a", "text")
    assert (tmp_path / "page.md").read_text() == page


def test_a_missing_page_is_named(tmp_path):
    with pytest.raises(UseError, match=r"none\.md: no such document"):
        rewrite_section(tmp_path / "none.md", "a", "text")
