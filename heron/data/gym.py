"""Rows of reasoning-gym's generators: `reasoning_gym:leg_counting`, or with settings `reasoning_gym:chain_sum(max_terms=3)`.

The hard idea: the library makes questions and references, and nothing else. Its own scorers are never called (some of them `eval` what a
model wrote, and most give points for wrong answers): a verifier of Heron compares with the reference. So a generator is offered only if
its answer is the only right one, and which verifier reads it was found by generating rows of it.

What it leaves out: the library's curricula (difficulty is in the settings), and generators that draw outside of their seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

from heron.config.generated import GYM
from heron.data.tasks.generating import distinct
from heron.data.tasks.task import Problem
from heron.errors import ConfigError, DataError, MissingExtra, did_you_mean
from heron.rewards import name_and_settings
from heron.types import Prompt

NUMBERS = (
    "aiw", "basic_arithmetic", "binary_alternation", "chain_sum", "count_bits", "count_primes", "decimal_chain_sum", "gcd", "gsm_symbolic",
    "largest_island", "lcm", "leg_counting", "letter_counting", "maze", "number_sequence", "products", "rotten_oranges",
    "simple_equations", "simple_geometry",
)
TEXTS = (
    "acre", "arc_1d", "base_conversion", "bf", "caesar_cipher", "calendar_arithmetic", "course_schedule", "family_relationships",
    "isomorphic_strings", "mahjong_puzzle", "modulo_grid", "ransom_note", "rotate_matrix", "spell_backward",
    "spiral_matrix", "string_manipulation", "string_splitting", "string_synthesis", "syllogism", "word_sequence_reversal", "word_sorting",
)
VERIFIERS: Mapping[str, str] = MappingProxyType(dict.fromkeys(NUMBERS, "number") | dict.fromkeys(TEXTS, "exact"))
"""The generators that are offered, each with the verifier that judges its answers (of reasoning-gym 0.1.25)."""
SPARE = 40
"""Rows that the library is asked for, for each that is wanted: a sixteenth is held out, and some come twice."""


def generate(name: str, count: int, *, seed: int, heldout: bool) -> list[Prompt]:
    """Distinct rows of a generator, all from the held-out sixteenth of all questions or none of them."""
    generator, settings = name_and_settings(name.removeprefix(GYM))
    if generator not in VERIFIERS:
        raise ConfigError(f"There is no {GYM}{generator}, or its answers cannot be judged by comparing them with one reference."
                          f"{did_you_mean(generator, VERIFIERS)} There are {', '.join(VERIFIERS)}.")
    problems = distinct(_problems(generator, settings, seed, SPARE * count), count, heldout=heldout)
    if len(problems) < count:
        raise DataError(f"{name} has only {len(problems)} distinct {'held-out rows' if heldout else 'rows'}, but {count} are wanted. Ask "
                        "for fewer with data.limit or evaluation.size, or make it harder with the generator's settings.")
    return [_prompt(generator, problem) for problem in problems]


def _problems(generator: str, settings: Mapping[str, Any], seed: int, size: int) -> Iterator[Problem]:
    try:
        rows = _library().create_dataset(generator, size=size, seed=seed * 1_000_003, **settings)
    except (AssertionError, TypeError, ValueError) as error:
        raise ConfigError(f"reasoning-gym refuses {GYM}{generator} with the settings {dict(settings)}: {error}") from error
    for number in range(size):
        row = rows[number]
        yield Problem(question=str(row["question"]).strip(), answer=str(row["answer"]).strip())


def _library() -> ModuleType:
    try:
        import reasoning_gym
    except ImportError:
        raise MissingExtra("reasoning-gym", "gym", "Generating rows of reasoning-gym") from None
    return reasoning_gym


def _prompt(generator: str, problem: Problem) -> Prompt:
    digest = hashlib.blake2b(f"{problem.question}\n{problem.answer}".encode(), digest_size=6).hexdigest()
    columns = {
        "question": problem.question, "answer": problem.answer, "task": f"{GYM}{generator}", "verifier": VERIFIERS[generator],
    }
    return Prompt(id=f"{GYM}{generator}:{digest}", messages=({"role": "user", "content": problem.question},), columns=columns)
