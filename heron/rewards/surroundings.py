"""Whether what stands around a literal lets it be one finished number.

The hard idea: digits are a number only in company that says so. `5 apples`, `**5**` and `\\boxed{5}` are 5; the same digits in `-(5)`,
`5!`, `√25`, `5+x`, `half of 10`, `0b101` and `5 million` stand for something else. So dressing (brackets, bold, tags, `\\text`, currency)
is taken off, and then next to the literal only a word or a plain sign of punctuation may stand: no mathematical sign but those that
announce a result, no variable, and none of the words that negate, scale, compare or compute.

Only `WINDOW` characters on each side are looked at, so that the time is linear in the text; hardly anything but dressing as far as that
is no number either. Left out: what a sentence means (`5 is wrong`), and most words of most languages.
"""

from __future__ import annotations

import re
import unicodedata

WINDOW = 80
"""Characters on each side."""
LEAST = 20
"""Characters of these that are not dressing, where the text goes on: fewer might be the end of a word."""
LONGEST_COMMAND = 12
"""Characters of a LaTeX command before digits, such as `\\sqrt4`."""
LONGEST_LINE = 1000
"""Characters of the line before a bullet, of which the first one is looked at."""

_RESULT_SIGNS = frozenset("=≈∼≃≅≡∴→⇒⟶⟹⇨▷↦")
"""Mathematical signs that may stand next to a result."""
_OPERATORS = frozenset("^*/\\&%!<>✕✖➕➖➗⁒·⋅∙‾⁃˗❗❕‼")
"""Signs that may not, beside those that Unicode calls mathematical."""
_GAP = "\x01"
"""Stands for dressing that was taken off."""
_DRESSING = re.compile(
    r"\\(?:left|right|[bB]ig+[lr]?|boxed|fbox|text(?:bf|it|rm|sf|tt)?|math(?:bf|rm|it|sf)|mbox|bm|displaystyle|degree|q?quad|[nt])(?![A-Za-z])"
    r"|\\[()\[\],;:!% ${}]|\\\\|&nbsp;"
    r"|</?(?!(?:s|del|strike|su[bp]|m[a-z]+|frac|sqrt|root)[\s>])[A-Za-z][^<>]{0,40}>|<!--[^<>]{0,40}-->|<\|[^<>]{0,40}\|>"
    r"|(?<![A-Za-z])(?:USD|EUR|GBP|INR|JPY|CNY)(?![A-Za-z])|[]()\[{}*`\"~|$€£¥₹°%‰]|(?<![A-Za-z])['_]|['_](?![A-Za-z])"
)
_SECTION = re.compile(r"(?i)</?(?!(?:strike|strong|small|su[bp]\w*|power|m[a-z]+)>)[a-z]\w{4,40}>")
"""Tags that begin or end a part of the text, such as `</think><answer>`. What they part is not joined, as `f(5)` and `x<b>5` are."""
_BRACKETS_AND_CURRENCIES = ("Ps", "Pe", "Pi", "Pf", "Sc")

