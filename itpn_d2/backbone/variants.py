"""Names and sizes of the trunks (papers: Fast-iTPN and iTPN, tables of variants; ``nano`` is ours)."""

from dataclasses import dataclass
from typing import Any, Literal

from .fast_itpn import FastITPN
from .itpn import ITPN
from .pyramid import IntegralPyramid
from .trunk import Trunk

Family = Literal["fast_itpn", "itpn"]
_TRUNKS: dict[Family, type[Trunk]] = {"fast_itpn": FastITPN, "itpn": ITPN}
# v1: plain linear laterals, MLPs four times as wide, two blocks after each addition (its pixel pre-training)
_PYRAMIDS: dict[Family, dict[str, Any]] = {
    "fast_itpn": {},
    "itpn": {"mlp_ratio": 4.0, "lateral_bias": False, "split_bias": False, "fpn_depth": 2},
}


@dataclass(frozen=True)
class Variant:
    """Width and depth of the three stages, heads of stage 3, and which of the two trunks it is."""

    channels: tuple[int, int, int]
    depths: tuple[int, int, int]
    num_heads: int
    family: Family = "fast_itpn"

    @property
    def trunk_class(self) -> type[Trunk]:
        """The class of the family's trunk."""
        return _TRUNKS[self.family]

    def trunk(self, **options: Any) -> Trunk:
        """The trunk; ``options`` go to its constructor and may replace the sizes."""
        sizes = {"channels": self.channels, "depths": self.depths, "num_heads": self.num_heads}
        return self.trunk_class(**{**sizes, **options})

    def pyramid(self, **options: Any) -> IntegralPyramid:
        """The pyramid of the same family; ``options`` go to its constructor."""
        return IntegralPyramid(**{"channels": self.channels, **_PYRAMIDS[self.family], **options})


VARIANTS: dict[str, Variant] = {
    # ours, not from the paper: for tests, CPUs and the quick start
    "fast_itpn_nano": Variant((48, 96, 192), (1, 1, 6), 3),
    "fast_itpn_tiny": Variant((96, 192, 384), (1, 1, 12), 6),
    "fast_itpn_small": Variant((96, 192, 384), (2, 2, 20), 6),
    "fast_itpn_base": Variant((128, 256, 512), (3, 3, 24), 8),
    "fast_itpn_large": Variant((192, 384, 768), (2, 2, 40), 12),
    "itpn_nano": Variant((48, 96, 192), (1, 1, 6), 3, "itpn"),  # ours
    "itpn_base": Variant((128, 256, 512), (3, 3, 24), 8, "itpn"),
    "itpn_large": Variant((192, 384, 768), (2, 2, 40), 12, "itpn"),
}


def get_variant(name: str) -> Variant:
    """Raises KeyError that lists the known names."""
    if name not in VARIANTS:
        raise KeyError(f"unknown variant {name!r}; known: {', '.join(VARIANTS)}")
    return VARIANTS[name]
