"""The verifier `math`: LaTeX, fractions, roots, sets, equations, by the package math-verify, in children that can be killed.

The hard idea: a text is compared as a whole or not at all. math-verify looks for the last thing in a text that it can read, so `maybe 3,
maybe 4` is right for 4; and it computes, so `2+2` is right for 4. Here the answer must *be* one expression (a sentence around it, two
answers, or a calculation left undone are unreadable), and what numbers can decide is decided by `heron.rewards.mathtext`, exactly.

A tower of powers or a thousand brackets costs at most `SECONDS`: then the child is killed, and the answer counts as unreadable. Left out:
units, words, proofs; an expression with variables may be given in any equal form, expanded or not.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from heron.errors import MissingExtra, RewardError
from heron.rewards import mathtext
from heron.rewards.workers import Pool, WorkerLost

SECONDS = 5.0
"""For one comparison."""
MEMORY_BYTES = 1 << 30
CHILDREN = 2


def compare(answer: str, reference: str) -> bool | None:
    """Whether both are equal; None if the answer cannot be read. Raises RewardError for a reference that cannot be."""
    pool = _pool()  # an absent package is told of at once, also where the first references are plain numbers
    answer, reference = mathtext.expression(answer), mathtext.expression(reference)
    found, wanted = mathtext.value(answer, trusted=False), mathtext.value(reference, trusted=True)
    are_equations = "=" in answer and "=" in reference  # then the names matter
    if found is not None and wanted is not None and not are_equations:
        return found == wanted
    if not mathtext.can_be_read(reference):
        raise RewardError(f"The reference {reference[:80]!r} is not one expression. Write it alone, such as \\frac{{1}}{{2}} or x+1.")
    if answer == reference:
        return _asked(pool, answer, reference)  # it may be in any form, if math-verify can read it
    is_divided = mathtext.has_open_division(answer) and not mathtext.has_open_division(reference)
    if not mathtext.can_be_read(answer) or is_divided or mathtext.says_more_than_one_thing(answer, reference):
        return None
    equal = _asked(pool, *mathtext.with_letters_of_one_case(answer, reference))
    if equal and wanted is not None and not are_equations:
        return None  # it is equal to a number, but no finished one
    return equal and mathtext.have_the_same_letters(answer, reference) and mathtext.have_the_same_form(answer, reference)


def _asked(pool: Pool, answer: str, reference: str) -> bool | None:
    try:
        said = pool.ask({"answer": answer, "reference": reference}, seconds=SECONDS)
    except WorkerLost as lost:
        if answer == reference:
            raise RewardError(f"The reference {reference[:80]!r} cannot be compared with itself: {lost}. Write it shorter.") from lost
        return None
    if said["bad_reference"]:
        raise RewardError(f"math-verify cannot read the reference {reference[:80]!r}. Correct it, or leave the row out.")
    equal: bool | None = said["equal"]
    return equal


@functools.cache
def _pool() -> Pool:
    """One for the process: each child costs a second to start and 100 MB."""
    if importlib.util.find_spec("math_verify") is None:
        raise MissingExtra("math-verify", "math", "The verifier math")
    return Pool("heron.rewards.algebra:serve", size=CHILDREN, memory_bytes=MEMORY_BYTES)


def serve(argument: None) -> Callable[[Any], Any]:
    """What a child does with a request."""
    import logging

    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)  # math-verify logs each text that it cannot read
    settings = [LatexExtractionConfig(boxed_match_priority=-1)]

    def read(text: str) -> list[Any]:
        return list(parse(f"${text}$", settings, parsing_timeout=None, fallback_mode="no_fallback"))

    def answer(request: Any) -> Any:
        wanted = read(request["reference"])
        if request["answer"] == request["reference"]:  # the check of a dataset: thousands of these
            return {"bad_reference": not wanted, "equal": True}
        found = read(request["answer"])
        if not wanted or not found:
            return {"bad_reference": not wanted, "equal": None}
        if is_computed(wanted[0]) and not is_computed(found[0]):
            return {"bad_reference": False, "equal": None}
        equal = verify(wanted, found, float_rounding=10, numeric_precision=30, timeout_seconds=None)
        return {"bad_reference": False, "equal": bool(equal)}

    read("x+1")  # the grammar is loaded before anybody waits
    return answer


def is_computed(expression: Any) -> bool:
    """False for work left undone anywhere in it: numbers that can still be combined, a root or a sine that is a plain number."""
    import sympy

    entries = expression if isinstance(expression, sympy.MatrixBase) else [expression]
    nodes = (node for entry in entries if isinstance(entry, sympy.Basic) for node in sympy.postorder_traversal(entry))
    return not any(_is_undone(node) for node in nodes)  # what is inside first: with it a whole may be too large to compute


def _is_undone(node: Any) -> bool:
    import sympy

    if isinstance(node, sympy.Add):
        return _numbers(sympy.Add.make_args(node)) > 1 or (_is_constant(node) and _has_like_terms(node))
    if isinstance(node, sympy.Mul):
        return _has_factors_left(node) or (_is_constant(node) and _is_rational(node))
    if isinstance(node, sympy.Pow) and all(isinstance(argument, sympy.Number) for argument in node.args):
        base, exponent = node.args
        return exponent != -1 and (abs(exponent) >= 1 or not base.is_Rational or bool(sympy.Pow(base, exponent).is_rational))
    undone = (sympy.factorial, sympy.binomial, sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative)
    is_called = isinstance(node, sympy.Function | sympy.Pow) and _is_constant(node)
    return (isinstance(node, undone) and not node.free_symbols) or (is_called and _vanishes(node))


def _numbers(arguments: Iterable[Any]) -> int:
    """How many are numbers, -1 aside."""
    import sympy

    return sum(isinstance(argument, sympy.Number) and argument != -1 for argument in arguments)


def _is_constant(node: Any) -> bool:
    """True if it has no variables; `i` is none."""
    return all(str(symbol) == "i" for symbol in node.free_symbols)


def _has_like_terms(node: Any) -> bool:
    """True for `\\pi + \\pi`, and for `1 - \\frac{1}{2}`."""
    import sympy

    return len(sympy.Add.make_args(_evaluated(node))) < len(sympy.Add.make_args(node))


def _has_factors_left(node: Any) -> bool:
    """True for a product or quotient of numbers that can be done: `2 \\cdot 3`, `\\frac{4\\pi}{2}`, `\\frac{0.5}{2}`."""
    import sympy

    factors = [factor for factor in _factors(node) if factor not in (1, -1)]
    above = [factor for factor in factors if isinstance(factor, sympy.Number)]
    below = [factor.base for factor in factors if isinstance(factor, sympy.Pow) and factor.exp == -1 and factor.base.is_Number]
    if len(above) > 1 or not _is_constant(node):
        return len(above) > 1
    if len(below) > 1 or any(not number.is_Integer for number in below):
        return True
    return bool(above and below) and (not above[0].is_Integer or sympy.gcd(above[0], below[0]) != 1)


def _factors(node: Any) -> Iterator[Any]:
    """Of a product of products."""
    import sympy

    for argument in node.args:
        yield from _factors(argument) if isinstance(argument, sympy.Mul) else (argument,)


def _is_rational(node: Any) -> bool:
    """True if its value is a plain number, though it has roots or functions: `\\sqrt{2}\\sqrt{8}`."""
    import sympy

    calls = [each for each in node.atoms(sympy.Function, sympy.Pow) if isinstance(each, sympy.Function) or each.exp != -1]
    return bool(calls) and isinstance(_evaluated(node), sympy.Number)


def _vanishes(node: Any) -> bool:
    """True for `\\sin(\\pi/6)`, `\\log_2 8`, `(\\sqrt{2})^2`: computed, nothing of the kind is left."""
    import sympy

    value = _evaluated(node)
    return isinstance(value, sympy.Number) or (isinstance(node, sympy.Function) and not value.has(sympy.Function))


def _evaluated(node: Any) -> Any:
    """The same, made anew, by which sympy does what it does at once."""
    return node.func(*map(_evaluated, node.args)) if node.args else node
