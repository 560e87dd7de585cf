"""``config.json`` beside published weights: data that describes their model, and safe reading of such a file
from others.

Nothing in it names code. A backbone is described by arguments of :func:`itpn_d2.create_model`, a detector by
a config of this project, by values that differ from it, and by its classes. Both are limited to numbers,
words and lists of them. What is described is built without memory first, and compared with the shapes in the
file of weights, before a model of it is made.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from ..backbone import create_model, get_variant
from ..errors import ZooError
from ..files import write_json
from ..lazy.options import options_of
from ..lazy.types import describe, fits

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LIBRARY, FORMAT = "itpn_d2", 1
Kind = Literal["trunk", "backbone", "classifier", "detector"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_LONGEST = 4 << 20  # bytes of a config.json: thousands of names of classes
_LARGEST = {"depths": 512, "fpn_depth": 64, "pos_grid": 4096, "rel_pos_grid": 4096, "num_classes": 1 << 20}
_NUMBER = 1 << 16  # any other
_ITEMS = 4096
WORD = re.compile(r"[\w.+ -]{0,100}", re.ASCII)


@dataclass
class Description:
    """The content of a ``config.json``.

    Attributes:
        kind: one of :data:`KINDS`.
        arguments: of ``create_model``; {} of a detector.
        config: the name of a config of this project; '' unless the model is a detector.
        overrides: values by their full keys in it.
        dataset: facts about the data: numbers and names of classes.
        source: what errors call it.
    """

    kind: Kind
    arguments: dict[str, Any] = field(default_factory=dict)
    config: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    source: str = ""

    def write(self, folder: Path) -> None:
        """Write ``config.json`` into ``folder``."""
        beside = {"config": self.config, "overrides": self.overrides, "dataset": self.dataset}
        said = beside if self.kind == "detector" else {"arguments": self.arguments}
        write_json(folder / CONFIG, {"library": LIBRARY, "format": FORMAT, "kind": self.kind, **said})


def read_description(path: Path, name: str) -> Description:
    """What a ``config.json`` says, checked.

    Args:
        name: what errors call it.

    Raises:
        ZooError: it is none of this project, holds what none has, or values that are no plain data.
    """
    content = _json(path, name)
    if content.get("library") != LIBRARY:
        raise ZooError(
            f"{name}: its library is {_short(content.get('library'))}, not {LIBRARY}: "
            "load it with that library"
        )
    if content.get("format") != FORMAT or content.get("kind") not in KINDS:
        raise ZooError(
            f"{name}: format {_short(content.get('format'))} of {_short(content.get('kind'))}; this "
            f"version of itpn_d2 reads format {FORMAT} of {', '.join(KINDS)}: install the version of "
            "itpn_d2 that wrote it"
        )
    kind: Kind = content["kind"]
    parts = {"config": str, "overrides": dict, "dataset": dict} if kind == "detector" else {"arguments": dict}
    unknown = content.keys() - {"library", "format", "kind", *parts}
    if unknown:
        raise ZooError(f"{name}: unknown key {_short(min(unknown))}; a {kind} has {', '.join(parts)}")
    for key, kind_of in parts.items():
        if not isinstance(content.get(key), kind_of):
            words = "a text" if kind_of is str else "a mapping"
            raise ZooError(f"{name}: {key} is {_short(content.get(key))}, not {words}")
    found = Description(kind, **{key: content[key] for key in parts}, source=name)
    if kind != "detector":
        _check_arguments(found)
    return found


def _json(path: Path, name: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number")

    try:
        size = path.stat().st_size
        if size > _LONGEST:
            raise ZooError(f"{name}: it has {size} bytes, but a description has at most {_LONGEST}")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ZooError):
            raise
        raise ZooError(f"{name}: can't be read as json ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(content, dict):
        raise ZooError(f"{name}: holds {_short(content)}, not a mapping")
    return content


def check_plain(value: Any, key: str, name: str, word: re.Pattern[str] = WORD) -> None:
    """Refuse what is no number within limits, no word, and no list of them.

    Raises:
        ZooError: the message names the file and the key.
    """
    leaf = key.rsplit(".", 1)[-1]
    if isinstance(value, Mapping):
        if len(value) > _ITEMS or not all(isinstance(k, str) and WORD.fullmatch(k) for k in value):
            raise ZooError(f"{name}: {key} has keys that are not words")
        for inner, item in value.items():
            check_plain(item, f"{key}.{inner}", name, word)
    elif isinstance(value, list | tuple):
        if len(value) > (_ITEMS if word is WORD else 1 << 17):
            raise ZooError(f"{name}: {key} is a list of {len(value)}, which is too long for any model")
        for item in value:
            check_plain(item, key, name, word)
    elif isinstance(value, str):
        if not word.fullmatch(value):
            raise ZooError(f"{name}: {key}={_short(value)} is not a plain word")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        most = _LARGEST.get(leaf, _NUMBER)
        if not math.isfinite(value) or abs(value) > most:
            raise ZooError(f"{name}: {key}={_short(value)} is beyond what any model has ({most})")
    elif value is not None and not isinstance(value, bool):
        raise ZooError(f"{name}: {key} is a {type(value).__name__}, which is not plain data")


def _check_arguments(found: Description) -> None:
    """Raises:
    ZooError: an argument that ``create_model`` lacks, or of another type.
    """
    given, name = found.arguments, found.source
    variant = given.get("name")
    try:
        get_variant(variant if isinstance(variant, str) else "")
    except KeyError as error:
        raise ZooError(f"{name}: arguments.name={_short(variant)}: {error.args[0][:300]}") from error
    known = options_of(create_model, {k: v for k, v in given.items() if v is not None}).named
    for key, value in given.items():
        if key not in known:
            raise ZooError(f"{name}: arguments has no {_short(key)}; a {found.kind} has {', '.join(known)}")
        check_plain(value, f"arguments.{key}", name)
        if not fits(value, known[key].annotation):
            wanted = describe(known[key].annotation)
            raise ZooError(f"{name}: arguments.{key}={_short(value)} has a wrong type: it must be {wanted}")
    if given.get("pyramid", False) is not (found.kind == "backbone") or (
        (given.get("num_classes") is not None) is not (found.kind == "classifier")
    ):
        raise ZooError(f"{name}: its arguments are not those of a {found.kind}")


def built(found: Description, **overrides: Any) -> nn.Module:
    """The model of a description that is not of a detector.

    Raises:
        ZooError: its arguments don't go together.
    """
    given = {**found.arguments, **overrides}
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
    with refused(f"{found.source}: no such {found.kind} can be built"):
        return create_model(**given)


@contextmanager
def refused(words: str) -> Iterator[None]:
    """Within it, whatever a constructor raises about its arguments becomes a ZooError."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:  # arguments of a wrong kind fail anywhere
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ZooError(f"{words} ({reason})") from error


def compare_shapes(make: Callable[[], nn.Module], weights: Path, name: str, start: str = "") -> None:
    """Build without memory, and compare with the names and shapes of a file of weights.

    Args:
        start: of the names in the file.

    Raises:
        ZooError: they differ.
    """
    from safetensors import SafetensorError, safe_open

    with torch.device("meta"):
        own = {start + key: tuple(value.shape) for key, value in make().state_dict().items()}
    try:
        with safe_open(str(weights), "pt") as file:
            theirs = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{weights}: not a complete .safetensors file ({str(error)[:200]})") from error
    wrong = sorted(key for key in own.keys() | theirs.keys() if own.get(key) != theirs.get(key))
    if wrong:
        key = wrong[0]
        raise ZooError(
            f"{name}: describes another model than the one in {WEIGHTS}: {len(wrong)} tensors differ, "
            f"{key} is {theirs.get(key, 'missing')} in the file, {own.get(key, 'none')} in the model"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}..."
