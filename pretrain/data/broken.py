"""The images that could not be read, collected over a run."""

from pathlib import Path
from typing import Any

from detectron2.utils import comm

from itpn_d2.data.paths import ImageSource
from itpn_d2.files import write_text


class BrokenImages:
    """Each broken image of ``source`` once, with the reason of its first failure, however often it is met."""

    def __init__(self, source: ImageSource):
        self.source = source
        self.reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, batch: dict[str, Any]) -> None:
        """Take note of a batch's ``broken``, a list of (index, reason)."""
        for index, reason in batch["broken"]:
            self.reasons.setdefault(int(index), reason)

    def gather(self) -> None:
        """Bring what all processes met to the first one; every process has to call it."""
        for reasons in comm.gather(self.reasons):
            self.reasons = {**reasons, **self.reasons}

    def _lines(self, limit: int | None = None) -> list[str]:
        # A name that is no UTF-8 is shown with its bytes as escapes instead of failing the report.
        lines = (
            f"{self.source.path(i)}\t{self.reasons[i]}".encode("utf-8", "backslashreplace").decode()
            for i in sorted(self.reasons)[:limit]
        )
        return [" ".join(line.splitlines()) for line in lines]

    def report(self, limit: int = 10) -> str:
        """A line with the count, then up to ``limit`` lines of path and reason."""
        if not self.reasons:
            return "no broken images"
        head = f"{len(self)} of {len(self.source)} images could not be read; others were taken instead"
        lines = [f"  {line}" for line in self._lines(limit)]
        rest = [f"  ... and {len(self) - limit} more"] if len(self) > limit else []
        return "\n".join([f"{head}:", *lines, *rest])

    def write(self, path: Path) -> None:
        """Write ``path<tab>reason`` of every broken image to a file, which appears whole or not at all."""
        write_text(Path(path), "".join(f"{line}\n" for line in self._lines()))
