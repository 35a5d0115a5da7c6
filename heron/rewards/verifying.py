"""Verifiers decide whether an answer is right; `reward` turns one into a reward function.

The hard idea: three outcomes, not two. An answer that cannot be read is not the same as a wrong one, and a
*reference* that cannot be read is an error of the dataset, raised, never a verdict about the model. Partial credit is
left to reward functions.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from heron.errors import DataError, RewardError
from heron.rewards import algebra, numbers
from heron.rewards.answers import answer_text
from heron.rewards.calling import LANES_MARK, waits
from heron.rewards.expression import value_of
from heron.types import Rollout, Tags


class Verdict(enum.StrEnum):
    """What a verifier says of an answer."""

    RIGHT = "right"
    """It is the reference, or equal to it."""
    WRONG = "wrong"
    """It can be read, and is something else."""
    UNREADABLE = "unreadable"
    """There is no answer, or not one that can be compared: no number, two numbers, an expression."""


Verifier = Callable[[str, str], Verdict]
"""`(answer, reference) -> Verdict`. The answer is the text between the tags. Raises RewardError for a bad reference."""

Function = TypeVar("Function", bound=Callable[..., Any])


def number(answer: str, reference: str) -> Verdict:
    """RIGHT if the answer holds exactly one number and it equals the reference's.

    | answer                      | reference | verdict    |
    |-----------------------------|-----------|------------|
    | `18`, `$18.00`, `18 eggs`   | `18`      | RIGHT      |
    | `0.75`, `3/4`               | `0.75`    | RIGHT      |
    | `-18`, `180`                | `18`      | WRONG      |
    | `0.33`                      | `1/3`     | WRONG      |
    | `17 or 18`, `9 * 2`, `36/2` | `18`      | UNREADABLE |
    | `-(18)`, `18!`, `18 million` | `18`     | UNREADABLE |
    """
    wanted = numbers.number(reference)
    found = numbers.only_number(answer)
    if found is None:
        return Verdict.UNREADABLE
    return Verdict.RIGHT if found == wanted else Verdict.WRONG


def exact(answer: str, reference: str) -> Verdict:
    """RIGHT if both are the same words, case included; whitespace between them is free. No words: UNREADABLE."""
    words = answer.split()
    if not words:
        return Verdict.UNREADABLE
    return Verdict.RIGHT if words == reference.split() else Verdict.WRONG


@waits(algebra.CHILDREN)
def math(answer: str, reference: str) -> Verdict:
    """RIGHT if both are the same mathematics, as math-verify sees it; the answer must be one expression, and computed.

    Needs the extra `math`. It runs in a process that is killed after 5 seconds, which makes the answer UNREADABLE (see
    `heron.rewards.algebra`).

    | answer                                      | reference         | verdict    |
    |---------------------------------------------|-------------------|------------|
    | `$\\frac{1}{2}$`, `0.5`, `\\boxed{1/2}`       | `\\frac12`         | RIGHT      |
    | `x^2+2x+1`                                  | `(x+1)^2`         | RIGHT      |
    | `\\{2, 1\\}`                                | `\\{1, 2\\}`      | RIGHT      |
    | `0.333333`                                  | `\\frac{1}{3}`     | WRONG      |
    | `(1, 2)`, `X`                               | `\\{1, 2\\}`, `x` | WRONG     |
    | `2+2`, `36/(9)`, `\\sqrt{16}`, `3 = 4`       | `4`               | UNREADABLE |
    | `4!/6`, `maybe 3, maybe 4`                  | `4`               | UNREADABLE |
    """
    equal = algebra.compare(answer, reference)
    if equal is None:
        return Verdict.UNREADABLE
    return Verdict.RIGHT if equal else Verdict.WRONG


def countdown(answer: str, reference: str) -> Verdict:
    """RIGHT if the answer is an expression with the reference's value, of its numbers, each at most once.

    | answer                             | reference     | verdict    |
    |------------------------------------|---------------|------------|
    | `(8 + 1) * 3`, `3*9`               | `27 from 3 8 1 9` | RIGHT  |
    | `27`, `8 + 8 + 8 + 3`, `8 * 3`     | `27 from 3 8 1 9` | WRONG  |
    | `8 * 3 = 24`, `3 ** 3`, `eight`    | `27 from 3 8 1 9` | UNREADABLE |
    """
    target, _, listed = reference.partition(" from ")
    if not target.strip().lstrip("-").isdigit() or not all(word.isdigit() for word in listed.split()):
        raise RewardError(f"The reference {reference[:80]!r} is not of the form `27 from 3 8 1`.")
    found = value_of(answer)
    if found is None:
        return Verdict.UNREADABLE
    value, used = found
    spent = Counter(used) - Counter(int(word) for word in listed.split())
    return Verdict.RIGHT if value == int(target) and not spent else Verdict.WRONG


verifiers: Mapping[str, Verifier] = MappingProxyType({"countdown": countdown, "exact": exact, "math": math, "number": number})
"""The built-in verifiers by name."""


def verdict(verifier: Verifier, rollout: Rollout, tags: Tags) -> Verdict:
    """What a verifier says of a rollout's answer; UNREADABLE if it has none. The reference is the column `answer`."""
    reference = rollout.prompt.answer
    if reference is None:
        raise RewardError(f"Row {rollout.prompt.id} has no answer to verify against. Give it a column named answer.")
    answer = answer_text(rollout.text, tags, rollout.prefilled)
    return Verdict.UNREADABLE if answer is None else verifier(answer, reference)


