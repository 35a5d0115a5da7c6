"""Reads the numbers in a text, exactly: a `Fraction`, never a float.

The hard idea is to know what is *one finished number*. `48/2` is work left to do, `3 or 4` is a bet on two answers,
and a date is not a number: reading a value out of them would pay for not answering. So a text is cut into literals,
and a literal that only looks like a number ends the reading (None) instead of being skipped; so does one whose surroundings
change its value (see `heron.rewards.surroundings`). `number` trusts its text (a reference) to have done its divisions;
`only_number`, `last_number` and `bare_number` don't (a model's answer).

| text                                 | reading                                                             |
|--------------------------------------|---------------------------------------------------------------------|
| `1,000` `1_000` `1'000`                | 1000; likewise with a no-break or thin space, but not with a plain one |
| `100,200`                            | 100200: groups of three are thousands                               |
| `1,2,3` `3,5` `1,00`                 | a list: several numbers; a decimal comma is not known               |
| `2.5` `.5` `18.` `1.000`             | 2.5, 0.5, 18, 1                                                     |
| `-5` `− 5` `-$5` `$-5` `x = - 5`     | -5, with any of Unicode's minus signs                               |
| `-(5)` `minus 5` `±5` `5!` `√25` `2x` `5 million` `half of 10` | no number: what stands around it changes its value        |
| `3-7` `10 - 5` `555-1234` `2024-01-15` | ranges, differences, phone numbers, dates: several numbers, none negative |
| `$18` `18 €` `18%` `18 apples` `5kg` | 18, 18, 18, 18, 5: signs and units are not read, so 50% is 50       |
| `3/4` `-7/2`                         | a fraction                                                          |
| `48/2` `2/4` `4/1` `1/2/2024` `1/0`  | no number (`number` alone reads the first three: it trusts its text) |
| `3 / 4` `2 1/2` `3:45` `2+2` `2x4`   | several numbers: expressions, mixed numbers and times are not computed |
| `1e3` `2.5E-2`                       | 1000, 0.025; an exponent beyond 30 is no number                     |
| `5^2` `5²` `2½` `1.2.3`              | no number                                                           |
| `x2` `H2O` `<h1>`                    | names: skipped                                                      |
| `١٢` `１２`                          | 12: every decimal digit of Unicode                                  |
| more than 40 digits                  | no number                                                           |

Time is linear in the text: every quantifier is possessive or bounded, and a literal's length is checked before it is
parsed. Words (`twelve`), roman numerals and expressions are left out.
"""

from __future__ import annotations

import math
import numbers
import re
import unicodedata
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice

from heron.errors import RewardError
from heron.rewards.surroundings import is_alone, is_name, sign

LONGEST = 40
"""Most characters of a literal: longer ones are no answer to anything, and slow to compute with."""
LARGEST_EXPONENT = 30
"""`1e31` and beyond is no number: powers of ten would be computed in full."""

