"""The entries: data, a file for each family."""

from ..entry import Entry, Weights
from . import dino, fast_itpn, fastmim, heads, itpn, nano

ENTRIES: dict[str, Entry] = {
    entry.name: entry for family in (fast_itpn, itpn, heads, dino, fastmim, nano) for entry in family.ENTRIES
}
_FILES = [w for entry in ENTRIES.values() for w in (entry.weights, entry.start) if w is not None]
_FILES += [w for family in (fast_itpn, itpn, fastmim) for w in family.OTHER_WEIGHTS]
WEIGHTS: dict[str, Weights] = {name: w for w in _FILES for name in (w.file, *w.aliases)}
