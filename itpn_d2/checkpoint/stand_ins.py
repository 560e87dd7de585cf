"""What may stand in a checkpoint beside tensors and plain containers, and what is read in its place.

The restricted unpickler of torch builds the objects of a list of names and refuses all others. The names here
are those that public training code leaves in its files. None of them gets the class that it names: numpy's
constructors, for one, take any bytes for an array of pointers. They get data-only stand-ins.
"""

import argparse
import collections
import struct
from typing import Any

_FORMATS = {"f2": "e", "f4": "f", "f8": "d", "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q"}
_FORMATS |= {f"u{n}": _FORMATS[f"i{n}"].upper() for n in (1, 2, 4, 8)}


class Unread:
    """An object that has no use here: its contents are dropped."""

    def __new__(cls, *args: Any) -> "Unread":
        return super().__new__(cls)

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __repr__(self) -> str:
        return "<not read>"


class NumberType:
    """numpy.dtype of a scalar, by its code and byte order."""

    def __init__(self, code: str, *flags: Any):
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if isinstance(state, tuple) and len(state) > 1 and state[1] == ">" else "<"


def number(kind: Any, raw: Any = None) -> Any:
    """A numpy scalar as a plain number; anything but a number is dropped."""
    code = _FORMATS.get(kind.code) if isinstance(kind, NumberType) else None
    if code is None or not isinstance(raw, bytes) or len(raw) != struct.calcsize(code):
        return Unread()
    return struct.unpack(kind.order + code, raw)[0]


def path(*parts: Any) -> str:
    return "/".join(str(p) for p in parts)


class Settings:
    """A config node, which is a dict with methods: read as a dict."""

    def __new__(cls, *args: Any) -> Any:
        return collections.OrderedDict()


class OmegaNode:
    """A node of an OmegaConf config, which older runs left in the state of their optimizer.

    Its plain value is in :attr:`value` after reading; :func:`without_nodes` puts that in its place.
    """

    value: Any = None

    def __new__(cls, *args: Any) -> "OmegaNode":
        return super().__new__(cls)

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        self.value = state.get("_content", state.get("_val")) if isinstance(state, dict) else None


def without_nodes(content: Any, known: dict[int, Any] | None = None) -> Any:
    """The content with the values of :class:`OmegaNode` in their place. What occurs twice is converted once,
    so that a file of lists within lists takes no more time than it has parts."""
    known = {} if known is None else known
    if id(content) in known:
        return known[id(content)]
    if isinstance(content, OmegaNode):
        known[id(content)] = found = without_nodes(content.value, known)
        return found
    if type(content) is tuple:
        known[id(content)] = parts = tuple(without_nodes(item, known) for item in content)
        return parts
    if type(content) not in (dict, collections.OrderedDict, list):
        return content
    known[id(content)] = new = type(content)()  # before its items, of which one may be itself
    if isinstance(new, list):
        new.extend(without_nodes(item, known) for item in content)
    else:
        new.update((key, without_nodes(item, known)) for key, item in content.items())
    return new


_BY_NAME: dict[str, Any] = {
    "numpy.dtype": NumberType,
    "numpy.ndarray": Unread,
    "yacs.config.CfgNode": Settings,
    "fvcore.common.config.CfgNode": Settings,
    "detectron2.config.config.CfgNode": Settings,
    "omegaconf.listconfig.ListConfig": OmegaNode,
    "omegaconf.dictconfig.DictConfig": OmegaNode,
    # types that those nodes name as those of their contents
    **{f"builtins.{kind}": Unread for kind in ("dict", "list", "int", "str", "float")},
    **{f"__builtin__.{kind}": Unread for kind in ("dict", "list", "long", "int", "str", "unicode", "float")},
    "typing.Any": Unread,
    "omegaconf.base.ContainerMetadata": Unread,
    "omegaconf.base.Metadata": Unread,
    **{f"omegaconf.nodes.{kind}Node": OmegaNode for kind in ("Any", "Integer", "Float", "String", "Boolean")},
    "mmengine.logging.history_buffer.HistoryBuffer": Unread,
    "deepspeed.runtime.fp16.loss_scaler.LossScaler": Unread,
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler": Unread,
    "deepspeed.runtime.fp16.loss_scaler.LossScaleConfig": Unread,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before and since numpy 2
    _BY_NAME |= {f"{_module}.scalar": number, f"{_module}._reconstruct": Unread}
for _module in ("pathlib", "pathlib._local"):  # before and in Python 3.13
    _BY_NAME |= {
        f"{_module}.{n}Path": path for n in ("", "Pure", "PurePosix", "PureWindows", "Posix", "Windows")
    }


def allowed() -> list[Any]:
    """For ``torch.serialization.safe_globals``: classes, and stand-ins with the name that they answer to."""
    return [
        argparse.Namespace,
        collections.defaultdict,
        Unread,
        NumberType,
        OmegaNode,
        *((stand_in, name) for name, stand_in in _BY_NAME.items()),
    ]