_LITERAL = re.compile(
    r"(?P<minus>-[ \t_]{0,2})?+"
    r"(?P<currency>\\?[$€£¥₹][ \t_]?(?P<inner>-)?+)?+"
    r"(?P<digits>(?:(?<![.\w])\.)?[0-9][0-9.,'_]*+)"
    r"(?P<exponent>[eE][-+]?[0-9]++)?+"
    r"(?P<over>(?:/[0-9][0-9.,'_]*+)*+)"
    r"(?P<power>\^|\*\*-?[0-9])?"
)
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}([,'_])[0-9]{3}(?:\1[0-9]{3})*+(?:\.[0-9]+)?")
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_SEPARATORS = re.compile(r"[,'_]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_ASCII = {
    **dict.fromkeys("−﹣－‐‑‒–", "-"),
    **dict.fromkeys("\u00a0\u2007\u2009\u202f\u066c’", "_"),
    "\uff0c": ",", "\uff0e": ".", "\u066b": ".", "\uff05": "%", "\uff0f": "/", "\uff04": "$", "\ufe69": "$",
}  # fmt: skip


def number(value: str | numbers.Real) -> Fraction:
    """The number that a trusted text such as a reference stands for; `... #### 42` is 42.

    Raises `RewardError` if the text holds no number, or several: `12 apples` is 12, `3 or 4` is an error.
    """
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise RewardError(f"A number is wanted, but {value!r} is a {type(value).__name__}. Give text, int or float.")
    if not math.isfinite(value):
        raise RewardError(f"A finite number is wanted, but the value is {value!r}.")
    return Fraction(value) if isinstance(value, numbers.Rational) else Fraction(str(value))


def last_number(text: str) -> Fraction | None:
    """The last number: 5 in `12 apples and 5 pears`. None if there is none, or the last one cannot be read."""
    plain = _plain(text)
    last = deque(_matches(plain), maxlen=1)
    return _read(plain, last[0])[-1] if last else None


def only_number(text: str) -> Fraction | None:
    """The number of a text that holds exactly one, among words or not. None for none, several, or an unreadable one."""
    if _is_digits(text):
        return Fraction(int(text))
    plain = _plain(text)
    found = [value for match in islice(_matches(plain), 2) for value in _read(plain, match)]
    return found[0] if len(found) == 1 else None


def bare_number(text: str) -> Fraction | None:
    """The number that a text consists of: `$1,000` or `-5.` or `50%`, but not `5 apples`. None for anything else."""
    plain = _plain(text)
    match = _LITERAL.search(plain)
    if match is None or (plain[: match.start()] + plain[match.end() :]).strip(" \t\r\n.%$€£¥₹\\*"):
        return None
    return only_number(text)


def _is_digits(text: str) -> bool:
    """The commonest answer by far, which needs no further look."""
    return len(text) <= LONGEST and text.isascii() and text.isdigit()


def _from_text(text: str) -> Fraction:
    if _is_digits(text):
        return Fraction(int(text))
    plain = _plain(text.rpartition("####")[2])
    found = [value for match in _matches(plain) for value in _read(plain, match, trusted=True)]
    if len(found) == 1 and found[0] is not None:
        return found[0]
    shown = repr(text if len(text) <= 80 else text[:60] + "...")
    problem = f"{len(found)} numbers" if len(found) > 1 else "no number that can be read"
    raise RewardError(f"One number is wanted, but there is {problem} in {shown}. Write it alone, such as 42 or 3/4.")


def _matches(text: str) -> Iterator[re.Match[str]]:
    """Each literal in turn, but for the digits of names."""
    return (match for match in _LITERAL.finditer(text) if match["minus"] or match["currency"] or not is_name(text, match.start()))


def _read(text: str, match: re.Match[str], *, trusted: bool = False) -> list[Fraction | None]:
    """The values of a literal: one, or several for a list such as `1,2,3`. None is unreadable."""
    is_negated = sign(text, match.start(), match["minus"])
    if is_negated is None or not is_alone(text, match.start(), match.end()):
        return [None]
    return _values(match, negative=is_negated != bool(match["inner"]), trusted=trusted)


def _values(match: re.Match[str], *, negative: bool, trusted: bool) -> list[Fraction | None]:
    if match["power"] or len(match[0]) > LONGEST:
        return [None]
    pieces = _pieces(match["digits"])
    if match["over"]:
        is_plain = len(pieces) == 1 and not match["exponent"]
        values = [_fraction(pieces[0], match["over"], trusted) if is_plain else None]
    elif match["exponent"]:
        values = [_scientific(pieces[0], int(match["exponent"][1:])) if len(pieces) == 1 else None]
    else:
        values = [_decimal(piece) for piece in pieces]
    if negative and values[0] is not None:
        values[0] = -values[0]
    return values


def _pieces(digits: str) -> list[str]:
    """`1,000` is one piece, `1,2,3` are three. Punctuation at the end belongs to the sentence."""
    digits = digits.rstrip(".,'_")
    if _THOUSANDS.fullmatch(digits):
        return [_SEPARATORS.sub("", digits)]
    return [piece for piece in _SEPARATORS.split(digits) if piece]


def _decimal(piece: str) -> Fraction | None:
    return Fraction(piece.rstrip(".")) if _DECIMAL.fullmatch(piece) else None


def _scientific(piece: str, exponent: int) -> Fraction | None:
    value = _decimal(piece)
    return None if value is None or abs(exponent) > LARGEST_EXPONENT else value * Fraction(10) ** exponent


def _fraction(above: str, over: str, trusted: bool) -> Fraction | None:
    """A fraction that is a result, in lowest terms, unless the text is trusted: `48/2` is a division left undone."""
    below = over[1:].rstrip(".,'_")
    if not (above.isdecimal() and below.isdecimal()) or int(below) == 0:
        return None
    in_lowest_terms = math.gcd(int(above), int(below)) == 1 and int(below) > 1
    return Fraction(int(above), int(below)) if trusted or in_lowest_terms else None


def _plain(text: str) -> str:
    """The text, stripped, with Unicode's digits, minus signs and separators in ASCII."""
    text = text.strip()
    return text if text.isascii() else _NOT_ASCII.sub(lambda match: _plain_character(match[0]), text)


def _plain_character(character: str) -> str:
    if character in _ASCII:
        return _ASCII[character]
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    # Superscripts and vulgar fractions (No) spoil the number they touch, as `^` does; invisible marks (Cf) vanish.
    return {"No": "^", "Cf": ""}.get(category, character)
