"""The names of the classes that weights were trained for, which travel with them."""

from collections.abc import Sequence
from typing import Any

from ..errors import CheckpointError

_SHOWN = 5


class Classes:
    """Names in the order of the model's outputs; None if they are unknown.

    Args:
        names: of objects, or of images or pixels of a classifier or segmentor.
        semantic_names: of the semantic head that stands beside objects.
    """

    KEY = "classes"  # of a checkpoint

    def __init__(self, names: Sequence[str] | None = None, semantic_names: Sequence[str] | None = None):
        given = {"names": names, "semantic_names": semantic_names}
        self.names: dict[str, list[str]] = {
            key: [str(v) for v in value] for key, value in given.items() if value
        }

    def entry(self) -> dict[str, Any]:
        """The entry in a checkpoint: empty if no names are known."""
        return {self.KEY: {key: list(value) for key, value in self.names.items()}} if self.names else {}

    @classmethod
    def of(cls, stored: Any) -> "Classes":
        """Those of a checkpoint; without names where it has none, or no such list."""
        found = {}
        for key in ("names", "semantic_names"):
            value = stored.get(key) if isinstance(stored, dict) else None
            if isinstance(value, list) and all(isinstance(name, str) for name in value):
                found[key] = value
        return cls(**found)

    def compare(self, stored: Any, path: str) -> None:
        """Compare with those of a checkpoint, as far as both are known.

        Raises:
            CheckpointError: they differ, so that the model's outputs have another meaning than its config or
                data say.
        """
        for key, theirs in self.of(stored).names.items():
            mine = self.names.get(key)
            if mine is None or mine == theirs:
                continue
            if len(mine) != len(theirs):
                how = (
                    f"it has {len(theirs)} ({_some(theirs)}), but the model here has {len(mine)} "
                    f"({_some(mine)})"
                )
            else:
                at = next(i for i, (a, b) in enumerate(zip(theirs, mine, strict=True)) if a != b)
                order = "their order differs" if sorted(mine) == sorted(theirs) else "their names differ"
                how = f"{order}: number {at} is {theirs[at]!r} in the file and {mine[at]!r} here"
            raise CheckpointError(
                f"{path}: trained with other classes than those of the data or config: {how}. Use the "
                "data that it was trained on, or give their categories the same names in the same order"
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
