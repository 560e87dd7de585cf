"""The images that could not be read, collected over a run."""

import logging
from collections.abc import Iterable
from pathlib import Path

from detectron2.utils import comm

from ..files import write_text

logger = logging.getLogger(__name__)
_SHOWN = 10


class BrokenImages:
    """The images that were replaced by others, with the reason for their first failure.

    Attributes:
        reasons: reason by file name.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, found: Iterable[tuple[str, str]]) -> None:
        """Record (file name, reason) of images that could not be read."""
        for name, reason in found:
            self.reasons.setdefault(name, reason)

    def lines(self) -> list[str]:
        """``name<tab>reason`` of every image; a name that is no UTF-8 has its bytes as escapes."""
        texts = (f"{name}\t{reason}" for name, reason in sorted(self.reasons.items()))
        return [" ".join(text.encode("utf-8", "backslashreplace").decode().splitlines()) for text in texts]

    def summary(self) -> str:
        """The number, and the first few."""
        lines = self.lines()
        rest = f"; ... and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        return (
            f"{len(lines)} images could not be read, others were taken instead: "
            f"{'; '.join(lines[:_SHOWN])}{rest}"
        )

    def report(self, folder: Path, resumed: bool = False) -> None:
        """Of all processes: log them, and write them to ``broken_images.txt``, with those that the run had
        found there before it was ``resumed``; nothing where there are none. Every process has to call it."""
        for reasons in comm.gather(self.reasons):
            self.reasons = {**reasons, **self.reasons}
        if self.reasons and comm.is_main_process():
            path = folder / "broken_images.txt"
            earlier = path.read_text("utf-8", "replace").splitlines() if resumed and path.is_file() else []
            lines = {line.partition("\t")[0]: line for line in [*self.lines(), *earlier]}
            write_text(path, "".join(f"{line}\n" for _, line in sorted(lines.items())))
            logger.warning("%s (all in broken_images.txt)", self.summary())
