"""Pickles read as data: an interpreter of their opcodes that builds plain containers, numbers, texts and
tensors, and calls nothing but the constructors of :mod:`.stand_ins`.

A pickle is a program. A few hundred bytes of it can ask for gigabytes (a text doubled again and again), or
for a computation without end (the hash of tuples within tuples). So its steps are counted, no key is hashed
that is not a plain one, no text is joined, and what has been built is measured before anybody walks it.
"""

import mmap
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from .stand_ins import KNOWN, Array, Node, Unread

_STEPS, _BYTES_A_STEP = 200_000, 50  # a small file's steps; each so many bytes more allow another
_MOST_STEPS = 2_000_000  # several times those of the optimizer of a large detector
_INTEGER_BYTES = 32  # a random generator's state has 16
_SLACK = 1 << 20  # bytes that constructors may make of any file, beside twice its size
_DEPTH = 100  # containers within each other
_UNFOLDED = 10_000_000  # parts, with shared ones counted wherever they occur
_MARKS = 1000  # containers that are begun and not yet ended
_KEY_PARTS = 8  # of a tuple that is a key
_NAME = 300  # characters of a name in a message

Persistent = Callable[[Any], Any]


class PickleError(Exception):
    """A pickle can't be read; the message is the reason, on one line."""


class ForbiddenNameError(PickleError):
    """A pickle names what is not data; the message is the name."""


class _Global:
    """A name that a pickle refers to, with what is called in its place."""

    def __init__(self, name: str, make: Callable[..., Any]):
        self.name, self.make = name, make


def read_pickle(file: BinaryIO | mmap.mmap, size: int, persistent: Persistent | None = None) -> Any:
    """The value of the pickle at the position of ``file``, which then stands behind it.

    Args:
        size: bytes of the whole file, by which the number of steps is limited.
        persistent: what stands for a persistent id, such as the storage of a tensor.

    Raises:
        ForbiddenNameError: it names a function or class that is not in :mod:`.stand_ins`.
        PickleError: it is cut off, malformed, or takes more steps, memory or depth than any checkpoint.
    """
    return settled(_Machine(size, persistent).run(file))


