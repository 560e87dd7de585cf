"""The records of a training set that could not be read while it was trained on."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from ..files import write_text

logger = logging.getLogger(__name__)
_SHOWN = 10


class ReplacedRecords:
    """Each file that another record stood in for once, with the reason of its first failure."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, of whose samples ``instead_of`` is taken note of and taken away."""
        for batch in batches:
            if isinstance(batch, list):
                for sample in batch:
                    for name, reason in sample.pop("instead_of", ()):
                        self.reasons.setdefault(name, reason)
            yield batch

    def report(self, folder: Path) -> None:
        """Log them and write them to ``broken_images.txt``, of all processes; nothing where there are none.
        Every process has to call it."""
        everything: dict[str, str] = {}
        for reasons in comm.gather(self.reasons):
            everything.update(reasons)
        if not everything or not comm.is_main_process():
            return
        lines = [" ".join(f"{name}\t{reason}".split("\n")) for name, reason in sorted(everything.items())]
        write_text(folder / "broken_images.txt", "".join(f"{line}\n" for line in lines))
        logger.warning(
            "%d records could not be read, others were taken instead: %s%s (all in broken_images.txt)",
            len(lines),
            "; ".join(lines[:_SHOWN]),
            " ..." if len(lines) > _SHOWN else "",
        )
