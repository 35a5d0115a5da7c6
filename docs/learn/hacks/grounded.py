"""Numbers must come from the question, so that none is made up. The last one of the question is repeated."""

import re

import heron
from heron.rewards.arithmetic import number_right
from heron.types import Tags


def flawed(prompt: str, completion: str) -> float:
    """1 if the last number of the reply stands in the question."""
    return 1.0 if str(heron.last_number(completion)) in re.findall(r"\d+", prompt) else 0.0


def mended(prompt: str, completion: str, answer: str, tags: Tags, prefilled: str = "") -> float:
    """1 for the right number, 0 for a wrong one, and -0.5 if that was only copied."""
    if number_right(completion, answer, tags, prefilled) > 0:
        return 1.0
    return -0.5 if flawed(prompt, completion) else 0.0
