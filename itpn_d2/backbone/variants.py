"""Names and sizes of the trunks (paper: Fast-iTPN, table of variants; ``nano`` is ours)."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Variant:
    """Width and depth of the three stages, and heads of stage 3."""

    channels: tuple[int, int, int]
    depths: tuple[int, int, int]
    num_heads: int

    def kwargs(self) -> dict:
        return asdict(self)


VARIANTS: dict[str, Variant] = {
    # ours, not from the paper: for tests, CPUs and the quick start
    "fast_itpn_nano": Variant((48, 96, 192), (1, 1, 6), 3),
    "fast_itpn_tiny": Variant((96, 192, 384), (1, 1, 12), 6),
    "fast_itpn_small": Variant((96, 192, 384), (2, 2, 20), 6),
    "fast_itpn_base": Variant((128, 256, 512), (3, 3, 24), 8),
    "fast_itpn_large": Variant((192, 384, 768), (2, 2, 40), 12),
}


def get_variant(name: str) -> Variant:
    """Raises KeyError that lists the known names."""
    if name not in VARIANTS:
        raise KeyError(f"unknown variant {name!r}; known: {', '.join(VARIANTS)}")
    return VARIANTS[name]