class _Machine:
    def __init__(self, size: int, persistent: Persistent | None):
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # stacks below each mark
        self.memo: dict[int, Any] = {}
        self.persistent = persistent
        self.steps = min(_STEPS + size // _BYTES_A_STEP, _MOST_STEPS)
        self.bytes = 2 * size + _SLACK

    def run(self, file: BinaryIO | mmap.mmap) -> Any:
        try:
            for opcode, value, _ in pickletools.genops(cast(BinaryIO, file)):
                self.steps -= 1
                if self.steps < 0:
                    raise PickleError("it takes more steps than any checkpoint of its size does")
                name = opcode.name
                if name in _VALUES:
                    self.stack.append(value)
                elif name == "STOP":
                    return self.stack.pop()
                else:
                    handler = _HANDLERS.get(name)
                    if handler is None:
                        raise PickleError(f"it has the opcode {name}, which no checkpoint needs")
                    handler(self, value)
        except PickleError:
            raise
        except (IndexError, KeyError) as error:  # a stack or memo that holds less than is asked for
            raise PickleError("its opcodes do not fit together") from error
        except (ValueError, TypeError, OverflowError, UnicodeError, EOFError, AttributeError) as error:
            raise PickleError(_one_line(error)) from error
        raise PickleError("it has no end")

    def spend(self, values: Any) -> None:
        """Charge for what a constructor may copy."""
        for value in values:
            if isinstance(value, str | bytes | bytearray):
                self.bytes -= len(value)
            elif isinstance(value, list | tuple | dict):
                self.steps -= len(value)
        if self.bytes < 0 or self.steps < 0:
            raise PickleError("it copies its parts more often than any checkpoint does")

    # each takes the argument of its opcode
    def integer(self, value: int) -> None:
        if value.bit_length() > 8 * _INTEGER_BYTES:
            raise PickleError(f"it holds an integer of {value.bit_length()} bits")
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        if len(self.outer) > _MARKS:
            raise PickleError(f"it opens more than {_MARKS} containers at once")
        self.outer.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """What was put since the last mark."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.marked()

    def pop_mark(self, _: Any) -> None:
        self.marked()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def new_list(self, _: Any) -> None:
        self.stack.append([])

    def new_dict(self, _: Any) -> None:
        self.stack.append({})

    def new_tuple(self, _: Any) -> None:
        self.stack.append(())

    def marked_list(self, _: Any) -> None:
        items = self.marked()
        self.stack.append(items)

    def marked_tuple(self, _: Any) -> None:
        items = tuple(self.marked())
        self.stack.append(items)

    def marked_dict(self, _: Any) -> None:
        found: dict = {}
        items = self.marked()
        _fill(found, items)
        self.stack.append(found)

    def last_as_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def append(self, _: Any) -> None:
        item = self.stack.pop()
        _extend(self.stack[-1], [item])

    def appends(self, _: Any) -> None:
        items = self.marked()
        _extend(self.stack[-1], items)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _fill(self.stack[-1], [key, value])

    def set_items(self, _: Any) -> None:
        items = self.marked()
        _fill(self.stack[-1], items)

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def name(self, value: str) -> None:
        self.named(*value.split(" ", 1))

    def name_on_stack(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.named(module, name)

    def named(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise PickleError("it names a function by something other than a text")
        full = f"{module}.{name}"
        if full not in KNOWN:
            raise ForbiddenNameError(full[:_NAME])
        self.stack.append(_Global(full, KNOWN[full]))

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self.made(function, arguments))

    def new_with_keywords(self, _: Any) -> None:
        self.stack.pop()
        self.reduce(_)

    def made(self, function: Any, arguments: Any) -> Any:
        # a tensor's subclass is named with the function that builds the tensor, and its arguments
        if isinstance(function, _Global) and function.name in _INDIRECT and len(arguments) >= 3:
            function, arguments = arguments[0], arguments[2]
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise PickleError("it calls something that is not a function")
        self.spend(arguments)
        try:
            return function.make(*arguments)
        except (TypeError, ValueError, RuntimeError, OverflowError, LookupError) as error:
            raise PickleError(f"its {function.name} is not valid ({_one_line(error)})") from error

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Array | Node):
            self.spend(state if isinstance(state, tuple) else ())
            target.set_state(state)
        # what others keep beside their contents is of no use here

    def persistent_id(self, _: Any) -> None:
        if self.persistent is None:
            raise PickleError("it refers to data outside the file")
        self.stack.append(self.persistent(self.stack.pop()))


def _extend(target: Any, items: list[Any]) -> None:
    if type(target) is list:
        target.extend(items)
    elif not isinstance(target, Unread | Array | Node):
        raise PickleError("it appends to something that is not a list")


def _fill(target: Any, items: list[Any]) -> None:
    if len(items) % 2:
        raise PickleError("it has a key without a value")
    if type(target) not in (dict, OrderedDict):
        if not isinstance(target, Unread | Array | Node):
            raise PickleError("it sets items of something that is not a dict")
        return
    for key, value in zip(items[::2], items[1::2], strict=True):
        if _is_plain(key) or (type(key) is tuple and len(key) <= _KEY_PARTS and all(map(_is_plain, key))):
            target[key] = value
        elif not isinstance(key, Unread | Array | Node | _Global):
            raise PickleError(f"it has a {type(key).__name__} as a key, but a key must be a text or a number")


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (str, int, float, bool, bytes)


# arguments that are values themselves
_VALUES = {
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_INDIRECT = {"torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type"}


def _ignore(machine: _Machine, value: Any) -> None:
    pass


def _constant(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(value)


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.last_as_tuple(count)


_VALUES -= _CONSTANTS.keys()  # whose opcodes have no argument
_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    **{name: _constant(value) for name, value in _CONSTANTS.items()},
    **{f"TUPLE{count}": _tuple_of(count) for count in (1, 2, 3)},
    **dict.fromkeys(("PROTO", "FRAME"), _ignore),
    **dict.fromkeys(("INT", "LONG", "LONG1", "LONG4"), _Machine.integer),
    # a set hashes its parts, and nothing here needs one
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), _Machine.new_list),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), _Machine.appends),
    **dict.fromkeys(("TUPLE", "FROZENSET"), _Machine.marked_tuple),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.reduce),
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "EMPTY_DICT": _Machine.new_dict,
    "EMPTY_TUPLE": _Machine.new_tuple,
    "LIST": _Machine.marked_list,
    "DICT": _Machine.marked_dict,
    "APPEND": _Machine.append,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_on_stack,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}


def settled(content: Any) -> Any:
    """A copy with plain values in the place of what stood for them while it was read.

    Raises:
        PickleError: containers are nested too deeply, contain themselves, or share their parts so that a walk
            through them would not end.
    """
    known: dict[int, tuple[Any, int]] = {}
    open_ones: set[int] = set()

    def settle(value: Any, depth: int) -> tuple[Any, int]:
        """The value and the number of its parts."""
        if isinstance(value, _Global):
            return Unread(), 1
        if isinstance(value, Array):
            return value.value, 1
        if not isinstance(value, list | tuple | dict | Node):
            return value, 1
        if id(value) in known:
            return known[id(value)]
        if depth > _DEPTH:
            raise PickleError(f"it nests containers more than {_DEPTH} deep")
        if id(value) in open_ones:
            raise PickleError("it holds a container that contains itself")
        open_ones.add(id(value))
        new: Any
        if isinstance(value, Node):
            new, parts = settle(value.value, depth + 1)
        elif isinstance(value, dict):
            pairs = [(key, settle(item, depth + 1)) for key, item in value.items()]
            new = type(value)((key, item) for key, (item, _) in pairs)
            parts = 1 + sum(count for _, (_, count) in pairs)
        else:
            found = [settle(item, depth + 1) for item in value]
            new = type(value)(item for item, _ in found)
            parts = 1 + sum(count for _, count in found)
        if parts > _UNFOLDED:
            raise PickleError(f"it shares its parts so that they unfold to more than {_UNFOLDED}")
        open_ones.remove(id(value))
        known[id(value)] = new, parts
        return new, parts

    return settle(content, 0)[0]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
