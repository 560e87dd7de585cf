"""What became of every tensor of a checkpoint and of the model."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class LoadReport:
    """Names by what happened to them.

    ``loaded`` and ``resized`` (position tables; "name: from -> to") are in the model now; ``missing`` keep
    their initial values; ``unexpected`` and ``mismatched`` (wrong shape) were left in the file; ``ignored``
    belong to pre-training heads.
    """

    source: str = ""
    layout: str = ""
    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.source or 'state dict'} (layout {self.layout})"]
        for status in ("loaded", "resized", "missing", "unexpected", "mismatched", "ignored"):
            names = getattr(self, status)
            lines.append(f"{status:>11} {len(names):5d}")
            if status in ("resized", "mismatched"):
                lines += [f"{'':17} {n}" for n in names]
            elif names:
                groups = Counter(".".join(n.split(".")[: 2 if status == "loaded" else 3]) for n in names)
                shown = [f"{prefix} ({n})" if n > 1 else prefix for prefix, n in groups.items()]
                lines.append(f"{'':17} {', '.join(shown[:12])}{' ...' if len(shown) > 12 else ''}")
        return "\n".join(lines)
