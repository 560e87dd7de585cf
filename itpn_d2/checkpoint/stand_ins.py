"""Objects that may occur in a checkpoint beside tensors and plain containers, and the replacements that are
read instead.

The names here are those that training code leaves in its files. None of them gets the class or function that
it names: numpy's constructors, for one, take any bytes for an array of pointers. They get what is below,
which takes data and gives data.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

_FORMATS = {"f2": "e", "f4": "f", "f8": "d", "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q"}
_FORMATS |= {f"u{n}": _FORMATS[f"i{n}"].upper() for n in (1, 2, 4, 8)}
_TENSORS = {"f2", "f4", "f8", "b1", "i1", "i2", "i4", "i8", "u1"}  # numbers that torch has as well
_DIMENSIONS = 16
_PATH = 4096  # characters


class Unread:
    """An object that has no use here: its contents are dropped."""

    def __init__(self, *args: Any):
        pass

    def __repr__(self) -> str:
        return "<not read>"


@dataclass(frozen=True)
class NoWeights:
    """A tensor that is not one of dense numbers.

    Attributes:
        reason: what it is instead.
    """

    reason: str


class Node:
    """A value with a state that is read after it is made: its plain contents are its :attr:`value`."""

    value: Any = None

    def __init__(self, *args: Any):
        pass

    def set_state(self, state: Any) -> None:
        """Take the state that the pickle has for this object; each subclass has its own."""
        raise NotImplementedError


class NumberType(Node):
    """numpy.dtype, by its code and byte order."""

    def __init__(self, code: Any = "", *flags: Any):
        self.code, self.order, self.value = code, "<", Unread()

    def set_state(self, state: Any) -> None:
        """Take the byte order from numpy's state; little-endian where it names no other."""
        self.order = ">" if isinstance(state, tuple) and len(state) > 1 and state[1] == ">" else "<"


class OmegaNode(Node):
    """A node of an OmegaConf config, which older runs left in the state of their optimizer."""

    def set_state(self, state: Any) -> None:
        """Take the content of a container, or the value of a leaf; None where there is neither."""
        self.value = state.get("_content", state.get("_val")) if isinstance(state, dict) else None


class Array:
    """A numpy array, of which :attr:`value` is a tensor; of anything but numbers it is not read."""

    def __init__(self, *args: Any):
        self.value: Any = Unread()

    def set_state(self, state: Any) -> None:
        """Make the tensor of numpy's (version, shape, type, Fortran order, bytes); skip any other state."""
        if isinstance(state, tuple) and len(state) == 5:
            _, shape, kind, fortran, raw = state
            # Python 2 wrote bytes as text
            raw = raw.encode("latin-1") if isinstance(raw, str) else raw
            self.value = _numbers(raw, kind, shape, bool(fortran))


def _numbers(raw: Any, kind: Any, shape: Any, fortran: bool) -> Any:
    if (
        not isinstance(kind, NumberType)
        or kind.code not in _TENSORS
        or not isinstance(raw, bytes | bytearray)
    ):
        return Unread()
    shape = _sizes(shape)
    flat = np.frombuffer(raw, np.dtype(kind.order + kind.code))
    if flat.size != _product(shape):
        raise ValueError(f"{flat.size} numbers for the shape {shape}")
    array = flat.astype(np.dtype(kind.code), copy=True).reshape(shape, order="F" if fortran else "C")
    return torch.from_numpy(np.ascontiguousarray(array).reshape(shape))


def _frombuffer(raw: Any, kind: Any, shape: Any, order: Any = "C") -> Array:
    """What numpy writes in protocol 5."""
    array = Array()
    array.value = _numbers(raw, kind, shape, order == "F")
    return array


