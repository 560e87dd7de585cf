"""The report of what was done with every tensor of a checkpoint and of the model."""

import re
from collections import Counter
from dataclasses import dataclass, field

_MANY = 4  # names with the same words
STATUSES = ("loaded", "adapted", "missing", "unexpected", "mismatched", "ignored")


@dataclass
class LoadReport:
    """Names by the result of loading.

    ``loaded`` and ``adapted`` ("name: what was done") are in the model now; ``missing`` keep their initial
    values; ``unexpected`` and ``mismatched`` (wrong shape) were left in the file; ``ignored`` belong to
    pre-training heads or follow from the others.

    Attributes:
        source: file, empty for a state dict.
        layout: whose names the file has.
        contents: the model it holds, and how it is stored.
        hints: what to change so that more of the file is used.
    """

    source: str = ""
    layout: str = ""
    contents: str = ""
    loaded: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.source or 'state dict'} (layout {self.layout})"]
        lines += [f"{'holds':>11} {self.contents}"] * bool(self.contents)
        for status in STATUSES:
            names = getattr(self, status)
            lines.append(f"{status:>11} {len(names):5d}")
            if status in ("adapted", "mismatched"):
                lines += [f"{'':17} {row}" for row in group_blocks(names)]
            elif names:
                lines.append(f"{'':17} {summary(names, 2 if status == 'loaded' else 3)}")
        return "\n".join(lines + [f"{'hint':>11} {hint}" for hint in self.hints])


def summary(names: list[str], parts: int) -> str:
    """Names by their first ``parts``, with the number of each."""
    groups = Counter(".".join(n.split(".")[:parts]) for n in names)
    shown = [f"{prefix} ({n})" if n > 1 else prefix for prefix, n in groups.items()]
    return f"{', '.join(shown[:12])}{' ...' if len(shown) > 12 else ''}"


def group_blocks(rows: list[str]) -> list[str]:
    """Rows ``name: words`` that differ by a block number only, as one with their number; so those with the
    same words, where they are many."""
    groups = Counter(re.sub(r"\.\d+\.", ".*.", row) for row in rows)
    alike = Counter(map(_part_and_words, groups))
    shown: dict[str, int] = {}
    for row, count in groups.items():
        name = _part_and_words(row) if alike[_part_and_words(row)] >= _MANY else row
        shown[name] = shown.get(name, 0) + count
    return [f"{row} ({n} times)" if n > 1 else row for row, n in shown.items()]


def _part_and_words(row: str) -> str:
    name, _, words = row.partition(": ")
    return f"{name.split('.')[0]}.*: {words}"
