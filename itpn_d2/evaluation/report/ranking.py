"""The images on which an evaluation went best and worst."""

from typing import Any


class Ranking:
    """The best and the worst of what was added, in that order.

    Args:
        keep: images of either kind.

    Attributes:
        best, worst: (score, file name, what is needed to draw the image).
    """

    def __init__(self, keep: int):
        self.keep = keep
        self.best: list[tuple[float, str, Any]] = []
        self.worst: list[tuple[float, str, Any]] = []

    def add(self, score: float, file: str, drawn: Any) -> None:
        """Rank an image: the higher ``score`` the better, equal ones by file name."""
        item = (score, file, drawn)
        self.best = sorted([*self.best, item], key=lambda i: (-i[0], i[1]))[: self.keep]
        self.worst = sorted([*self.worst, item], key=lambda i: (i[0], i[1]))[: self.keep]

    def merge(self, other: "Ranking") -> None:
        """Take what another process has ranked."""
        for item in {i[1]: i for i in other.best + other.worst}.values():
            self.add(*item)
