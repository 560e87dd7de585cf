"""The settings of token migration and token gathering that a calibration tries."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

KEEP = ("0.9", "0.8", "0.7", "0.6", "0.5")
DEPTHS = ("0.25,0.5,0.75", "0.5,0.75", "0.5")
TOKENS = (4,)
_WINDOWS = (4, 7, 14, 16, 28, 32)


@dataclass(frozen=True)
class Acceleration:
    """Token migration, token gathering, both, or neither.

    Attributes:
        keep, at: as of :class:`~itpn_d2.backbone.TokenMigration`, one ratio a drop; empty for no migration.
        window, tokens: as of :class:`~itpn_d2.backbone.TokenGathering`; window 0 for no gathering.
    """

    keep: tuple[float, ...] = ()
    at: tuple[float, ...] = ()
    window: int = 0
    tokens: int = 0

    @property
    def name(self) -> str:
        """Tells every setting from every other."""
        parts = []
        if self.keep:
            parts.append(f"keep {_joined(self.keep)} at {_joined(self.at)}")
        if self.window:
            parts.append(f"window {self.window}, {self.tokens} tokens")
        return " + ".join(parts) or "dense"

    @property
    def kind(self) -> str:
        if self.keep and self.window:
            return "both"
        return "migration" if self.keep else "gathering" if self.window else "dense"

    def migration(self) -> dict[str, Any] | None:
        """What the setting says of token migration, or None."""
        return {"keep": list(self.keep), "at": list(self.at)} if self.keep else None

    def gathering(self) -> dict[str, Any] | None:
        """What the setting says of token gathering, or None."""
        return {"window": self.window, "tokens": self.tokens} if self.window else None


DENSE = Acceleration()


@dataclass
class Grid:
    """The settings to try, and why others are not."""

    settings: list[Acceleration]
    skipped: dict[str, str]

    def of(self, kind: str) -> list[Acceleration]:
        return [s for s in self.settings if s.kind == kind]


def default_windows(grid: tuple[int, int]) -> list[int]:
    """Those of 4 to 32 tokens that cut a map of so many rows and columns of tokens into 2 to 6 parts a
    side."""
    side = max(grid)
    return [w for w in _WINDOWS if w < side <= 6 * w]


def numbers(text: str) -> tuple[float, ...]:
    """``0.9,0.8`` as numbers.

    Raises:
        ValueError: as ``float``.
    """
    return tuple(float(part) for part in text.split(","))


def build_grid(
    depth: int,
    grid: tuple[int, int],
    keep: Sequence[tuple[float, ...]],
    at: Sequence[tuple[float, ...]],
    windows: Sequence[int],
    tokens: Sequence[int],
) -> Grid:
    """Migration alone and gathering alone; :func:`combine` makes both of them.

    Args:
        depth: blocks of stage 3.
        grid: rows and columns of tokens of the largest image.
        keep: ratios to try, one for all drops or one for each.
        at: places to try, as shares of the depth.
    """
    found = Grid([], {})
    drops: dict[tuple[Any, ...], str] = {}
    for places in at:
        for ratios in keep:
            each = ratios * len(places) if len(ratios) == 1 else ratios
            setting = Acceleration(each, places)
            blocks = tuple(int(share * depth) for share in places)
            if reason := _no_migration(setting, depth, blocks):
                found.skipped[setting.name] = reason
            elif twin := drops.get((each, blocks)):
                found.skipped[setting.name] = f"drops before the same blocks as {twin}"
            else:
                drops[each, blocks] = setting.name
                found.settings.append(setting)
    for window in windows:
        for count in tokens:
            setting = Acceleration(window=window, tokens=count)
            if window >= max(grid):
                found.skipped[setting.name] = f"a window covers the map of {grid[0]}x{grid[1]} tokens"
            else:
                found.settings.append(setting)
    return found


def _no_migration(setting: Acceleration, depth: int, blocks: tuple[int, ...]) -> str | None:
    """Why a setting of migration is not worth a trial."""
    if len(setting.keep) != len(setting.at):
        return f"{len(setting.keep)} keep ratios for {len(setting.at)} drops: give one, or one for each"
    if min(setting.keep) == 1:
        return "keeps every token: that is dense"
    if len(set(blocks)) < len(blocks):
        return f"two drops before one block of {depth}: choose fewer, or places further apart"
    return None


def combine(migration: Sequence[Acceleration], gathering: Sequence[Acceleration]) -> Iterator[Acceleration]:
    """Each of the one with each of the other."""
    for first in migration:
        for second in gathering:
            yield Acceleration(first.keep, first.at, second.window, second.tokens)


def _joined(values: Sequence[float]) -> str:
    return "/".join(f"{v:g}" for v in values)