_NUMERAL = (
    r"zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|twenty|thirty|forty|fifty"
    r"|sixty|seventy|eighty|ninety"
)
_SCALE = (
    r"hundreds?|thousands?|(?:[mbt]|tr)illion(?:s|en|i)?|[mbt]r?illiarden?|quadrillions?|dozens?|lakhs?|crores?|grand|mill[oó]n(?:es)?|mil|mille|mio|ml[nd]"
    r"|mrd|[kmbt]n|тыс\w*|млн|млрд|миллион\w*|миллиард\w*"
)
_NEGATION = r"minus|negative|neg|negated|menos|moins|meno|minos|негатив\w*|минус|マイナス|마이너스|负|負"
_CHANGES = (
    r"plus|times|half|third|quarter|twice|double|triple|(?:sq|cube)?rt|sqrt|\w*root|squared?|cubed?|factorial|log2|log10|log|ln|exp|sin|cos|tan"
    r"|modulo|mod|reciprocal|inverse|opposite|not(?: equal to)?|(?:is|are|was)n['_]?t|anything but|never|neither|nor|than|least"
    r"|most|under|above|below|or|versus|vs|point|out of"
)
_LINKS = r"(?: of| the| an?| number| sign| and| value)*"
_BEFORE = re.compile(
    rf"(?<!\w)(?:(?:{_NEGATION}){_LINKS}[ :,.=]*|(?:{_CHANGES}|{_NUMERAL}|{_SCALE}){_LINKS}|(?:divided|multiplied)(?: by)?)$"
    r"|(?:^|(?<![\w'])[b-z] )(?:over|by)$"
)
_BEFORE_CHINESE = re.compile(r"(?:负|負|マイナス|분의|分之|[十百千万萬亿億兆])$")
_AND = r"(?:(?:or|and|to|by|times|out of|over|add|less|more than|less than|take away|vs|versus|comma|x)(?!\w))"
_PARTS = r"(?:half|halves|(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth|millionth)s?)"
_AFTER = re.compile(
    rf"(?:(?:in )?(?:{_SCALE})|squared|cubed|factorial|plus|minus|negative|divided|multiplied|mod|modulo|choose|pow|pi|repeating|recurring"
    rf"|to the|point|(?:\w+ )?below zero|(?:st|nd|rd|th) (?:root|power)|followed by|with an? (?:minus|negative)"
    rf"|or (?:more|less|fewer|greater|above|below|higher|lower|over|under)|(?!quarter){_PARTS}(?<=s)|half(?!-)(?! [a-z])"
    rf"|and (?:an? )?(?:{_PARTS}|bit)|(?:(?:{_AND}|[,/&–-])[ ,/&–-]*){{0,2}}(?:{_NUMERAL})(?!-(?!{_PARTS})[a-z])"
    r"|(?:over|of|times|less than|more than|xor) [b-z])(?!\w)"
)
_SPELT = re.compile(rf"\s{{0,3}}[(\[](?:{_NUMERAL})(?:-(?:{_NUMERAL}))?[)\]]", re.IGNORECASE)
_AFTER_CHINESE = re.compile(r"[十百千万萬亿億兆]|分之|분의|点|點")
_VARIABLE_BEFORE = re.compile(r"(?<![\w'])[b-df-hj-np-tv-zα-ωℎ]$")
_VARIABLE_AFTER = re.compile(r"(?![aAcCdFghJlLmNpstVWIΩ])[A-Za-zα-ωΑ-Ω](?!['_-]?[^\W\d_])")
_GLUED_NAME = re.compile(r"(?!(?:[cdkm]?m|ft|in)[23](?!\w))[A-Za-z]+[0-9]")
_SUBTRACTION = re.compile(r"[-:] ?(?:[B-Zb-z](?![A-Za-z])|\\)")
_ENTITY = re.compile(r"&#?\w{1,9};$")
_COMMAND = re.compile(r"\\(?!(?:approx|implies|to|therefore|(?:long)?rightarrow|(?:Long)?Rightarrow)$)[A-Za-z]+$")
_CONNECTIVE = re.compile(r"(?i)(?<![a-z])(?:or|and|plus|minus|times|to|by)$")
_ASTERISK_AFTER = re.compile(r"(?:\*{1,2}[ \t]?|[ \t]\*{1,2}[ \t])[\w(\\]")
_ASTERISK_BEFORE = re.compile(r"[\w)\]}][ \t]+\*+[ \t]+$")
_RECURRING = re.compile(r"\.[0-9]+(?:\.\.|…)")


def is_alone(text: str, start: int, end: int) -> bool:
    """True if the literal at `text[start:end]`, its sign included, is one finished number for all that stands around it."""
    before, after = text[max(0, start - WINDOW) : start], text[end : end + WINDOW]
    after = _SPELT.sub("", after, count=1) if _SPELT.match(after) else after  # `5 (five)`
    is_bold = before.endswith("*") and after.startswith("*")
    if _RECURRING.search(text[start:end] + after[:1]) or before.endswith("~~"):
        return False
    if not is_bold and (_ASTERISK_AFTER.match(after) or _ASTERISK_BEFORE.search(before)):
        return False
    return _may_precede(_undressed(before), is_bold, start > WINDOW) and _may_follow(_undressed(after), end + WINDOW < len(text))


def is_name(text: str, start: int) -> bool:
    """True for the digits of `x2` or `<h1>`; not in `2x4`, `or4` and `\\sqrt4`; scripts without spaces are left alone."""
    before = text[max(0, start - LONGEST_COMMAND) : start]
    if not (before[-1:].isascii() and before[-1:].isalpha()):
        return False
    is_product = before[-2:-1].isdigit() and before[-1] in "xX"
    return not (is_product or _CONNECTIVE.search(before) or re.search(r"\\[A-Za-z]+$", before))


