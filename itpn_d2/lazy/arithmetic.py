"""Lists of numbers that a yaml writes as Python, understood without running any.

Detectron2's ``Base-RetinaNet.yaml`` has its anchors so, behind ``!!python/object/apply:eval``:
``[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]``.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST = 300  # characters
_LARGEST = 1e9
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def list_of_numbers(text: str) -> list[Any]:
    """The list that ``text`` stands for: numbers, sums, products and powers of them, lists of these, and one
    list ``for`` each number of another.

    Raises:
        ValueError: it is anything else.
    """
    try:
        if len(text) > _LONGEST:
            raise ValueError("too long")
        found = _value(ast.parse(text, mode="eval").body, {})
        if not isinstance(found, list):
            raise ValueError("no list")
    except (SyntaxError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{text[:_LONGEST]!r} is not a list of numbers ({error})") from error
    return found


def _value(node: ast.expr, names: Mapping[str, float]) -> Any:
    match node:
        case ast.List(elts=parts):
            return [_value(part, names) for part in parts]
        case ast.ListComp(
            elt=part,
            generators=[ast.comprehension(target=ast.Name(id=name), iter=ast.List(elts=each), ifs=[])],
        ):
            return [_value(part, {name: _number(value, names)}) for value in each]
    return _number(node, names)


def _number(node: ast.expr, names: Mapping[str, float]) -> float:
    found: Any = None
    match node:
        case ast.Constant(value=int() | float() as found) if not isinstance(found, bool):
            pass
        case ast.Name(id=name) if name in names:
            found = names[name]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            found = -_number(inner, names)
        case ast.BinOp(left=left, op=kind, right=right) if type(kind) in _OPERATORS:
            first, second = _number(left, names), _number(right, names)
            if isinstance(kind, ast.Pow) and abs(second) > 16:
                raise ValueError("a power above 16")
            found = _OPERATORS[type(kind)](first, second)
        case _:
            raise ValueError(f"{ast.unparse(node)} is more than arithmetic")
    if not isinstance(found, int | float) or not abs(found) <= _LARGEST:
        raise ValueError(f"{ast.unparse(node)} is not a number up to {_LARGEST:.0e}")
    return found
