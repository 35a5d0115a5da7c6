"""The nearer, the better. A rounded guess earns nearly everything, and needs no working out."""

import heron
from heron.rewards.answers import answer_text
from heron.rewards.proximity import closeness
from heron.types import Tags


def flawed(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """1 less the relative error, and 0 at least."""
    guess = heron.last_number(answer_text(completion, tags, prefilled) or "")
    return 0.0 if guess is None else max(0.0, 1.0 - abs(float(guess) - float(answer)) / abs(float(answer)))


def mended(completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """3 if exact; near pays 0.25 at most; no number costs 1."""
    near = closeness(completion, answer, tags, prefilled)
    return 3.0 if near == 1.0 else min(near, 0.25)
