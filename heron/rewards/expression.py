"""The exact value of an expression that a model wrote, and the numbers in it: for countdown, and for the calculator tool.

The hard idea: the text is hostile. It is parsed and never run; only whole numbers, `+ - * /` and brackets are known (no powers, whose
values could fill the memory), and what is longer than `LONGEST` is not looked at. So the time is bounded by the length.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

LONGEST = 200
"""Characters."""
OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}
WRITTEN = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-"})
"""Signs that stand for operators in ordinary text."""


def value_of(text: str) -> tuple[Fraction, tuple[int, ...]] | None:
    """The value and the whole numbers as they were written, in order; None for anything that is no such expression, or divides by 0."""
    if len(text) > LONGEST:
        return None
    try:
        tree = ast.parse(text.strip().translate(WRITTEN), mode="eval").body
        return _value(tree), tuple(_numbers(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError, ZeroDivisionError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("not an expression of numbers")


def _numbers(node: ast.AST) -> Iterator[int]:
    if isinstance(node, ast.Constant):
        yield node.value  # type: ignore[misc]
    for child in ast.iter_child_nodes(node):
        yield from _numbers(child)
