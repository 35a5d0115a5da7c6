"""Drive engine and environment until every attempt at every prompt is done, then score.

The one hard idea: a rollout is a growing list of token ids. What the model said is kept as it was sampled, what the environment
replied is appended as tokens; nothing is ever rendered again. A single-turn task is the case where no environment replies. Completions
arrive as they finish, so a group can be scored while others are still sampled; results are in the order of the prompts all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from heron.engine.protocol import Engine, Progress, Request, SamplingParams
from heron.environments import Environment
from heron.models.policy import Policy
from heron.objective import Estimator, advantages, find_estimator
from heron.rewards import Rubric
from heron.rollout import replies
from heron.rollout.attempts import Attempt, OnGroup, OpenGroups
from heron.rollout.in_flight import InFlight
from heron.rollout.partial import advance
from heron.rollout.scoring import BackgroundScoring, Clock, NoClock
from heron.rollout.seeds import derived_seed
from heron.rollout.verdicts import Verdicts
from heron.types import Completion, Group, Prompt, Rollout, Turn

Report = Callable[[str, int, int], None]
"""Called with a phase (`sample`, `score`), what is done of it, and all of it."""
Sampling = Callable[[OnGroup, Progress], list[list[Rollout]]]
"""Rollouts by groups, unscored; it tells of each group when it is complete, and of every token."""


def _nothing(*_: object) -> None:
    """Nobody listens."""


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
    verdicts: Verdicts | None = None
    """Right or not, apart from the reward; None where nobody asks."""
    overlap: bool = False
    """`collect` scores each group in a thread beside the sampler, as soon as it is complete; else all groups at once, behind it."""

    def collect(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, siblings: int, seed: int, clock: Clock | None = None,
        report: Report = _nothing,
    ) -> list[Group]:
        """Sample and score. The phases `sample` and `score` are clocked; `score` is what sampling had to wait for."""

        def sample(on_group: OnGroup, on_token: Progress) -> list[list[Rollout]]:
            return self.sample(prompts, params, siblings=siblings, seed=seed, on_progress=on_token, on_group=on_group)

        return self._scored(sample, clock or NoClock(), report)

    def collect_portions(
        self, flights: Sequence[InFlight], prompts: Sequence[Prompt], params: SamplingParams, *, tokens: int, clock: Clock | None = None,
        report: Report = _nothing,
    ) -> tuple[list[Group], list[InFlight]]:
        """Sample at most `tokens` more of every open completion of groups in flight; returns the complete groups, scored, and the others.

        `prompts` are those of the groups. Only where no environment replies.
        """
        assert self.environment.max_turns == 1, "a conversation cannot be paused"
        after = list(flights)

        def sample(on_group: OnGroup, on_token: Progress) -> list[list[Rollout]]:
            attempts = [self._open(number, prompt, after[number].seeds) for number, prompt in enumerate(prompts)]
            contexts = [siblings[0].context() for siblings in attempts]
            with self.engine.awake():
                for number, sibling, completion in advance(
                    self.engine, flights, contexts, params, tokens=tokens, on_progress=on_token
                ):
                    after[number] = after[number].with_said({sibling: completion})
                    if not after[number].open:
                        on_group(number, self._said(attempts[number], after[number]))
            return [[attempt.rollout() for attempt in siblings] for siblings in attempts if siblings[0].turns]

        groups = self._scored(sample, clock or NoClock(), report)
        return groups, [flight for flight in after if flight.open]

    def sample(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, siblings: int, seed: int, on_progress: Progress | None = None,
        on_group: OnGroup = _nothing,
    ) -> list[list[Rollout]]:
        """`siblings` unscored rollouts of each prompt. The seed and the prompt's place decide what is drawn."""
        groups = [
            self._open(number, prompt, [derived_seed(seed, number, sibling) for sibling in range(siblings)])
            for number, prompt in enumerate(prompts)
        ]
        waiting, still_open = groups, OpenGroups(groups, on_group)
        with self.engine.awake():
            for _ in range(self.environment.max_turns):
                waiting = self._play(waiting, params, still_open, on_progress)
                if not waiting:
                    break
        return [[attempt.rollout() for attempt in group] for group in groups]

    def score(self, rollouts: Sequence[Sequence[Rollout]]) -> list[Group]:
        """Groups with rewards and advantages. Every reward function sees all of them in one call."""
        remaining = iter(self.rewarded([rollout for siblings in rollouts for rollout in siblings]))
        return self.compared([[next(remaining) for _ in siblings] for siblings in rollouts])

    def compared(self, scored: Sequence[Sequence[Rollout]]) -> list[Group]:
        """Groups with advantages, of rollouts that have their rewards."""
        return [self._group(siblings, group) for siblings, group in zip(scored, self.advantages_of(scored), strict=True)]

    def advantages_of(self, scored: Sequence[Sequence[Rollout]]) -> list[list[float]]:
        """One for each rollout, from the rewards of all of them."""
        return advantages(
            [[rollout.reward for rollout in siblings] for siblings in scored],
            [[rollout.rewards for rollout in siblings] for siblings in scored],
            {} if self.rubric is None else dict(zip(self.rubric.names, self.rubric.weights, strict=True)),
            estimator=self.estimator, scale_rewards=self.scale_rewards,
        )

    def _group(self, siblings: Sequence[Rollout], values: Sequence[float]) -> Group:
        """Rollouts with their advantages, and what is known of them besides."""
        marks = self.verdicts.marks(siblings) if self.verdicts is not None else [{} for _ in siblings]
        return Group(prompt=siblings[0].prompt, rollouts=tuple(
            replace(rollout, advantage=value, **known) for rollout, value, known in zip(siblings, values, marks, strict=True)))

    def rewarded(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The rollouts with their rewards; as they are if there is no rubric."""
        return list(rollouts) if self.rubric is None else self.rubric.score(rollouts)

    def _open(self, group: int, prompt: Prompt, seeds: Sequence[int]) -> list[Attempt]:
        """The siblings of a prompt, which is rendered once for all of them."""
        messages = replies.opening(self.environment, prompt, self.environment.start(prompt))
        text = self.policy.render_text(messages)
        ids, prefilled = self.policy.encode(text), self.policy.prefilled(text)
        return [Attempt(group, prompt, seed, replies.copied([*messages]), ids, prefilled) for seed in seeds]

    def _said(self, siblings: Sequence[Attempt], flight: InFlight) -> list[Rollout]:
        """The rollouts of a complete group."""
        for attempt, completion in zip(siblings, flight.said, strict=True):
            assert completion is not None, "the group is complete"
            self._answer(attempt, completion, room=0)
        return [attempt.rollout() for attempt in siblings]

    def _scored(self, sample: Sampling, clock: Clock, report: Report) -> list[Group]:
        """What `sample` makes, scored behind it or beside it."""

        def on_token(done: int, total: int) -> None:
            report("sample", done, total)

        if not self.overlap:
            with clock.phase("sample"):
                rollouts = sample(_nothing, on_token)
            with clock.phase("score"):
                report("score", 0, 1)
                return self.score(rollouts)
        with BackgroundScoring(self.rewarded) as scoring:
            with clock.phase("sample"):
                sample(scoring.take, scoring.checked(on_token))
            with clock.phase("score"):
                report("score", 0, 1)
                groups = self.compared(scoring.results())
        clock.beside("score", scoring.overlapped)
        return groups

    def _play(
        self, groups: Sequence[Sequence[Attempt]], params: SamplingParams, still_open: OpenGroups, on_progress: Progress | None
    ) -> list[list[Attempt]]:
        """One turn of every attempt; returns those to which the environment replied, one by one (their contexts differ now)."""
        requests = [
            Request(prompt_ids=group[0].context(), seeds=tuple(derived_seed(a.seed, len(a.turns), 0) for a in group)) for group in groups
        ]
        goes_on: set[tuple[int, int]] = set()
        for finished in self.engine.stream(requests, params, on_token=on_progress):
            attempt = groups[finished.request][finished.sibling]
            if self._answer(attempt, finished.completion, room=params.max_tokens):
                goes_on.add((finished.request, finished.sibling))
            else:
                still_open.close(attempt)
        return [[groups[request][sibling]] for request, sibling in sorted(goes_on)]

    def _answer(self, attempt: Attempt, completion: Completion, *, room: int) -> bool:
        """Add a completion to an attempt; True if the environment replied and the attempt goes on, with `room` for another answer."""
        attempt.turns.append(Turn(prompt_ids=attempt.next_prompt, completion=completion))
        attempt.text = self.policy.decode(completion.token_ids)
        before = list(attempt.messages)
        attempt.messages.append({"role": "assistant", "content": attempt.prefilled + attempt.text})
        said = tuple(replies.copied(attempt.messages))
        if completion.truncated or len(attempt.turns) == self.environment.max_turns or self.environment.done(attempt.prompt, said):
            return False
        reply = replies.reply(self.environment, attempt.prompt, self.environment.step(attempt.prompt, said))
        ended = completion.token_ids[-1] in self.policy.end_ids
        attempt.next_prompt = self.policy.render_reply(before, reply, ended=ended)
        longest = self.policy.context_length
        if longest is not None and len(attempt.context()) + room > longest:
            attempt.cut = True
            return False
        attempt.messages.extend(reply)
        return True
