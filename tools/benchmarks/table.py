"""Results of the benchmarks, and the lines of their tables."""

import operator
from dataclasses import dataclass
from typing import Any

# by name of the measure: value, low and high, with what they were made of; or the reason why there is none
Results = dict[str, dict[str, Any]]
SIGNS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, "=": operator.eq}
HEADER = ["| measure | value | range | target | met |", "|---|---|---|---|---|"]


@dataclass(frozen=True)
class Measure:
    """A line of the table; ``sign`` and ``limit`` are the target, if there is one."""

    text: str
    sign: str = ""
    limit: float = 0.0
    form: str = ".2f"

    def row(self, found: dict[str, Any]) -> str:
        """The line of the table for a result."""
        target = f"{self.sign} {self.limit:{self.form}}" if self.sign else ""
        if "reason" in found:
            return f"| {self.text} | not measured: {found['reason']} |  | {target} |  |"
        value, low, high = (f"{found[x]:{self.form}}" for x in ("value", "low", "high"))
        met = ("no", "yes")[SIGNS[self.sign](found["value"], self.limit)] if self.sign else ""
        spread = "" if low == high else f"{low} to {high}"
        return f"| {self.text} | {value} | {spread} | {target} | {met} |"


def single(value: float) -> dict[str, Any]:
    """A result without rounds."""
    return {"value": value, "low": value, "high": value}
