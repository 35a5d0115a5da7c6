"""Computes a formula such as `0.5 * style + 0.5 * max(facts, 0)`, given by data, from numbers by name.

The hard idea: a formula is text from a file, so nothing of it is ever run. It is parsed, and only numbers, names, `+ - * / ^` and a few
functions are known; anything else is refused when the formula is read, with its words. (`^` and `**` are powers.)
"""

from __future__ import annotations

import ast
import math
import operator
import sys
from collections.abc import Callable, Collection, Mapping
from typing import cast

from heron.errors import ConfigError, RewardError

LONGEST = 500
"""Characters."""
OPERATORS: Mapping[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: math.pow,
    ast.BitXor: math.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "min": min, "max": max, "abs": abs, "floor": math.floor, "ceil": math.ceil, "exp": math.exp, "sqrt": math.sqrt, "log": math.log,
}  # fmt: skip


ARGUMENTS: Mapping[str, tuple[int, int]] = {"min": (2, LONGEST), "max": (2, LONGEST), "log": (1, 2)}
"""How many of them, at least and at most, where it is not one; the second of `log` is its base."""
DEEPEST = 50
"""Operations in operations."""


def formula(text: str, names: Collection[str]) -> Callable[[Mapping[str, float]], float]:
    """The formula as a function of the values of `names`. Raises ConfigError for one that is not allowed."""
    tree = _parsed(text)
    _check(tree, text, names)

    def compute(values: Mapping[str, float]) -> float:
        try:
            return float(_value(tree, values))
        except (ArithmeticError, ValueError, TypeError) as error:
            raise RewardError(f"The formula {text!r} has no value for {dict(values)}: {error}.") from error

    return compute


def names_in(text: str) -> set[str]:
    """Those that a formula holds, without its functions."""
    return _names(_parsed(text))


def _parsed(text: str) -> ast.AST:
    try:
        # `^` binds loosest in Python; as a power it binds tightest
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body if len(text) <= LONGEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None:
        raise ConfigError(f"The formula {text[:200]!r} cannot be read. Write one such as 0.5 * a + 0.5 * b.")
    return tree


def _names(node: ast.AST) -> set[str]:
    return {node.id} if isinstance(node, ast.Name) else set().union(*map(_names, _operands(node)))


def _check(node: ast.AST, text: str, names: Collection[str], depth: int = 0) -> None:
    if depth > DEEPEST:
        raise ConfigError(f"The formula {text[:200]!r} has more than {DEEPEST} operations in one another. Write a shorter one.")
    if isinstance(node, ast.Constant):
        allowed = type(node.value) in (int, float) and abs(cast(float, node.value)) <= sys.float_info.max
    elif isinstance(node, ast.Name):
        allowed = node.id in names
    elif isinstance(node, ast.Call):
        allowed = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
    else:
        allowed = isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in OPERATORS
    if not allowed:
        raise ConfigError(f"The formula {text!r} has {ast.unparse(node)!r}, which is not allowed. It may hold numbers, + - * / ^, "
                          f"{', '.join(FUNCTIONS)}, and {', '.join(names)}.")
    if isinstance(node, ast.Call):
        _check_arguments(node, text)
    for child in _operands(node):
        _check(child, text, names, depth + 1)


def _check_arguments(node: ast.Call, text: str) -> None:
    """As many as the function takes."""
    least, most = ARGUMENTS.get(ast.unparse(node.func), (1, 1))
    if not least <= len(node.args) <= most:
        wanted = "two or more" if most == LONGEST else "one" if most == 1 else "one or two"
        raise ConfigError(f"The formula {text!r} has {ast.unparse(node)!r}, but {ast.unparse(node.func)} takes {wanted} arguments.")


def _operands(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.UnaryOp):
        return [node.operand]
    return node.args if isinstance(node, ast.Call) else []


def _value(node: ast.AST, values: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant):
        return float(cast(float, node.value))
    if isinstance(node, ast.Name):
        return values[node.id]
    operands = [_value(operand, values) for operand in _operands(node)]
    if isinstance(node, ast.Call):
        return FUNCTIONS[cast(ast.Name, node.func).id](*operands)
    return OPERATORS[type(cast(ast.BinOp, node).op)](*operands)
