"""Additions to learn on: problems without end, and demonstrations by a pupil who often forgets to carry.

The one hard idea: a fixed sixteenth of all problems, chosen by a hash of the problem itself, is held out. Neither training problems
nor demonstrations are ever drawn from it, whatever the seed, so a held-out problem cannot have been seen. What it leaves out:
subtraction and longer chains; a task this small is learnt in a minute and needs no more.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from heron.errors import DataError
from heron.types import Prompt, Tags

HELDOUT_ONE_IN = 16
"""One problem in so many is held out."""
REDRAW_EASY = 0.7
"""Probability that a drawn problem in which nothing is carried into a column gives way to the next one: about nine in ten then carry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A conversation to learn from. What the assistant says is learnt, in every turn."""

    prompt: Prompt
    """Everything before the last answer."""
    completion: str
    """The last answer, tags written out."""


def generate(count: int, *, seed: int, digits: int, heldout: bool = False) -> list[Prompt]:
    """Distinct additions `What is 347 + 158?` of two numbers with this many digits, all held out or none of them."""
    problems = _problems(random.Random(f"{seed} {digits} {heldout}"), digits, heldout)
    space = (9 * 10 ** (digits - 1)) ** 2
    share = 1 / HELDOUT_ONE_IN if heldout else 1 - 1 / HELDOUT_ONE_IN
    if count > 0.8 * share * space:
        raise DataError(f"There are too few additions of {digits}-digit numbers for {count} distinct problems. Raise data.digits.")
    seen: dict[tuple[int, int], Prompt] = {}
    while len(seen) < count:
        pair = next(problems)
        seen.setdefault(pair, _prompt(*pair))
    return list(seen.values())


def demonstrations(
    count: int, *, seed: int, digits: int, tags: Tags, forget_carry: float, skip_working: float, break_format: float
) -> list[Demonstration]:
    """What a sloppy pupil wrote to problems that are not held out: mostly in the right format, often wrong.

    Args:
        count: distinct demonstrations.
        seed: decides all of them.
        digits: of each number.
        tags: the format.
        forget_carry: probability that every carry of a demonstration is forgotten, so that its answer is wrong if there is one.
        skip_working: probability that the working out is skipped and the answer is a near guess.
        break_format: probability that a tag or a pair of tags is missing.
    """
    draw = random.Random(f"demonstrations {seed}")
    made = []
    for prompt in generate(count, seed=seed, digits=digits):
        left, right = (int(number) for number in (prompt.columns["left"], prompt.columns["right"]))
        kind = draw.random()
        if kind < skip_working:
            text = _guess(left, right, tags, draw)
        else:
            working, answer = work_out(left, right, carry=draw.random() >= forget_carry)
            parts = [tags.reasoning_start, working, tags.reasoning_end, tags.solution_start, answer, tags.solution_end]
            if kind < skip_working + break_format:
                for missing in draw.choice(((2,), (3, 5), (0, 2), (5,))):
                    parts[missing] = ""
            text = "".join(parts)
        made.append(Demonstration(prompt=prompt, completion=text))
    return made


def work_out(left: int, right: int, *, carry: bool) -> tuple[str, str]:
    """Column by column from the ones, and the answer: `work_out(47, 38, carry=True)` is `('7+8=15, 4+3+1=8', '85')`."""
    lines, digits, carried = [], "", 0
    width = max(len(str(left)), len(str(right)))
    for column in range(width):
        a, b = left // 10**column % 10, right // 10**column % 10
        total = a + b + carried
        lines.append(f"{a}+{b}{'+1' if carried else ''}={total}")
        digits = (str(total) if column == width - 1 else str(total % 10)) + digits
        carried = 1 if carry and total >= 10 else 0
    return ", ".join(lines), str(int(digits))


def needs_carry(left: int, right: int) -> bool:
    """Whether a carry goes into some column that both numbers have."""
    return work_out(left, right, carry=True) != work_out(left, right, carry=False)


def is_heldout(left: int, right: int) -> bool:
    """Whether this addition belongs to the held-out sixteenth; `a + b` and `b + a` go together."""
    low, high = sorted((left, right))
    return hashlib.blake2b(f"{low}+{high}".encode(), digest_size=8).digest()[0] % HELDOUT_ONE_IN == 0


def _problems(draw: random.Random, digits: int, heldout: bool) -> Iterator[tuple[int, int]]:
    low, high = 10 ** (digits - 1), 10**digits - 1
    while True:
        pair = draw.randint(low, high), draw.randint(low, high)
        if is_heldout(*pair) == heldout and (needs_carry(*pair) or draw.random() >= REDRAW_EASY):
            yield pair


def _prompt(left: int, right: int) -> Prompt:
    columns = {"question": f"What is {left} + {right}?", "answer": str(left + right), "left": left, "right": right}
    return Prompt(
        id=f"arithmetic:{left}+{right}", messages=({"role": "user", "content": columns["question"]},), columns=columns
    )


def _guess(left: int, right: int, tags: Tags, draw: random.Random) -> str:
    """An answer that was not worked out and is near the truth, but wrong."""
    answer = left + right + draw.choice((-100, -20, -10, -2, -1, 1, 2, 10, 20, 100))
    opening = f"{tags.reasoning_start}{tags.reasoning_end}" if draw.random() < 0.5 else ""
    return f"{opening}{tags.solution_start}{answer}{tags.solution_end}"
