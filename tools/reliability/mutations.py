"""Changes to a json and to bytes, drawn from a seeded generator."""

import copy
import random
from collections.abc import Iterator
from typing import Any

BAD: tuple[Any, ...] = (
    *(None, "", "abc", [], {}, [[]], -1, 0, 0.5, 1e308, float("nan"), float("inf"), True, 2**70, 1e9, "1"),
    *(
        "x" * 5000,
        "${oc.env:HOME}",
        "${",
        "???",
        "\udcff",
        {"$oid": "5f"},
        ["a", 1, None],
        "../../../etc/passwd",
    ),
    "a\x00b",
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every node of a json or a config, that of the root left out."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def mutated(tree: Any, rng: random.Random) -> tuple[Any, str]:
    """A json with one node replaced, deleted or doubled, and the change in words."""
    tree = copy.deepcopy(tree)
    *parents, leaf = rng.choice(list(places(tree)))
    node = tree
    for key in parents:
        node = node[key]
    where = ".".join(map(str, (*parents, leaf)))
    what = rng.choice(("replaced", "replaced", "replaced", "deleted", "doubled"))
    if what == "deleted":
        del node[leaf]
        return tree, f"{where} deleted"
    if what == "doubled" and isinstance(node, list):
        node.append(copy.deepcopy(node[leaf]))
        return tree, f"{where} doubled"
    node[leaf] = copy.deepcopy(rng.choice(BAD))
    return tree, f"{where}={short(node[leaf])}"


def damaged(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Bytes that are cut, flipped, overwritten or extended, and the change in words."""
    what = rng.choice(("cut", "flipped", "zeros", "noise", "empty", "mark"))
    at = rng.randrange(max(1, len(data)))
    if what == "cut":
        return data[:at], f"cut at {at} of {len(data)}"
    if what == "empty":
        return b"", "empty"
    if what == "mark":
        return b"\xef\xbb\xbf" + data, "a byte order mark"
    span = min(len(data) - at, rng.choice((1, 1, 8, 100)))
    new = {
        "flipped": bytes(b ^ (1 << rng.randrange(8)) for b in data[at : at + span]),
        "zeros": bytes(span),
        "noise": rng.randbytes(span),
    }[what]
    return data[:at] + new + data[at + span :], f"{what} {span} bytes at {at}"


def short(value: Any) -> str:
    return ascii(value)[:40]
