"""The verifier `math`: LaTeX, fractions, roots, sets, equations, by the package math-verify, in children that can be killed.

The hard idea: a text is compared as a whole or not at all. math-verify looks for the last thing in a text that it can read, so `maybe 3,
maybe 4` is right for 4; and it computes, so `2+2` is right for 4. Here the answer must *be* one expression (a sentence around it, two
answers, or a sum left undone are unreadable), and what plain numbers can decide is decided by `heron.rewards.numbers`, exactly.

A tower of powers or a thousand brackets costs at most `SECONDS`: then the child is killed, and the answer counts as unreadable. Left out:
units, words, proofs; an expression with variables may be given in any equal form, expanded or not.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from heron.errors import MissingExtra, RewardError
from heron.rewards import numbers
from heron.rewards.workers import Pool, WorkerLost

SECONDS = 5.0
"""For one comparison."""
LONGEST = 400
"""Characters of an answer: longer ones are no final result."""
DEEPEST = 20
"""Brackets within brackets: a grammar's time grows quickly with them."""
MEMORY_BYTES = 1 << 30
CHILDREN = 2
WORDS = re.compile(
    r"sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|exp|sqrt|[dt]?frac|infty|left|right|cdot|times|div|cup|cap|emptyset|"
    r"varnothing|mathbb|mathrm|text|binom|circ|degree|theta|alpha|beta|gamma|lambda|sigma|omega|phi|leq|geq|neq|ldots|begin|end|[pb]?matrix|"
    r"cases|displaystyle|operatorname|overline|and|mod"
)
"""Words that an expression may have; any other of three letters or more makes it a sentence."""

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{(.*)\}", re.DOTALL)
_MATH = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_FRACTION = re.compile(r"(-?)\s*\\[dt]?frac\s*(?:\{\s*(\d{1,20})\s*\}|(\d))\s*(?:\{\s*(\d{1,20})\s*\}|(\d))")
_DIVISION = re.compile(r"(?<![\d.,)}])(\d{1,20})\s*/\s*(\d{1,20})(?![\d.,]\d)")
_LONE_WORD = re.compile(r"[A-Za-z]{3,}")


def compare(answer: str, reference: str) -> bool | None:
    """Whether both are equal; None if the answer cannot be read. Raises RewardError for a reference that cannot be."""
    pool = _pool()  # an absent package is told of at once, also where the first references are plain numbers
    answer, reference = expression(answer), expression(reference)
    found, wanted = plain_number(answer, trusted=False), plain_number(reference, trusted=True)
    if found is not None and wanted is not None:
        return found == wanted
    if not can_be_read(reference):
        raise RewardError(f"The reference {reference[:80]!r} is not one expression. Write it alone, such as \\frac{{1}}{{2}} or x+1.")
    if not can_be_read(answer) or (has_open_division(answer) and not has_open_division(reference)):
        return None
    return _asked(pool, answer, reference)


def expression(text: str) -> str:
    """The text without what marks mathematics as such (`$..$`, `\\boxed{..}`), and with an ASCII minus."""
    text = text.strip().replace("−", "-").replace("－", "-")
    for _ in range(4):
        before = text
        for opening, closing in _MATH:
            if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening) + len(closing):
                text = text[len(opening) : len(text) - len(closing)].strip()
        boxed = _BOXED.fullmatch(text)
        text = text if boxed is None else boxed[1].strip()
        if text == before:
            break
    return text.removesuffix(".")


def plain_number(text: str, *, trusted: bool) -> Fraction | None:
    """The text's value if it is a number or a fraction of numbers; one of a model must be in lowest terms."""
    fraction = _FRACTION.fullmatch(text)
    if fraction is not None:
        above, below = fraction[2] or fraction[3], fraction[4] or fraction[5]
        text = f"{fraction[1]}{above}/{below}"
    value = numbers.bare_number(text)
    if value is None and trusted and re.fullmatch(r"-?\s*\d{1,20}/\d{1,20}", text):
        return numbers.number(text)
    return value


def can_be_read(text: str) -> bool:
    """Whether it may be sent to a child: short, one expression, no words."""
    if not text or len(text) > LONGEST or not text.isprintable() or "$" in text or r"\boxed" in text or _depth(text) > DEEPEST:
        return False
    return all(WORDS.fullmatch(word) for word in _LONE_WORD.findall(text.replace("\\", " ")))


def has_open_division(text: str) -> bool:
    """True for `36/2` or `\\frac{2}{4}` anywhere: a division of integers that can still be done."""
    found = [(match[2] or match[3], match[4] or match[5]) for match in _FRACTION.finditer(text)] + _DIVISION.findall(text)
    return any(math.gcd(int(above), int(below)) != 1 or int(below) == 1 for above, below in found)


def _depth(text: str) -> int:
    """How deep brackets are nested."""
    steps = (1 if character in "([{" else -1 if character in ")]}" else 0 for character in text)
    return max(itertools.accumulate(steps, initial=0))


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
    """False for work left undone: a sum of two numbers, a power of integers, a factorial, anywhere in the expression."""
    import sympy

    if not isinstance(expression, sympy.Basic):
        return True
    return not any(_is_undone(node) for node in sympy.preorder_traversal(expression))


def _is_undone(node: Any) -> bool:
    import sympy

    numeric = [argument for argument in node.args if isinstance(argument, sympy.Number)]
    if isinstance(node, sympy.Add | sympy.Mul):
        return len([number for number in numeric if number != -1]) > 1
    if isinstance(node, sympy.Pow) and len(numeric) == 2:
        base, exponent = numeric
        return exponent != -1 and (abs(exponent) >= 1 or bool(sympy.Pow(base, exponent).is_rational))
    undone = (sympy.factorial, sympy.binomial, sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative)
    return isinstance(node, undone) and not node.free_symbols
