"""Do two models say the same? Greedy answers to a few of the run's own questions, compared token by token.

The one hard idea: where two answers part, both models had read the same, so their log-probs there can be compared. Equal models
part only at a tie, and then differ by rounding; broken ones differ by far more. So the measure is the largest difference of log-probs up to
and including the first token that differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heron.config import Config
from heron.data.rows import fill_tags
from heron.engine import NativeEngine, Request, SamplingParams
from heron.models import Policy
from heron.run import Run
from heron.run.records import Record
from heron.types import Completion, Message

TOLERANCE = 1e-3
"""Nats by which log-probs of equal models may differ: float32 sums in another order."""

QUESTIONS = 4
"""Different conversations that are asked, where the run has as many."""
STEPS = 32
"""The newest steps in which they are looked for."""
MAX_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How alike two models answered."""

    answers: int
    """Questions asked."""
    equal: int
    """Answers of the same tokens."""
    gap: float
    """Largest difference of log-probs, in nats, up to and including the first differing token of each answer."""

    @property
    def sentence(self) -> str:
        """For a person."""
        return f"{self.equal} of {self.answers} greedy answers are the same tokens; log-probs differ by at most {self.gap:.2g} nats."


def conversations(run: Run, config: Config, most: int = QUESTIONS) -> list[list[Message]]:
    """At most so many different conversations that the run was asked: held-out ones, then those of training, the newest first."""
    found: dict[str, list[Message]] = {}
    for row in _rows(run):
        messages = _asked(row, config)
        found.setdefault(repr(messages), messages)
        if len(found) == most:
            break
    return list(found.values()) or [_asked({"question": "What is 2 + 3?"}, config)]


def greedy(policy: Policy, asked: Sequence[Sequence[Message]], max_tokens: int) -> list[Completion]:
    """The likeliest answer to each conversation, token by token."""
    params = SamplingParams(max_tokens=min(max_tokens, MAX_TOKENS), temperature=0.0)
    requests = [Request(prompt_ids=policy.render(messages), seeds=(0,)) for messages in asked]
    return [completion for (completion,) in NativeEngine(policy).generate(requests, params)]


def compare(expected: Sequence[Completion], got: Sequence[Completion]) -> Agreement:
    """How alike the answers to the same questions are."""
    pairs = list(zip(expected, got, strict=True))
    return Agreement(
        answers=len(pairs), equal=sum(one.token_ids == other.token_ids for one, other in pairs),
        gap=max(_gap(one, other) for one, other in pairs),
    )


def _gap(one: Completion, other: Completion) -> float:
    gap = 0.0
    for token, same, a, b in zip(one.token_ids, other.token_ids, one.logprobs, other.logprobs, strict=False):
        gap = max(gap, abs(a - b))
        if token != same:
            break
    return gap


def _rows(run: Run) -> Iterator[Record]:
    """Recorded answers, of the last evaluation and of the newest steps."""
    names = list(run.evaluations())
    if names:
        yield from run.evaluation(names[-1]).rows
    for step in reversed(run.rollout_steps()[-STEPS:]):
        yield from (row for row in run.rollouts(step) if row.get("sibling", 0) == 0)


def _asked(row: Record, config: Config) -> list[Message]:
    """The conversation that a recorded answer is to; where the question alone is recorded, that behind the run's system prompt."""
    if "asked" in row:
        return list(row["asked"])
    system = config.data.system_prompt
    opening = [] if system is None else [{"role": "system", "content": fill_tags(system, config.tags)}]
    return [*opening, {"role": "user", "content": str(row["question"])}]