def _number(kind: Any, raw: Any = None) -> Any:
    """A numpy scalar as a plain number; anything but a number is dropped."""
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    code = _FORMATS.get(kind.code) if isinstance(kind, NumberType) else None
    if code is None or not isinstance(raw, bytes) or len(raw) != struct.calcsize(code):
        return Unread()
    return struct.unpack(kind.order + code, raw)[0]


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """Bytes, as protocol 2 writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("no bytes")
    return text.encode("latin-1")


def _bytes(content: Any = b"", *encoding: Any) -> bytes:
    """bytes and bytearray, which are given as text before protocol 3."""
    return content if isinstance(content, bytes) else _encoded(content, *encoding)


def _path(*parts: Any) -> Any:
    if not all(isinstance(part, str) for part in parts) or sum(map(len, parts)) > _PATH:
        return Unread()
    return "/".join(parts)


def _pairs(items: Any = ()) -> OrderedDict:
    """collections.OrderedDict, as Python 2 wrote it with its items, and a Counter."""
    found: OrderedDict = OrderedDict()
    pairs = items.items() if isinstance(items, dict) else items if isinstance(items, list) else ()
    for key, value in pairs:
        if not isinstance(key, str | int | float):
            raise ValueError("it has a key that is neither a text nor a number")
        found[key] = value
    return found


def _dict(*_: Any) -> dict:
    """A dict with methods of its own, such as a config node or a defaultdict; its items follow."""
    return {}


def _listed(items: Any = ()) -> list:
    """A set, which nothing here needs as such."""
    return list(items) if isinstance(items, list | tuple) else []


def _tuple(items: Any = ()) -> tuple:
    return tuple(items) if isinstance(items, list | tuple) else ()


@dataclass
class Storage:
    """The numbers that tensors are views of.

    Attributes:
        numbers: all of them, one-dimensional; None of those that are no plain numbers.
        kind: what they are.
    """

    numbers: Tensor | None
    kind: str = field(default="")


def _sizes(value: Any) -> tuple[int, ...]:
    whole = isinstance(value, tuple | list) and len(value) <= _DIMENSIONS
    if not whole or not all(type(v) is int and 0 <= v < 1 << 62 for v in value):
        raise ValueError("its shape is not a list of sizes")
    return tuple(value)


def _product(sizes: tuple[int, ...]) -> int:
    count = 1
    for size in sizes:
        count *= size
    if count >= 1 << 62:
        raise ValueError(f"the shape {sizes} is too large")
    return count


def _tensor(storage: Any, offset: Any = 0, size: Any = (), stride: Any = (), *_: Any) -> Any:
    if not isinstance(storage, Storage):
        raise ValueError("it has a tensor without a storage")
    if storage.numbers is None:
        return NoWeights(f"is {storage.kind}: save it as a dense tensor of real numbers")
    size, stride, (offset,) = _sizes(size), _sizes(stride), _sizes((offset,))
    if len(size) != len(stride):
        raise ValueError(f"the shape {size} does not go with the strides {stride}")
    if _product(size):
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= len(storage.numbers):
            raise ValueError(f"it reaches to number {last} of a storage of {len(storage.numbers)}")
        return storage.numbers.as_strided(size, stride, offset)
    return storage.numbers.new_empty(size)


def _typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, kind: Any, *_: Any
) -> Any:
    """A tensor over an untyped storage, of the types that have no class of storages."""
    numbers = storage.numbers if isinstance(storage, Storage) else None
    dtype = getattr(torch, str(getattr(kind, "name", "")).removeprefix("torch."), None)
    if numbers is None or not isinstance(dtype, torch.dtype) or len(numbers) % dtype.itemsize:
        raise ValueError("it has a tensor without numbers")
    return _tensor(Storage(numbers.view(dtype)), offset, size, stride)


def _parameter(data: Any = None, *_: Any) -> Any:
    return data


def _without_data(*_: Any) -> NoWeights:
    return NoWeights("has a shape but no data: it was saved from the meta device")


def _kind(words: str) -> Callable[..., NoWeights]:
    return lambda *_: NoWeights(f"is {words}: save it as a dense tensor of real numbers")


# storages by the name of their class; those of None hold no plain numbers
STORAGES: dict[str, torch.dtype | None] = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": None,
    "ComplexDoubleStorage": None,
    "QInt8Storage": None,
    "QUInt8Storage": None,
    "QInt32Storage": None,
    "UntypedStorage": torch.uint8,
}
KNOWN: dict[str, Callable[..., Any]] = {
    **{
        f"{module}.{name}": Unread for module in ("torch", "torch.cuda", "torch.storage") for name in STORAGES
    },
    **{f"torch.{name}": Unread for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_meta_tensor_no_storage": _without_data,
    "torch._utils._rebuild_sparse_tensor": _kind("sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": _kind("sparse"),
    "torch._utils._rebuild_nested_tensor": _kind("nested"),
    "torch._utils._rebuild_qtensor": _kind("quantized"),
    "torch._tensor._rebuild_from_type_v2": Unread,
    "torch._tensor._rebuild_from_type": Unread,
    **{f"torch.nn.parameter.{kind}": _parameter for kind in ("Parameter", "Buffer")},
    "torch.Tensor": Unread,
    "torch.device": Unread,
    "torch.Size": _tuple,
    "torch.serialization._get_layout": Unread,
    **{f"torch.{name}": Unread for name in ("per_tensor_affine", "per_channel_affine")},
    "collections.OrderedDict": _pairs,
    "collections.Counter": _pairs,
    "collections.defaultdict": _dict,
    "argparse.Namespace": Unread,
    "_codecs.encode": _encoded,
    "numpy.dtype": NumberType,
    "numpy.ndarray": Unread,
    **{f"numpy.{core}.multiarray.scalar": _number for core in ("core", "_core")},  # before and since numpy 2
    **{f"numpy.{core}.multiarray._reconstruct": Array for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _frombuffer for core in ("core", "_core")},
    "yacs.config.CfgNode": _dict,
    "fvcore.common.config.CfgNode": _dict,
    "detectron2.config.config.CfgNode": _dict,
    "omegaconf.listconfig.ListConfig": OmegaNode,
    "omegaconf.dictconfig.DictConfig": OmegaNode,
    **{f"omegaconf.nodes.{kind}Node": OmegaNode for kind in ("Any", "Integer", "Float", "String", "Boolean")},
    "omegaconf.base.ContainerMetadata": Unread,
    "omegaconf.base.Metadata": Unread,
    "typing.Any": Unread,
    # types that such nodes name as those of their contents
    **{f"builtins.{kind}": Unread for kind in ("dict", "list", "int", "str", "float", "bool", "tuple")},
    **{f"__builtin__.{kind}": Unread for kind in ("dict", "list", "long", "int", "str", "unicode", "float")},
    **{
        f"{module}.{kind}": _listed for module in ("builtins", "__builtin__") for kind in ("set", "frozenset")
    },
    **{
        f"{module}.{kind}": _bytes
        for module in ("builtins", "__builtin__")
        for kind in ("bytes", "bytearray")
    },
    "mmengine.logging.history_buffer.HistoryBuffer": Unread,
    "deepspeed.runtime.fp16.loss_scaler.LossScaler": Unread,
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler": Unread,
    "deepspeed.runtime.fp16.loss_scaler.LossScaleConfig": Unread,
    **{
        f"{module}.{kind}Path": _path
        for module in ("pathlib", "pathlib._local")  # before and in Python 3.13
        for kind in ("", "Pure", "PurePosix", "PureWindows", "Posix", "Windows")
    },
}
