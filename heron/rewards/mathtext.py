"""What can be told of mathematical text without any algebra: its value if it is a number, its form, its letters.

The hard idea: a number has few finished forms, so an answer to a question whose answer is a number must have one of them: `18`,
`\\frac{1}{2}`, `2\\frac{1}{2}`, `x = 18`, `18\\text{ cm}`. Not so `36/(2)`, `2(9)`, `\\sqrt{324}` and `17 = 18`, whatever
they are equal to.

math-verify takes `X` for `x`, a pair for a list of two, and of an equation only the right side; what tells these apart is here as well.
Left out: what a letter stands for.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from fractions import Fraction

from heron.rewards import numbers

LONGEST = 400
"""Characters of an answer: longer ones are no final result."""
DEEPEST = 20
"""Brackets within brackets: a grammar's time grows quickly with them."""
WORDS = re.compile(
    r"sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|exp|sqrt|[dt]?frac|infty|left|right|cdot|times|div|cup|cap|emptyset|"
    r"varnothing|mathbb|mathrm|text|binom|circ|degree|theta|alpha|beta|gamma|lambda|sigma|omega|phi|leq|geq|neq|ldots|begin|end|[pb]?matrix|"
    r"cases|displaystyle|operatorname|overline|and|mod"
)
"""Words that an expression may have; any other of three letters or more makes it a sentence."""

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{(.*)\}", re.DOTALL)
_MATH = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_AROUND = re.compile(r"\\left\s*\((.*)\\right\s*\)|\((.*)\)|\\\{(.*)\\\}|\{(.*)\}|\[(.*)\]|\\text\s*\{(.*)\}", re.DOTALL)
_FRACTION = re.compile(r"(-?)\s*(\d{0,20})\s*\\[dt]?frac\s*(?:\{\s*(-?\d{1,20})\s*\}|(\d))\s*(?:\{\s*(-?\d{1,20})\s*\}|(\d))")
_DIVISION = re.compile(
    r"(?<![\d.])(\d{1,20})[)}\s]{0,9}(?:/|:|÷|\\div(?![a-z])|\\over(?![a-z]))[({\s]{0,9}-?(\d{1,20})(?!\d|\.\d|,\d{3}(?!\d))"
    r"|\\[dt]?frac\s*(?:\{[({\s]{0,9}-?(\d{1,20})[)}\s]{0,9}\}|(\d))\s*(?:\{[({\s]{0,9}-?(\d{1,20})[)}\s]{0,9}\}|(\d))"
)
_DEGREES = r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree|°"
_MEASURE = r"[cdkm]?m|[km]?g|[mc]?[lL]|lbs?|oz|ft|in|yd|mi|s|h|hrs?|min|km/h|mph|m/s"
_UNIT = re.compile(
    rf"(?:\\[,;:! ]|[~\s])*(?:{_DEGREES}|(?:\\(?:text|mathrm|mbox|textrm)\s*\{{([^{{}}\d\\]*)\}}|(?<![A-Za-z])(?:{_MEASURE}))"
    r"(?:\^\s*(?:[23]|\{[23]\}))?)\s*$"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,\\!)(?=\d{3}(?!\d))")
_LONE_WORD = re.compile(r"[A-Za-z]{3,}")
_GREEK = r"alpha|beta|gamma|delta|theta|lambda|mu|sigma|phi|omega|pi|psi|xi|Gamma|Delta|Theta|Lambda|Sigma|Phi|Omega|Pi|Psi|Xi"
_LETTER = re.compile(rf"\\({_GREEK})(?![A-Za-z])|\\[A-Za-z]+|([A-Za-z])")
_SEPARATOR = re.compile(r"\\text\s*\{\s*(?:or|and)\s*\}|\\(?:lor|land)(?![a-z])|(?<![A-Za-z])(?:or|and)(?![A-Za-z])|;|\\q?quad(?![a-z])")
_EQUALS = re.compile(r"(?<![<>!:])=")


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


def can_be_read(text: str) -> bool:
    """Whether algebra may be asked about it: short, one expression, no words."""
    if not text or len(text) > LONGEST or not text.isprintable() or "$" in text or r"\boxed" in text or _depth(text) > DEEPEST:
        return False
    return all(WORDS.fullmatch(word) for word in _LONE_WORD.findall(text.replace("\\", " ")))


def value(text: str, *, trusted: bool) -> Fraction | None:
    """Of a number in a finished form, with or without `x =` and a unit; one of a model must be in lowest terms."""
    if len(text) > LONGEST:
        return numbers.bare_number(text)
    text = _THOUSANDS.sub(",", _right_side(text))
    unit = _UNIT.search(text)
    if unit is not None and unit.start() > 0:
        text = text[: unit.start()] if numbers.only_number(f"5 {unit[1] or 'm'}") is not None else ""
    text = re.sub(r"^\+\s?(?=[\d.\\$])", "", _unwrapped(text))
    fraction = _FRACTION.fullmatch(text)
    if fraction is not None:
        return _mixed(*_integers(fraction), trusted=trusted)
    if re.fullmatch(r"-?\s*\d{1,20}\s*/\s*\d{1,20}", text):
        text = re.sub(r"\s+", "", text)
        return numbers.number(text) if trusted and not re.search(r"/0+$", text) else numbers.bare_number(text)
    return None if text.endswith(",") else numbers.bare_number(text)


def has_open_division(text: str) -> bool:
    """True for `36/2`, `36 \\div 2` or `\\frac{2}{(4)}` anywhere: a division of integers that can still be done."""
    for groups in _DIVISION.findall(text):
        above, below = (int(digits) for digits in groups if digits)
        if math.gcd(above, below) != 1 or below == 1:
            return True
    return False


