"""Drive engine and environment until every attempt at every prompt is done, then score.

The one hard idea: a rollout is a growing list of token ids. What the model said is kept as it was sampled, what the environment
replied is appended as tokens; nothing is ever rendered again. A single-turn task is the case where no environment replies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from heron.engine.protocol import Engine, Request, SamplingParams
from heron.environments import Environment
from heron.models.policy import Policy
from heron.objective import Estimator, advantages, find_estimator
from heron.rewards import Rubric
from heron.types import Completion, Group, Message, Prompt, Rollout, Turn

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class _Attempt:
    """A rollout in the making."""

    prompt: Prompt
    seed: int
    messages: list[Message]
    next_prompt: tuple[int, ...]
    prefilled: str
    turns: list[Turn] = field(default_factory=list)
    text: str = ""

    def context(self) -> tuple[int, ...]:
        """All tokens that the next completion will see."""
        said = [token for turn in self.turns for token in (*turn.prompt_ids, *turn.completion.token_ids)]
        return (*said, *self.next_prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Makes rollouts of prompts and scores them."""

    policy: Policy
    """Renders prompts and decodes completions."""
    engine: Engine
    """Samples."""
    environment: Environment
    """Opens the conversation and replies."""
    rubric: Rubric | None
    """Scores; None where nothing is to be scored."""
    estimator: Estimator = field(default_factory=lambda: find_estimator("group"))
    """Rewards to advantages."""
    scale_rewards: str = "group"
    """What the estimator divides by."""

    def sample(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, siblings: int, seed: int, on_progress: Progress | None = None
    ) -> list[list[Rollout]]:
        """`siblings` unscored rollouts of each prompt. The seed and the prompt's place decide what is drawn."""
        groups = [
            self._open(prompt, [_seed(seed, index, sibling) for sibling in range(siblings)])
            for index, prompt in enumerate(prompts)
        ]
        waiting = groups
        with self.engine.awake():
            for turn in range(self.environment.max_turns):
                waiting = self._play(waiting, params, on_progress if turn == 0 else None)
                if not waiting:
                    break
        return [[_close(attempt) for attempt in group] for group in groups]

    def score(self, rollouts: Sequence[Sequence[Rollout]]) -> list[Group]:
        """Groups with rewards and advantages."""
        remaining = iter(self.rewarded([rollout for siblings in rollouts for rollout in siblings]))
        scored = [[next(remaining) for _ in siblings] for siblings in rollouts]
        values = advantages(
            [[rollout.reward for rollout in siblings] for siblings in scored],
            [[rollout.rewards for rollout in siblings] for siblings in scored],
            {} if self.rubric is None else dict(zip(self.rubric.names, self.rubric.weights, strict=True)),
            estimator=self.estimator, scale_rewards=self.scale_rewards,
        )
        return [
            Group(prompt=siblings[0].prompt, rollouts=tuple(
                replace(rollout, advantage=value) for rollout, value in zip(siblings, group, strict=True)))
            for siblings, group in zip(scored, values, strict=True)
        ]

    def rewarded(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The rollouts with their rewards; as they are if there is no rubric."""
        return list(rollouts) if self.rubric is None else self.rubric.score(rollouts)

    def _open(self, prompt: Prompt, seeds: Sequence[int]) -> list[_Attempt]:
        """The siblings of a prompt, which is rendered once for all of them."""
        messages = self.environment.reset(prompt)
        text = self.policy.render_text(messages)
        ids, prefilled = self.policy.encode(text), self.policy.prefilled(text)
        return [_Attempt(prompt, seed, list(messages), ids, prefilled) for seed in seeds]

    def _play(
        self, groups: Sequence[Sequence[_Attempt]], params: SamplingParams, on_progress: Progress | None
    ) -> list[list[_Attempt]]:
        """One turn of every attempt; returns those to which the environment replied, one by one (their contexts differ now)."""
        requests = [
            Request(prompt_ids=group[0].context(), seeds=tuple(_seed(attempt.seed, len(attempt.turns), 0) for attempt in group))
            for group in groups
        ]
        answers = self.engine.generate(requests, params, on_progress=on_progress)
        pairs = [
            pair for group, completions in zip(groups, answers, strict=True) for pair in zip(group, completions, strict=True)
        ]
        return [[attempt] for attempt, completion in pairs if self._answer(attempt, completion)]

    def _answer(self, attempt: _Attempt, completion: Completion) -> bool:
        """Add a completion to an attempt; True if the environment replied and the attempt goes on."""
        attempt.turns.append(Turn(prompt_ids=attempt.next_prompt, completion=completion))
        attempt.text = self.policy.decode(completion.token_ids)
        before = list(attempt.messages)
        attempt.messages.append({"role": "assistant", "content": attempt.prefilled + attempt.text})
        last_turn = len(attempt.turns) == self.environment.max_turns
        reply = None if completion.truncated or last_turn else self.environment.respond(attempt.prompt, tuple(attempt.messages))
        if reply is None:
            return False
        ended = completion.token_ids[-1] in self.policy.end_ids
        attempt.next_prompt = self.policy.render_reply(before, reply, ended=ended)
        attempt.messages.extend(reply)
        return True


def _close(attempt: _Attempt) -> Rollout:
    return Rollout(
        prompt=attempt.prompt, turns=tuple(attempt.turns), text=attempt.text, prefilled=attempt.prefilled,
        messages=tuple(attempt.messages),
    )


def _seed(*parts: int) -> int:
    """A 63-bit seed from small integers, the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
