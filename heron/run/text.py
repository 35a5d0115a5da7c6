"""Words and figures for people: hostile text made harmless, durations, shares, intervals.

The one hard idea: a completion is written by a model that may emit anything, so before it reaches a terminal every character that could
move the cursor, change colours, reverse the reading direction or hide from sight is replaced by a visible sign. Nothing is dropped: an
escape sequence shows as `␛[31m`, so one sees that it was there. Callers must still pass the result as `rich.text.Text`, never as markup.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from heron.run.averages import is_finite

_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, invisible formatting (bidi marks among it), lone surrogates, line and paragraph separators."""
_UNSEEN = frozenset(map(chr, (
    0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2065, 0x2800, 0x3164, *range(0xFE00, 0xFE10), 0xFFA0,
    *range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE1000),
)))
"""What the categories do not tell: letters drawn as nothing (Unicode's Default_Ignorable_Code_Point, and braille's empty cell)."""


HUGE = 1e12
"""From which on a figure is written with its power of ten."""


def clean(text: object) -> str:
    """The text with every control character made visible; line breaks stay and tabs become spaces."""
    plain = str(text).replace("\r\n", "\n").expandtabs(4)
    return "".join(_visible(character) for character in plain)


def one_line(text: object, width: int) -> str:
    """The text on one line of at most `width` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def duration(seconds: float) -> str:
    """`8 s`, `4:05`, `2:03:09`; a dash for what is no time."""
    if _absent(seconds) or abs(seconds) >= HUGE:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def short_duration(seconds: float) -> str:
    """A phase's time, with a digit more where it is short: `0.04 s`, `1.8 s`, `2:10`."""
    if seconds >= 60:
        return duration(seconds)
    return f"{seconds:.1f} s" if seconds >= 0.95 else f"{seconds:.2f} s"


def share(value: float | None) -> str:
    """`31.6 %`; a dash where there is none."""
    return "-" if _absent(value) else f"{100 * value:.1f} %"  # type: ignore[operator]


def number(value: float | None, digits: int = 2) -> str:
    """`2.31`, `2.31e+12` where it is huge; a dash where there is none."""
    if value is None or _absent(value):
        return "-"
    return f"{value:.{digits}f}" if abs(value) < HUGE else f"{value:.3g}"


def count(value: float | None) -> str:
    """`5 612`; a dash where there is none."""
    return "-" if _absent(value) else f"{value:,.0f}".replace(",", " ")


def share_with_interval(totals: Mapping[str, Any], key: str) -> str:
    """`31.6 %  [26.2, 37.6]`: a share and its 95 % interval, as an evaluation's totals carry them."""
    low, high = totals.get(f"{key}_low"), totals.get(f"{key}_high")
    if low is None or high is None:
        return share(totals.get(key))
    return f"{share(totals.get(key))}  [{100 * low:.1f}, {100 * high:.1f}]"


def _absent(value: float | None) -> bool:
    return not is_finite(value)


def _visible(character: str) -> str:
    if character == "\n" or (unicodedata.category(character) not in _HARMFUL and character not in _UNSEEN):
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