def says_more_than_one_thing(answer: str, reference: str) -> bool:
    """True for an equation that is not `name = value`, such as `17 = 18`, `2x = 18` or `x = 17 = 18`, where the reference is none."""
    for part in _parts(answer):
        sides = _EQUALS.split(part)
        if "=" in reference:
            if len(sides) > 1 and not _letters(part):
                return True
        elif len(sides) > 2 or (len(sides) == 2 and not _is_name(sides[0])):
            return True
    return False


def have_the_same_letters(answer: str, reference: str) -> bool:
    """False if a letter is large in one text and small in the other."""
    mine, other = _letters(answer), _letters(reference)
    shared = {letter.lower() for letter in mine} & {letter.lower() for letter in other}
    return {letter for letter in mine if letter.lower() in shared} == {letter for letter in other if letter.lower() in shared}


def have_the_same_form(answer: str, reference: str) -> bool:
    """False if one is ordered, such as a pair or an interval, and the other a set, a list or one expression."""
    forms = {_form(answer), _form(reference)}
    return "ordered" not in forms or forms <= {"ordered", "named"}


def with_letters_of_one_case(answer: str, reference: str) -> tuple[str, str]:
    """Both with another letter for `A` where there is also an `a`: algebra would take them for one."""
    used = _letters(answer) | _letters(reference)
    free = (letter for letter in "abcghjklmnpqrstuvwxyz" if letter not in {each.lower() for each in used})
    large = sorted(letter for letter in used if len(letter) == 1 and letter.isupper() and letter.lower() in used)
    new = dict(zip(large, free, strict=False))

    def renamed(text: str) -> str:
        return _LETTER.sub(lambda match: new.get(match[2] or "", match[0]), text)

    return renamed(answer), renamed(reference)


def _right_side(text: str) -> str:
    """Of `name = text`; any other text is given back."""
    sides = _EQUALS.split(text)
    if len(sides) != 2 or not _is_name(sides[0]):
        sides = re.split(r"\\in(?![a-z])", text)
    return sides[1].strip() if len(sides) == 2 and _is_name(sides[0]) else text


def _is_name(text: str) -> bool:
    """True for `x`, `f(2)`, `S_{10}`, `(x, y)`, `a + b`: letters, each once, and no number to compute with."""
    text = re.sub(r"_(?:\{[^{}]*\}|\w)|(?<=[A-Za-z'])\([^()=]*\)", "", text)
    letters = [match[1] or match[2] for match in _LETTER.finditer(text) if match[1] or match[2]]
    return bool(letters) and len({*letters}) == len(letters) and not {"pi", "i"} & {*letters} and not re.search(r"\d", text)


def _unwrapped(text: str) -> str:
    """Without brackets around the whole."""
    for _ in range(3):
        around = _AROUND.fullmatch(text.strip())
        if around is None:
            break
        text = next(group for group in around.groups() if group is not None)
    return text.strip()


def _integers(fraction: re.Match[str]) -> tuple[int, int | None, int, int]:
    """The sign, the whole part, and both parts of the fraction."""
    whole = int(fraction[2]) if fraction[2] else None
    return (-1 if fraction[1] else 1), whole, int(fraction[3] or fraction[4]), int(fraction[5] or fraction[6])


def _mixed(sign: int, whole: int | None, above: int, below: int, *, trusted: bool) -> Fraction | None:
    """`\\frac{3}{2}` and `1\\frac{1}{2}`, but not `1\\frac{3}{2}` or `-\\frac{-1}{2}`, which are products."""
    is_signed_twice = [part < 0 for part in (sign, above, below)].count(True) > 1
    is_reduced = math.gcd(above, below) == 1 and abs(below) > 1
    is_proper = whole is None or (whole > 0 and 0 < above < below)
    if below == 0 or not is_proper or is_signed_twice or not (is_reduced or trusted):
        return None
    return sign * ((whole or 0) + Fraction(above, below))


def _form(text: str) -> str:
    """`ordered` for `(1, 2)`, `named` for `x = 1, y = 2`, else `other`."""
    text = re.sub(r"\\(?:left|right)(?![a-z])|\s", "", _THOUSANDS.sub("", _right_side(text)))
    parts = list(_parts(text))
    if len(parts) > 1:
        return "named" if all(_EQUALS.search(part) for part in parts) else "other"
    is_bracketed = text[:1] in ("(", "[") and text[-1:] in (")", "]")
    return "ordered" if is_bracketed and len(list(_parts(text[1:-1]))) > 1 and _depth(text[1:-1], least=True) >= 0 else "other"


def _parts(text: str) -> Iterator[str]:
    """What stands between the commas (or `or`, `and`, `;`) that are in no bracket."""
    text = _SEPARATOR.sub(",", text)
    depths = [0, *_depths(text)]
    cuts = [-1, *(place for place, character in enumerate(text) if character == "," and depths[place] == 0), len(text)]
    return (text[start + 1 : end] for start, end in itertools.pairwise(cuts))


def _letters(text: str) -> set[str]:
    """Variables, as they are written; words and units in `\\text` are none."""
    text = re.sub(r"\\(?:text|mathrm|mbox|operatorname)\s*\{\s*(?:[A-Za-z][^{}]+|)\}", "", text)
    return {match[1] or match[2] for match in _LETTER.finditer(text) if match[1] or match[2]}


def _depths(text: str) -> list[int]:
    """How many brackets are open behind each character."""
    steps = (1 if character in "([{" else -1 if character in ")]}" else 0 for character in text)
    return list(itertools.accumulate(steps))


def _depth(text: str, *, least: bool = False) -> int:
    """How deep brackets are nested; or the least depth, which is negative where one is closed that was not opened."""
    depths = [0, *_depths(text)]
    return min(depths) if least else max(depths)
