"""A device that computes on the CPU and counts what would make the CPU wait for it.

Tensors say that they are on ``DEVICE`` and hold a tensor of the CPU. As a name "meta" serves: autograd runs
it without a driver, which it refuses for "cuda".
"""

import contextlib
import traceback
from collections import Counter
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

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
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
READ = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
COPIES = {aten._to_copy.default, aten.copy_.default}


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
    elif func in INDEXING and ours:
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


class Waits(TorchDispatchMode):
    """Counts by place, in ``places``: the innermost line of the project's package, and what waits there."""

    def __init__(self):
        super().__init__()
        self.places: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {}, self.note)

    def note(self, what):
        frames = [f for f in traceback.extract_stack() if "/itpn_d2/" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "elsewhere"
        self.places[f"{place} {what}"] += 1

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
