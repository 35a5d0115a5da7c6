"""Which language a text is in: by its script, and for Latin script by its commonest words.

The hard idea: say only what can be told. A script used by one language alone (Hangul, Thai, Greek, ...) names it; Latin script is told by
words such as `the`, `und`, `les`, of eleven languages, and only if one of them leads clearly. Anything else is None: too short, a formula,
code, a language that is not in the list, a mixture. It cannot tell Ukrainian from Russian, or Persian from Arabic; for those use a
package such as lingua in a reward function of your own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable

from heron.errors import ConfigError, did_you_mean
from heron.types import Tags

LEAST_LETTERS = 20
LEAST_SHARE = 0.7
"""Of the letters, in one script."""
LEAST_WORDS = 3
"""Common words of a language, and a lead of half as many again before the next."""
LONGEST = 20_000
SCRIPTS = {
    "HANGUL": "ko", "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh", "CYRILLIC": "ru", "ARABIC": "ar", "HEBREW": "he", "GREEK": "el",
    "THAI": "th", "DEVANAGARI": "hi", "LATIN": "latin",
}  # fmt: skip
"""First word of a letter's Unicode name; Cyrillic, Arabic and Devanagari stand for their largest language."""
WORDS = {
    "en": "the and of to is that for it with was this are be not have you but they from which",
    "de": "der die und das ist nicht ein eine zu mit sich auf für den dem wir ich sind wird auch",
    "fr": "le la les et des est une dans que pour pas qui sur avec nous vous sont ce il du",
    "es": "el los las y una es por con para que del como pero más está se su lo muy son",
    "it": "il gli che di è una per non con sono della nel ma questo si più anche dei alla lo",
    "pt": "o os as e uma é que não para com do da em mas mais são se por isso também",
    "nl": "de het een en van is dat niet op te met voor zijn ik wij ook aan er maar naar",
    "pl": "i w na nie się jest że do to jak ale po co tak od przez dla są czy który",
    "tr": "bir ve bu için ile çok da de ne gibi daha var ama olarak olan değil kadar sonra her şey",
    "id": "yang dan di ini itu dengan untuk tidak dari dalam akan pada adalah kita saya bisa ke juga karena ada",
    "vi": "là và của không có cho được người trong một các những này với đã khi để cũng như từ",
}
_COMMON = {language: frozenset(words.split()) for language, words in WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")


def speaks(language: str = "en", right: float = 1.0, wrong: float = -1.0) -> Callable[..., float | None]:
    """`right` if the answer's language (with its reasoning, tags aside) is `language`, `wrong` if another, None if it cannot be told."""
    known = sorted({*WORDS, *SCRIPTS.values()} - {"latin"})
    if language not in known:
        raise ConfigError(f"language.speaks cannot tell {language!r}.{did_you_mean(language, known)} It can tell {', '.join(known)}.")

    def speaks(completion: str, tags: Tags, prefilled: str = "") -> float | None:
        text = prefilled + completion
        for tag in tags:
            text = text.replace(tag, " ")
        found = detect(text)
        return None if found is None else right if found == language else wrong

    return speaks


def detect(text: str) -> str | None:
    """The language as two letters, or None."""
    text = text[:LONGEST].casefold()
    letters = Counter(SCRIPTS.get(unicodedata.name(letter, "").split(" ")[0]) for letter in text if letter.isalpha())
    if letters.total() < LEAST_LETTERS and not letters.keys() & {"ko", "ja", "zh", "th"}:
        return None
    if letters["ja"] and letters["ja"] * 10 >= letters["zh"]:  # Japanese is written with Chinese characters, too
        letters["ja"] += letters.pop("zh", 0)
    language, count = letters.most_common(1)[0] if letters else (None, 0)
    if language is None or count < LEAST_SHARE * letters.total():
        return None
    return _latin(text) if language == "latin" else language


def _latin(text: str) -> str | None:
    words = Counter(_WORD.findall(text))
    found = Counter({language: sum(words[word] for word in common) for language, common in _COMMON.items()})
    (first, most), (_, next_most) = found.most_common(2)
    return first if most >= LEAST_WORDS and most >= 1.5 * next_most else None
