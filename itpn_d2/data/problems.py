"""What the checks of datasets find, and what then happens."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DatasetError

logger = logging.getLogger(__name__)
_SHOWN = 20


@dataclass
class Problem:
    """One bad record: what kind of problem, where, and why."""

    kind: str
    where: str
    why: str


def summary(problems: Sequence[Problem]) -> str:
    """How many there are of each kind, and the first ones in full."""
    counts = Counter(p.kind for p in problems)
    lines = [f"  {n:6d}  {kind}" for kind, n in counts.most_common()]
    shown = [f"  {p.where}: {p.why}" for p in problems[:_SHOWN]]
    more = len(problems) - len(shown)
    return "\n".join([*lines, *shown, *([f"  ... and {more} more"] if more > 0 else [])])


def settle(place: str | Path, problems: Sequence[Problem], skip_bad_records: bool) -> None:
    """Refuse a dataset with problems, or log them where bad records may be left out.

    Raises:
        DatasetError: there are problems; the message names ``place`` and them.
    """
    if problems and not skip_bad_records:
        raise DatasetError(
            f"{place}: {len(problems)} bad record(s)\n{summary(problems)}\n"
            f"Mend them, or train without them: --skip-bad-records"
        )
    if problems:
        logger.warning("%s: %d bad record(s) left out\n%s", place, len(problems), summary(problems))


def read_json(path: Path, keys: Sequence[str], kind: str) -> dict[str, Any]:
    """A json object with a filled list under each of ``keys``.

    Raises:
        DatasetError: it is none; the message says what ``kind`` of json has.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not a json file ({error})") from error
    if not isinstance(data, dict):
        raise DatasetError(f"{path}: {kind} is an object, this is a {type(data).__name__}")
    for key in keys:
        if not isinstance(data.get(key), list):
            raise DatasetError(f"{path}: key {key!r} is missing or no list; {kind} has {', '.join(keys)}")
        if not data[key]:
            raise DatasetError(f"{path}: {key!r} is empty")
    return data
