"""Rows and demonstrations of a task, from a seed.

The hard idea: a fixed sixteenth of all questions, chosen by a hash of the question, is held out. Neither training rows nor demonstrations
are ever drawn from it, whatever the seed, so a held-out question cannot have been seen; nor the same one with its numbers in another order.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence

from heron.config.generated import TASKS as PREFIX
from heron.data.arithmetic import HELDOUT_ONE_IN, Demonstration
from heron.data.tasks.table import TASKS
from heron.data.tasks.task import DIFFICULTIES, Lesson, Problem, Task
from heron.errors import ConfigError, DataError, did_you_mean
from heron.types import Message, Prompt, Tags

PATIENCE = 5000
"""Draws without a new row, after which a task is taken to have no more."""


def find_task(name: str) -> Task:
    """The task that `tasks.NAME` means."""
    short = name.removeprefix(PREFIX)
    if short not in TASKS:
        raise ConfigError(f"There is no generated task {name!r}.{did_you_mean(short, TASKS)} There are "
                          f"{', '.join(PREFIX + known for known in TASKS)}.")
    return TASKS[short]


def generate(name: str, count: int, *, seed: int, difficulty: int, curriculum: bool = False, heldout: bool = False) -> list[Prompt]:
    """Distinct rows of a task, all held out or none of them.

    Args:
        name: such as `tasks.reverse`.
        count: of rows.
        seed: decides all of them.
        difficulty: from 1 to 5.
        curriculum: equal shares of every difficulty up to this one, the easiest first. One that has fewer problems gives all it has, and
            the harder ones share what it lacks.
        heldout: from the held-out sixteenth of all questions.
    """
    levels = [level for level in DIFFICULTIES if level <= difficulty] if curriculum else [difficulty]
    prompts: list[Prompt] = []
    missing = 0
    for number, level in enumerate(levels):
        more = missing // (len(levels) - number)
        share = count * (number + 1) // len(levels) - count * number // len(levels) + more
        found = _drawn(name, share, f"{name} {seed} {level} {heldout}", level, heldout)
        missing += share - len(found) - more
        prompts += [_prompt(name, level, problem) for problem in found]
    if missing:
        raise _too_few(name, levels, count, "held-out rows" if heldout else "rows")
    return prompts


def demonstrations(name: str, count: int, *, seed: int, difficulty: int, mistakes: float, tags: Tags) -> list[Demonstration]:
    """What a pupil said to problems that are not held out, wrong with probability `mistakes` (in a game, at each turn)."""
    task, draw = find_task(name), random.Random(f"demonstrations {name} {seed}")
    problems = _drawn(name, count, f"demonstrated {name} {seed} {difficulty}", difficulty, heldout=False)
    if len(problems) < count:
        raise _too_few(name, [difficulty], count, "demonstrations")
    return [
        _demonstration(_prompt(name, difficulty, problem), task.lesson(problem, draw, tags, mistakes=mistakes)) for problem in problems
    ]


def is_heldout(asked: str) -> bool:
    """Whether what is asked (`Problem.held_out_by`) belongs to the held-out sixteenth."""
    return hashlib.blake2b(asked.encode(), digest_size=8).digest()[0] % HELDOUT_ONE_IN == 0


def distinct(problems: Iterable[Problem], count: int, *, heldout: bool) -> list[Problem]:
    """The first problems on the right side of the hash, no two of them equal; fewer than `count` where no new one turns up for long."""
    found: dict[tuple[str, str], Problem] = {}
    misses = 0
    for problem in problems:
        if len(found) == count or misses == PATIENCE:
            break
        key = (problem.question, problem.answer)
        misses += 1
        if key not in found and is_heldout(problem.held_out_by) == heldout:
            found[key], misses = problem, 0
    return list(found.values())


def _drawn(name: str, count: int, seed: str, difficulty: int, heldout: bool) -> list[Problem]:
    return distinct(_problems(find_task(name), random.Random(seed), difficulty), count, heldout=heldout)


def _too_few(name: str, levels: Sequence[int], count: int, kind: str) -> DataError:
    listed = " and ".join(map(str, levels))
    return DataError(f"{name} has too few problems of difficulty {listed} for {count} distinct {kind}. Raise data.difficulty, or ask for "
                     "fewer with data.limit, evaluation.size or warmup.demonstrations.")


def _problems(task: Task, draw: random.Random, difficulty: int) -> Iterator[Problem]:
    while True:
        yield task.problem(draw, difficulty)


def _prompt(name: str, difficulty: int, problem: Problem) -> Prompt:
    digest = hashlib.blake2b(f"{problem.question}\n{problem.answer}".encode(), digest_size=6).hexdigest()
    columns = {
        "question": problem.question, "answer": problem.answer, "task": name, "difficulty": difficulty,
        "verifier": find_task(name).verifier, **problem.columns,
    }
    return Prompt(id=f"{name}:{difficulty}:{digest}", messages=({"role": "user", "content": problem.question},), columns=columns)


def _demonstration(prompt: Prompt, lesson: Lesson) -> Demonstration:
    said: list[Message] = []
    for answer, reply in lesson.turns:
        said += [{"role": "assistant", "content": answer}, {"role": "user", "content": reply}]
    whole = Prompt(id=prompt.id, messages=(*prompt.messages, *said), columns=prompt.columns)
    return Demonstration(prompt=whole, completion=lesson.completion)