def reward(
    verifier: Verifier, *, right: float, wrong: float, unreadable: float, name: str | None = None
) -> Callable[..., float]:
    """A reward function that pays a verifier's verdict. It is logged as `name`, by default the verifier's name.

    >>> correct = reward(verifiers["number"], right=1.0, wrong=0.0, unreadable=-0.5, name="correct")
    """
    scores = {Verdict.RIGHT: right, Verdict.WRONG: wrong, Verdict.UNREADABLE: unreadable}

    @compares_by(verifier)
    def paid(completion: str, answer: Any, tags: Tags, prefilled: str = "") -> float:
        found = answer_text(completion, tags, prefilled)
        return scores[Verdict.UNREADABLE if found is None else verifier(found, str(answer))]

    paid.__name__ = name or str(getattr(verifier, "__name__", "reward"))
    paid.__doc__ = f"{right:+g} if the answer is right, {wrong:+g} if wrong, {unreadable:+g} if it cannot be read."
    return paid


def compares_by(verifier: Verifier) -> Callable[[Function], Function]:
    """Marks a reward function whose `answer` must be a reference that `verifier` can read; checked before training."""

    def mark(function: Function) -> Function:
        setattr(function, VERIFIER_MARK, verifier)
        return waits(getattr(verifier, LANES_MARK, 1))(function)

    return mark


VERIFIER_MARK = "heron_verifier"
"""Attribute that holds the verifier of a marked reward function."""


def checks_row(check: Callable[[Mapping[str, Any]], None]) -> Callable[[Function], Function]:
    """Marks a reward function that needs more of a row than its columns: `check` raises for one that won't do, before training."""

    def mark(function: Function) -> Function:
        setattr(function, CHECK_MARK, check)
        return function

    return mark


def check_answer_text(columns: Mapping[str, Any]) -> None:
    """Raises DataError for a row whose `answer` has no words to compare with."""
    if columns["answer"] is None or not str(columns["answer"]).split():
        raise DataError(f"The column answer must be the text that is expected, but it is {columns['answer']!r}.")


CHECK_MARK = "heron_check"
"""Attribute that holds what a marked reward function asks of a row's columns."""


def runs_programs(function: Function) -> Function:
    """Marks a reward function that runs in the sandbox what a model wrote: no run begins without one, and its record names it."""
    setattr(function, SANDBOX_MARK, True)
    return function


SANDBOX_MARK = "heron_sandbox"
"""Attribute of a marked reward function that needs the sandbox."""
