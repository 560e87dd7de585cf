"""What a campaign found, in tables."""

from collections import Counter
from typing import Any

from .feeding import FAULTS

_KILL_FAULTS = ("corrupted", "failed resumes", "different", "left over")


def faults(found: dict[str, Any]) -> int:
    """The number of all faults."""
    killed, signals = found.get("kills", Counter()), found.get("signals", Counter())
    fed = sum(counts[kind] for counts in found.get("inputs", {}).values() for kind in FAULTS)
    return sum(killed[kind] for kind in _KILL_FAULTS) + signals["signals"] - signals["saved"] + fed


def markdown(found: dict[str, Any]) -> str:
    """Tables of the parts that were run."""
    lines = [f"Seed {found['seed']}, torch {found['torch']}."]
    if "kills" in found:
        kills = found["kills"]
        head = "kills|while writing|chains|corrupted checkpoints|failed resumes|other weights|files left over"
        lines += ["", *_head(head)]
        keys = ("kills", "while writing", "chains", *_KILL_FAULTS)
        lines.append(f"| {' | '.join(str(kills[key]) for key in keys)} |")
    if "signals" in found:
        signals = found["signals"]
        lines += ["", f"Signals to a process group: {signals['saved']} of {signals['signals']} runs saved."]
    if "inputs" in found:
        kinds = ("accepted", "named", *FAULTS)
        head = "inputs|number|accepted|user error|traceback|crash|hang|code executed"
        lines += ["", *_head(head)]
        total: Counter[str] = Counter()
        for family, counts in sorted(found["inputs"].items()):
            total += counts
            lines.append(_row(family, counts, kinds))
        lines.append(_row("all", total, kinds))
    return "\n".join(lines)


def _row(name: str, counts: Counter[str], kinds: tuple[str, ...]) -> str:
    number = sum(n for kind, n in counts.items() if kind != "code")
    return f"| {name} | {number} | {' | '.join(str(counts[kind]) for kind in kinds)} |"


def _head(columns: str) -> list[str]:
    names = columns.split("|")
    return [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
