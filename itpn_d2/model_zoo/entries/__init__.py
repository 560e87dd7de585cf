"""The entries: data, a file for each family."""

from ..entry import Entry, Weights
from . import dino, fast_itpn, fastmim, heads, itpn, nano

ENTRIES: dict[str, Entry] = {
    entry.name: entry for family in (fast_itpn, itpn, heads, dino, fastmim, nano) for entry in family.ENTRIES
}
WEIGHTS: dict[str, Weights] = {
    name: weights
    for entry in ENTRIES.values()
    for weights in (entry.weights, entry.start)
    if weights is not None
    for name in (weights.file, *weights.aliases)
}
