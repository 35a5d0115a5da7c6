"""The groups of a step: the next prompts in their order, sampled and scored.

Three ways, of which a config has one: a batch of the cursor; portions of every group in flight; a batch in which groups without a signal
are replaced. In each, what the state counts changes only when all of it has been sampled and scored: a reward that raises leaves it as
it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heron.config.schema import Config
from heron.data import GrowingCursor, PromptCursor
from heron.engine.protocol import SamplingParams
from heron.rollout import Collector
from heron.rollout.collect import Report
from heron.rollout.partial import begin, tokens_of
from heron.rollout.seeds import derived_seed
from heron.training.guarding.rescue import Rescue
from heron.training.keeping import TrainState
from heron.training.resampling import resampled
from heron.training.timing import StepClock
from heron.types import Group, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What a step trains on."""

    groups: list[Group]
    """Sampled and scored."""
    sampled: int
    """Tokens that were sampled for it."""
    metrics: dict[str, float]
    """What was measured of resampling; empty without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """Makes the groups of a step."""

    config: Config
    """Sizes, and which way."""
    prompts: Sequence[Prompt]
    """What is trained on."""
    cursor: PromptCursor | GrowingCursor
    """Their order."""
    collector: Collector
    """Prompts to scored groups."""
    rescue: Rescue
    """Samples fewer at once where memory runs out."""
    report: Report
    """Told how far it is."""

    def gather(self, number: int, state: TrainState, clock: StepClock) -> Gathered:
        """Of step `number`."""
        rollout = self.config.rollout
        seed = _step_seed(self.config.train.seed, number)
        self.rescue.step = number
        if rollout.partial_tokens:
            return self._portions(state, seed, clock)
        if rollout.resample_zero_signal:
            return self._with_signal(state, seed, clock)
        groups = self._sampled(self.cursor.batch(number), seed, clock)
        return Gathered(groups=groups, sampled=sum(rollout.length for group in groups for rollout in group.rollouts), metrics={})

    def _with_signal(self, state: TrainState, seed: int, clock: StepClock) -> Gathered:
        """Groups without a signal are replaced, as far as the bound allows."""
        size = self.config.train.prompts_per_step
        begun, drawn = state.prompts_begun, size
        first = self._sampled(self.cursor.window(begun, size), seed, clock)

        def draw(count: int, turn: int) -> list[Group]:
            nonlocal drawn
            rows, drawn = self.cursor.window(begun + drawn, count), drawn + count
            return self._sampled(rows, derived_seed(seed, turn), clock)

        found = resampled(first, draw, rounds=self.config.rollout.resample_zero_signal)
        state.prompts_begun = begun + drawn
        groups = self.collector.compared([group.rollouts for group in found.groups]) if found.extra else found.groups
        return Gathered(groups=groups, sampled=found.tokens, metrics=found.metrics)

    def _sampled(self, rows: Sequence[int], seed: int, clock: StepClock) -> list[Group]:
        """The groups of these rows, scored."""
        prompts, siblings = [self.prompts[row] for row in rows], self.config.rollout.num_generations
        return self.rescue.sampling("sampling", self.collector.engine, len(rows) * siblings, lambda: self.collector.collect(
            prompts, self._params, siblings=siblings, seed=seed, clock=clock, report=self.report,
        ))

    def _portions(self, state: TrainState, seed: int, clock: StepClock) -> Gathered:
        """A portion of every group in flight: those carried from the last step, and as many new ones as have room beside them."""
        rollout = self.config.rollout
        rows = self.cursor.window(state.prompts_begun, self.config.train.prompts_per_step - len(state.in_flight))
        flights = [*state.in_flight, *begin(rows, siblings=rollout.num_generations, seed=seed)]
        open_rows = sum(len(flight.open) for flight in flights)
        groups, carried = self.rescue.sampling("sampling", self.collector.engine, open_rows, lambda: self.collector.collect_portions(
            flights, [self.prompts[flight.row] for flight in flights], self._params, tokens=rollout.partial_tokens, clock=clock,
            report=self.report,
        ))
        complete = sum(rollout.length for group in groups for rollout in group.rollouts)
        sampled = complete + tokens_of(carried) - tokens_of(state.in_flight)
        state.prompts_begun, state.in_flight = state.prompts_begun + len(rows), carried
        return Gathered(groups=groups, sampled=sampled, metrics={})

    @property
    def _params(self) -> SamplingParams:
        rollout = self.config.rollout
        return SamplingParams(max_tokens=rollout.max_completion_length, temperature=rollout.temperature)


def _step_seed(seed: int, step: int) -> int:
    """Distinct for every (seed, step) that a run can have."""
    return seed * 1_000_003 + step
