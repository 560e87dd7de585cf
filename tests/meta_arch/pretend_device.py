"""A device that computes on the CPU, counts what would make the CPU wait, and refuses what a GPU refuses.

Tensors say that they are on ``DEVICE`` and hold a tensor of the CPU, so that what depends on values goes its
usual way. As a name "meta" serves: autograd runs it without a driver, which it refuses for "cuda", and so
does an index in brackets, also of torch's fake tensors.
"""

import contextlib
import sys
from collections import Counter
from pathlib import Path

import detectron2
import fvcore
import torch
import torchvision  # noqa: F401  (its operators)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import itpn_d2
import pretrain

DEVICE = torch.device("meta")
aten = torch.ops.aten
COUNTED_OUT = {  # how much comes out depends on values, so it is read back
    aten.nonzero.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.masked_select.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
    torch.ops.torchvision.nms.default,
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
READ = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
COPIES = {aten._to_copy.default, aten.copy_.default}
# besides pointwise operators, what takes a scalar of the CPU for a number
SCALARS = {
    aten.fill_.Tensor,
    aten.masked_fill.Tensor,
    aten.masked_fill_.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten.index_fill.int_Tensor,
    aten.index_fill_.int_Tensor,
}
ROOTS = [Path(itpn_d2.__file__).parent, Path(pretrain.__file__).parent]
ROOTS += [Path(detectron2.__file__).parent, Path(fvcore.__file__).parent]


class MixedDevices(AssertionError):
    """An operator has tensors of the CPU and of the device, which CUDA refuses."""


class OnDevice(torch.Tensor):
    """A tensor of the pretended device; ``inside`` is that of the CPU."""

    @staticmethod
    def __new__(cls, inside):
        layout = dict(strides=inside.stride(), storage_offset=inside.storage_offset(), dtype=inside.dtype)
        return torch.Tensor._make_wrapper_subclass(cls, inside.shape, device=DEVICE, **layout)

    def __init__(self, inside):
        self.inside = inside

    def __repr__(self):
        return f"OnDevice({self.inside!r})"

    def tolist(self):
        return self.to("cpu").tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {}, lambda what: None)


def opened(x):
    return x.inside if isinstance(x, OnDevice) else x


def wrapped(x):
    return OnDevice(x) if isinstance(x, torch.Tensor) and not isinstance(x, OnDevice) else x


def refuse_mixed(func, given):
    """MixedDevices unless all tensors are of one device, or those of the CPU are numbers to the operator."""
    takes_scalars = torch.Tag.pointwise in func.tags or func in SCALARS
    others = [x for x in given if not isinstance(x, OnDevice) and (x.ndim or not takes_scalars)]
    if others and len(others) < len(given):
        shapes = ", ".join(str(tuple(x.shape)) for x in others)
        raise MixedDevices(f"{func}: on the CPU {shapes}, the others on the device")


def run(func, args, kwargs, count):
    """``func`` on the CPU; ``count(what)`` where the device would be waited for."""
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    ours = any(isinstance(x, OnDevice) for x in given)
    to, plain = kwargs.get("device"), {k: v for k, v in kwargs.items() if k != "device"}
    result_on_device = ours if to is None else torch.device(to) == DEVICE
    if not ours and not result_on_device:
        return func(*args, **kwargs)
    if func in COPIES:
        source = args[1] if func is aten.copy_.default else args[0]
        target = args[0] if func is aten.copy_.default else None
        result_on_device = isinstance(target, OnDevice) if target is not None else result_on_device
        from_device = isinstance(source, OnDevice)
        patient = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        # a scalar of the CPU is handed to the kernel
        scalar = source.ndim == 0 and func is aten.copy_.default and not from_device
        if from_device != result_on_device and not (patient or scalar):
            count(f"copy {'from' if from_device else 'to'} the device")
    elif func in READ or func in COUNTED_OUT:
        count(str(func))
    elif ours and func not in INDEXING:
        refuse_mixed(func, given)
    elif func in INDEXING and ours:
        values = [args[0], *args[2:3]]
        refuse_mixed(func, [x for x in values if isinstance(x, torch.Tensor)])
        if not isinstance(args[0], OnDevice):
            raise MixedDevices(f"{func}: a tensor of the CPU is indexed by one of the device")
        for index in args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                count(f"{func} by a mask")
            elif index is not None and not isinstance(index, OnDevice):
                count(f"{func} by an index on the CPU")
    if to is not None:
        plain["device"] = "cpu"
    found = func(*tree_map(opened, args), **tree_map(opened, plain))
    if func is aten.copy_.default or (func._schema.is_mutable and func._schema.name.endswith("_")):
        return args[0]
    return tree_map(wrapped, found) if result_on_device else found


def place():
    """``file:function`` of the innermost frame in a package that is not torch, from the package's parent."""
    frame = sys._getframe(1)
    while frame is not None:
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_name
        for root in ROOTS:
            if path.is_relative_to(root) and not name.startswith("<"):  # Python 3.12 has no <listcomp>
                return f"{path.relative_to(root.parent).as_posix()}:{name}"
        frame = frame.f_back
    return "elsewhere"


class Waits(TorchDispatchMode):
    """Counts by place, in ``places``: see :func:`place`, and what waits there."""

    def __init__(self):
        super().__init__()
        self.places: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {}, self.note)

    def note(self, what):
        self.places[f"{place()} {what}"] += 1

    @property
    def total(self):
        return self.places.total()


class _Literals(TorchFunctionMode):
    """``torch.tensor(..., device=DEVICE)`` and the like: made on the CPU and copied, which waits."""

    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        literal = func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)
        if func is torch.as_tensor and isinstance(args[0], OnDevice):  # it is there already
            return args[0].to(kwargs.get("dtype") or args[0].dtype)
        device = kwargs.get("device", args[0].device if func is torch.Tensor.new_tensor else None)
        if literal and device is not None and torch.device(device) == DEVICE:
            self.waits.note("numbers of the program to the device")
            kwargs.pop("device", None)
            if func is torch.Tensor.new_tensor:
                kwargs.setdefault("dtype", args[0].dtype)
                args = args[1:]
            return OnDevice(torch.tensor(*args, **kwargs))
        return func(*args, **kwargs)


@contextlib.contextmanager
def waits_counted():
    """Counts within; the value is a :class:`Waits`."""
    with Waits() as waits, _Literals(waits):
        yield waits


def moved(model):
    """``model`` with all parameters and buffers on the pretended device; in place."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                moved_one = torch.nn.Parameter(OnDevice(parameter.detach()), parameter.requires_grad)
                module._parameters[name] = moved_one
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = OnDevice(buffer)
    return model