def sign(text: str, start: int, minus: str | None) -> bool | None:
    """True if `minus`, what is written at `start`, negates the number, None where that cannot be told.

    It is a hyphen in `3-7`, a subtraction in `10 - 5`, a bullet where the line before has one.
    """
    if not minus:
        return False
    before = text[max(0, start - WINDOW) : start]
    last = before.rstrip(" \t_")[-1:]
    if minus == "-":
        is_joined = before[-1:].isascii() and (before[-1:].isalpha() or before[-1:] in (")", "]", "}", "%", "-", "+", "|"))
        return False if before[-1:].isdecimal() else None if before and is_joined else True
    if start == 0 or last in ("=", "(", "[", "{", ":", ">"):
        return True
    return False if last.isdecimal() or (last == "\n" and _is_bullet(text, start)) else None


def _is_bullet(text: str, start: int) -> bool:
    """True if the line before also begins with a hyphen."""
    end = text.rfind("\n", 0, start)
    line = text.rfind("\n", max(0, end - LONGEST_LINE), end)
    return text[line + 1 : end].lstrip().startswith("-")


def _undressed(text: str) -> str:
    """With a mark in the place of each piece of dressing, and letters of one form."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = "".join(_GAP if unicodedata.category(character) in _BRACKETS_AND_CURRENCIES else character for character in text)
    return _DRESSING.sub(_GAP, _SECTION.sub(_GAP + " ", text))


def _words(text: str) -> str:
    """Without the marks, and with single spaces."""
    return " ".join(text.replace(_GAP, " ").split())


def _may_precede(before: str, is_bold: bool, is_cut: bool) -> bool:
    """Whether a number may come behind this."""
    core = before.rstrip(_GAP + " \t\r\n\v\f\xa0")
    gap = before[len(core) :]
    last = core[-1:]
    if not last or (is_cut and len(_words(core)) < LEAST):
        return not is_cut
    is_glued = not gap.replace(_GAP, "")
    if last.isalnum():
        is_called = is_glued and not is_bold and (gap != "" if last.isascii() else unicodedata.category(last) != "Lo")
        words = _words(core)
        found = _BEFORE.search(words.lower()) or _BEFORE_CHINESE.search(words) or _VARIABLE_BEFORE.search(words)
        return not (is_called or found or _COMMAND.search(core))
    return not _is_sign_that_spoils_before(core, last, gap, is_glued) and not _BEFORE.search(_words(core).lower())


def _is_sign_that_spoils_before(core: str, last: str, gap: str, is_glued: bool) -> bool:
    rest = core[:-1].rstrip(_GAP + " \t\r\n")
    if last == "+":
        return bool(gap) or (rest != "" and rest[-1] not in "=:")
    if last == ">":
        return core[-2:-1] not in ("-", "=")
    if last == "=":
        return core[-2:-1] != "" and core[-2:-1] in "!<>+-*/^≠"
    if unicodedata.category(last) == "Pd":
        return last == "-" or not rest or core[-2:-1] == _GAP
    if last == "!":
        return is_glued
    if last == ".":
        return not gap and core[-2:-1].isalnum()
    return _is_operator(last) or _ENTITY.search(core) is not None


def _may_follow(after: str, is_cut: bool) -> bool:
    """Whether this may come behind a number."""
    if unicodedata.category(after[:1] or " ").startswith("M") or _GLUED_NAME.match(after):
        return False
    words = _words(after)
    if not words or (is_cut and len(words) < LEAST):
        return not is_cut
    if words[0] == "/":
        return re.match(r"/ ?[A-Za-z]{2}", words) is not None and _may_follow_word(words[1:])  # `5/hour`, not `5/x` or `5/six`
    spoils = _SUBTRACTION.match(words) or after.startswith("-" + _GAP) or _is_operator(words[0])
    return not spoils and not _has_operator_later(after) and _may_follow_word(words)


def _may_follow_word(words: str) -> bool:
    words = words.lstrip("- ")  # `5-million`
    is_variable = _VARIABLE_AFTER.match(words) is not None
    return not (is_variable or _AFTER.match(words.lower()) or _AFTER_CHINESE.match(words))


def _has_operator_later(after: str) -> bool:
    """True for `5 apples + x`."""
    line = after.partition("\n")[0]
    return any(_is_operator(character) and character not in "^*/\\&%!<>·-" for character in line)


def _is_operator(character: str) -> bool:
    """True for a mathematical sign that no result has next to it."""
    if character in _RESULT_SIGNS:
        return False
    return character in _OPERATORS or unicodedata.category(character) in ("Sm", "Sk")
