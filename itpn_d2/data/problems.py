"""Problems that the checks of datasets find, and how they are handled."""

import codecs
import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DatasetError, printable
from . import recognise
from .collector import uncollected

logger = logging.getLogger(__name__)
_SHOWN = 20
_MARKS = (  # byte order marks; that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass
class Problem:
    """One bad record: what kind of problem, where, and why."""

    kind: str
    where: str
    why: str


@dataclass
class Notes:
    """Accepted deviations in records: the number of each kind, and the first example."""

    counts: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, str] = field(default_factory=dict)
    quiet: set[str] = field(default_factory=set)

    def add(self, what: str, where: str, quiet: bool = False) -> None:
        """``quiet``: nothing to worry about, told and no warning."""
        self.counts[what] += 1
        self.firsts.setdefault(what, where)
        if quiet:
            self.quiet.add(what)

    def log(self, place: str | Path) -> None:
        """Log a line for each kind, with its count and the first; it begins with ``place``."""
        for what, count in self.counts.items():
            level = logging.INFO if what in self.quiet else logging.WARNING
            first = printable(self.firsts[what])
            logger.log(level, "%s: %d x %s; the first: %s", place, count, what, first)


def summary(problems: Sequence[Problem]) -> str:
    """The number of each kind, and the first ones in full."""
    counts = Counter(p.kind for p in problems)
    lines = [f"  {n:6d}  {kind}" for kind, n in counts.most_common()]
    shown = [f"  {p.where}: {p.why}" for p in problems[:_SHOWN]]
    more = len(problems) - len(shown)
    return "\n".join([*lines, *shown, *([f"  ... and {more} more"] if more > 0 else [])])


def settle(
    place: str | Path, problems: Sequence[Problem], skip_bad_records: bool, hints: Sequence[str] = ()
) -> None:
    """Refuse a dataset with problems, or log them where bad records may be left out; ``hints``: what they may
    have in common.

    Raises:
        DatasetError: there are problems; the message names ``place`` and them.
    """
    if not problems:
        return
    said = "\n".join([summary(problems), *hints])
    if not skip_bad_records:
        raise DatasetError(
            f"{place}: {len(problems)} bad record(s)\n{said}\nCorrect them, or train without them: "
            "--skip-bad-records"
        )
    logger.warning("%s: %d bad record(s) left out\n%s", place, len(problems), printable(said))


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in what its byte order mark says.

    Raises:
        DatasetError: it is none.
    """
    try:
        content = path.read_bytes()
        text = content.decode(next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8"))
    except OSError as error:
        raise DatasetError(f"{path}: it can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not a text file in UTF-8 ({error}); save it as UTF-8") from error
    if any(unicodedata.category(c) == "Cc" for c in set(text) - set("\n\r\t\f")):
        raise DatasetError(f"{path}: not a text file, since it contains control characters")
    return text


def read_json(path: Path, keys: Sequence[str], kind: str, optional: Sequence[str] = ()) -> dict[str, Any]:
    """A json object with a filled list under each of ``keys``, and a list under those of ``optional`` that
    are there. Byte order marks are read.

    Raises:
        DatasetError: it is none; the message says what ``kind`` of json has.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    content = b""
    try:
        content = path.read_bytes()
        with uncollected():
            data = json.loads(content, object_pairs_hook=_without_repeats)
    except UnicodeDecodeError as error:
        remedy = recognise.text_file(content) or "; save it with that encoding"
        raise DatasetError(f"{path}: not a json file in UTF-8 ({error}){remedy}") from error
    except ValueError as error:
        raise DatasetError(f"{path}: not a json file ({error}){recognise.text_file(content)}") from error
    except RecursionError as error:
        raise DatasetError(f"{path}: not {kind}, but lists nested thousands of levels deep") from error
    except OSError as error:
        raise DatasetError(f"{path}: it can't be read ({error.strerror})") from error
    if not isinstance(data, dict):
        raise DatasetError(
            f"{path}: {kind} must be an object, but this is a "
            f"{type(data).__name__}{recognise.json_content(data)}"
        )
    for key in (*keys, *(k for k in optional if data.get(k) is not None)):
        if not isinstance(data.get(key), list):
            raise DatasetError(
                f"{path}: key {key!r} is missing or not a list; {kind} has "
                f"{', '.join(keys)}{recognise.json_content(data)}"
            )
        if not data[key] and key in keys:
            raise DatasetError(f"{path}: {key!r} is empty")
    return data


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key {twice!r} twice, so that one value would be lost")
    return found
