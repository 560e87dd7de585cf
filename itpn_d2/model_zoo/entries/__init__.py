"""The entries: data, a file for each family."""

from ..entry import Entry, Weights
from . import dino, fast_itpn, fastmim, heads, itpn, nano

ENTRIES: dict[str, Entry] = {
    entry.name: entry for family in (fast_itpn, itpn, heads, dino, fastmim, nano) for entry in family.ENTRIES
}
# of each variant what it is pre-trained by, where somebody has published that
PRETRAINED: dict[str, Weights] = {
    **{f"fast_itpn_{size}": w for f in (nano, fast_itpn) for size, w in f.PRETRAINED.items()},
    "itpn_base": itpn.PIXEL_BASE,
    "itpn_large": itpn.PIXEL_LARGE,
}
_FILES = [w for entry in ENTRIES.values() for w in (entry.weights, entry.start) if w is not None]
_FILES += [w for family in (fast_itpn, itpn, fastmim) for w in family.OTHER_WEIGHTS]
WEIGHTS: dict[str, Weights] = {name: w for w in _FILES for name in (w.file, *w.aliases)}
