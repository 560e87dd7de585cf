"""Sections of documents that a command writes."""

import re


def rewrite_section(page: str, begin: str, end: str, text: str) -> str:
    """``page`` with ``text`` between the marks ``begin`` and ``end``.

    Raises:
        ValueError: the marks are not there once each.
    """
    if (page.count(begin), page.count(end)) != (1, 1):
        raise ValueError(f"give {begin} and {end} once each")
    return re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL)
