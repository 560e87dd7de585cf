"""Sections of documents that a command writes."""

import re
from pathlib import Path

from itpn_d2.errors import UseError
from itpn_d2.files import write_text


def with_section(page: str, name: str, text: str) -> str:
    """``page`` with ``text`` between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``; without these marks
    the section is appended.

    Raises:
        UseError: one mark is missing, or one is there twice.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    marks = page.count(begin), page.count(end)
    if marks not in ((0, 0), (1, 1)):
        raise UseError(f"give {begin} and {end} once each, or neither")
    section = f"{begin}\n{text.rstrip()}\n{end}"
    if marks == (0, 0):
        return f"{page.rstrip()}\n\n{section}\n"
    return re.sub(f"{begin}.*{end}", lambda _: section, page, flags=re.DOTALL)


def rewrite_section(page: Path, name: str, text: str) -> None:
    """Write one section of a document anew; see :func:`with_section`.

    Raises:
        UseError: there is no such document, or its marks are not in pairs.
    """
    if not page.is_file():
        raise UseError(f"{page}: no such document, into which the section {name!r} is to be written")
    try:
        changed = with_section(page.read_text(encoding="utf-8"), name, text)
    except UseError as error:
        raise UseError(f"{page}: {error}") from error
    write_text(page, changed)
