"""The loop: sample, score, update, record. Every side concern is an object made elsewhere and called in one line here.

The trainer writes to the run and knows no viewer. What it draws in a step depends on (seed, step) alone; what it has learnt is in
the weights, the optimizer and four counters: so a run that is killed goes on from its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from heron.config.schema import Config
from heron.data import GrowingCursor, PromptCursor
from heron.errors import AlertStop, EngineError, IdentityError, MemoryStop, RewardError, RunError, SaveError
from heron.kernels.matmul import Route, using
from heron.models.policy import Policy
from heron.rollout import Collector
from heron.run import RunWriter, Watchman
from heron.training.dividing import divided
from heron.training.evaluation import Evaluator
from heron.training.footprint import Footprint
from heron.training.gathering import Gathering
from heron.training.growth import FixedRows, Rows
from heron.training.guarding.dry_step import DryStep, is_wanted
from heron.training.guarding.guard import Guard
from heron.training.guarding.identities import Identities
from heron.training.guarding.rescue import Rescue
from heron.training.interrupt import StopNow, StopRequest, stop_on_interrupt
from heron.training.keeping import Draws, Keeper, Snapshot, TrainState
from heron.training.keeping.best import best_step
from heron.training.keeping.context import Context
from heron.training.optimizer import learning_rate, resting, set_learning_rate
from heron.training.samples import Weighing
from heron.training.statistics import rollout_metrics, staleness
from heron.training.timing import StepClock, peak_gib
from heron.training.updater import Updater
from heron.training.whole import Moves, whole_step
from heron.types import Group, Prompt

SAVED_AT = (RewardError, AlertStop, MemoryStop, IdentityError, EngineError, StopNow)
"""What ends a run between two steps, or in one before the weights have moved."""


@dataclass(slots=True, kw_only=True)
class Trainer:
    """One run, assembled and ready. `train()` is the whole of it."""

    config: Config
    """Frozen settings."""
    prompts: Sequence[Prompt]
    """What is trained on."""
    cursor: PromptCursor | GrowingCursor
    """Which of them in which step."""
    policy: Policy
    """What is trained."""
    collector: Collector
    """Prompts to scored groups."""
    updater: Updater
    """Scored groups to optimizer steps."""
    weighing: Weighing
    """How the tokens of an optimizer step are counted."""
    evaluator: Evaluator | None
    """Held-out problems; None if evaluation is switched off."""
    run: RunWriter
    """Where everything is recorded."""
    keeper: Keeper
    """Saves everything."""
    context: Context
    """What a checkpoint says besides what the trainer has changed."""
    state: TrainState
    """The only counters."""
    evaluations: dict[str, dict[str, float]]
    """Totals by name: `before`, `after`, `step-000020`."""
    rescue: Rescue
    """The sizes that work is cut into, and what halves them where memory runs out."""
    draws: Draws = field(default_factory=Draws.taken)
    """The random generators after the last finished step."""
    route: Route = field(default_factory=Route)
    """How float32 matrices are multiplied on a CPU."""
    footprint: Footprint | None = None
    """Memory as it was planned, to compare after a run's first step; None in a run that goes on."""
    watchman: Watchman | None = None
    """Looks for what goes wrong in silence."""
    rows: Rows = field(default_factory=FixedRows)
    """Looks for rows that have come."""
    stop: StopRequest = field(default_factory=StopRequest)
    """Set by Ctrl-C."""
    moves: Moves = field(default_factory=Moves)
    """Of the step under way."""
    is_torn: bool = False
    """Weights have moved in a step that then failed: they belong to no step, and are not saved."""

    def train(self) -> dict[str, Any]:
        """Run to the end, or to the first Ctrl-C; returns the summary. Whatever ends it early is recorded before it is raised."""
        began = time.perf_counter() - self.state.seconds
        with using(self.route), stop_on_interrupt(self.config.train.term_deadline) as self.stop:
            try:
                self._rehearse()
                self._evaluate("before")
                self._evaluate_if_due()  # what ended the last sitting may have been this evaluation
                while self.state.step < self.config.train.last_step and not self.stop.is_set:
                    self.rows.take(self.state)
                    with whole_step(self) as self.moves:
                        self.step()
                        self.rows.settle(self.state)
                    self._evaluate_if_due()
                    self._save_if_due()
                    self._heed_alerts()
                return self._finish(began)
            except BaseException as error:
                ending = self._ending(error)
                self._abandon(ending, began)
                if ending is error:
                    raise
                raise ending from error

    def step(self) -> None:
        """Sample, score, update and record once."""
        clock = StepClock()
        number = self.state.step + 1
        with self._optimizer_at_rest():
            gathered = self._gathering().gather(number, self.state, clock)
        groups = gathered.groups
        with clock.phase("record"):
            metrics = (rollout_metrics(groups, self.weights) if groups else {}) | gathered.metrics
        if self.config.rollout.partial_tokens:
            metrics |= staleness(groups, self.policy.version) | {"groups/carried": len(self.state.in_flight)}
        with clock.phase("train"):
            trained_tokens, update = self._update(number, groups)
        self.moves.begin()  # also where no weight has: what is recorded from here on is of a finished step
        self.state.num_tokens += gathered.sampled
        metrics |= update | {"num_tokens": self.state.num_tokens, "memory/peak_gib": peak_gib()} | self._planned()
        with clock.phase("record"):
            self.run.rollouts(number, groups)
        times = clock.metrics(sampled_tokens=gathered.sampled, trained_tokens=trained_tokens)
        self.state.seconds += times["time/step"]
        self.run.log(number, metrics | times)
        if number == 1 and self.footprint is not None:
            self.footprint.record(self.run)
        self.state.step = number
        self.draws = Draws.taken()

    @property
    def saved_step(self) -> int | None:
        """Step of the newest checkpoint; None while there is none."""
        return self.keeper.saved_step

    @property
    def weights(self) -> dict[str, float]:
        """Reward functions by name."""
        rubric = self.collector.rubric
        assert rubric is not None, "a trainer has one"
        return dict(zip(rubric.names, rubric.weights, strict=True))

    def _planned(self) -> dict[str, float]:
        """The memory that was planned, beside what is measured."""
        planned = self.footprint.planned if self.footprint is not None else None
        return {"memory/planned_gib": planned.peak / 2**30} if planned is not None else {}

    def _rehearse(self) -> None:
        """The dry step, where it is wanted."""
        if not is_wanted(self.config, self.policy.device) or self.state.step >= self.config.train.last_step:
            return
        self.rescue.step = self.state.step + 1
        dry = DryStep(
            config=self.config, policy=self.policy, engine=self.collector.engine, updater=self.updater, rescue=self.rescue, run=self.run,
            planned=self.footprint.planned if self.footprint is not None else None,
        )
        dry.rehearse(self.collector.environment.max_turns)

    def _update(self, number: int, groups: Sequence[Group]) -> tuple[int, dict[str, float]]:
        """Train on the groups; returns the number of packed tokens and what was measured. No signal, no step."""
        identities = self._identities()
        if identities is not None:
            identities.of_rollouts(groups)
        applied = self.state.entropy.applied
        weighing = replace(self.weighing, keep_all=self.weighing.keep_all or applied > 0)
        minibatches = divided(
            groups, weighing, policy=self.policy, budget=self.rescue.micro_batch_tokens,
            entropy_of=self.weighing if self.config.objective.use_adaptive_entropy else None, witness=identities,
        )
        rate = learning_rate(number, self.config.train)
        set_learning_rate(self.updater.optimizer, rate)
        self.policy.model.train(self.config.model.recomputes)
        outcome = self.updater.run(
            minibatches, self.state.entropy, report=self._progress("train"), relief=self.rescue, witness=identities
        )
        self.state.entropy = outcome.entropy
        self.state.policy_version += outcome.steps
        if outcome.skipped:
            self.moves.begin()  # earlier weights may come back
        guarded = self._guard().heed(number, groups, outcome.skipped, self.state, taken=outcome.steps)
        self.policy.version = self.state.policy_version
        self.collector.engine.sync()
        rollouts = sum(len(group.rollouts) for group in groups)
        trained = {"frac_rollouts_trained": sum(batch.num_rows for batch in outcome.batches) / rollouts} if rollouts else {}
        if outcome.batches:
            trained["packing/shared"] = 1 - outcome.tokens / sum(batch.unshared for batch in outcome.batches)
        bonus = {"entropy_coef": applied} if self.weighing.uses_entropy_bonus else {}
        tokens = outcome.tokens * self.config.objective.num_iterations
        return tokens, outcome.measured | bonus | trained | {"learning_rate": rate} | guarded | self.rescue.metrics()

    def _identities(self) -> Identities | None:
        """What is checked in each step; None if it is switched off."""
        if not self.config.train.check_identities:
            return None
        return Identities(
            policy=self.policy, collector=self.collector, optimizer=self.updater.optimizer, temperature=self.config.rollout.temperature,
            max_completion_length=self.config.rollout.max_completion_length, is_on_policy=not self.config.rollout.partial_tokens,
        )

    def _gathering(self) -> Gathering:
        return Gathering(
            config=self.config, prompts=self.prompts, cursor=self.cursor, collector=self.collector, rescue=self.rescue, report=self._report,
        )

    def _guard(self) -> Guard:
        return Guard(config=self.config, run=self.run, policy=self.policy, optimizer=self.updater.optimizer, keeper=self.keeper)

    def _optimizer_at_rest(self) -> AbstractContextManager[None]:
        """While answers are sampled, its state may be on the host."""
        return resting(self.updater.optimizer) if self.config.train.offload_optimizer else nullcontext()

    def _evaluate_if_due(self) -> None:
        every = self.config.evaluation.steps
        is_due = every and self.state.step and self.state.step % every == 0 and self.state.step < self.config.train.last_step
        if is_due and not self.stop.is_set:  # a resumed run begins with it
            self._evaluate(f"step-{self.state.step:06d}")

    def _evaluate(self, name: str) -> None:
        """Measure the held-out problems, once per name."""
        if self.evaluator is None or name in self.evaluations:
            return
        with self._optimizer_at_rest():
            measure, answers = functools.partial(self.evaluator.measure, self._progress("evaluate")), self.evaluator.num_answers
            rows, totals = self.rescue.sampling("evaluating", self.collector.engine, answers, measure)
        self.draws.put()  # so that training draws the same ones, whenever it is measured
        self.stop.insist()
        with self.stop.held():
            self.evaluations[name] = totals | {"step": self.state.step}
            self.run.evaluation(name, rows, self.evaluations[name])

    def _heed_alerts(self) -> None:
        """End the run if the watchman has seen what was to end it."""
        alert = self.watchman.heeded if self.watchman is not None else None
        if alert is not None and self.state.step < self.config.train.last_step:
            raise AlertStop(f"Stopped after step {self.state.step} by the alert {alert.id}, which train.strict names: {alert.evidence}. "
                            f"{alert.advice}")

    def _save_if_due(self) -> None:
        with self.stop.held():
            self.keeper.poll()
        every, step = self.config.train.save_steps, self.state.step
        is_due = (every and step % every == 0) or self._best_step() == step
        if is_due and not self.state.broken_in_a_row:  # the same weights would drive out the others
            self._save()

    def _save(self) -> None:
        """Begin to write a checkpoint of the last finished step, unless there is one."""
        if self.keeper.has(self.state.step):
            return
        with self.stop.held():
            self.run.progress("save", 0, 1)
            self.keeper.save(self._snapshot, best=self._best_step())

    def _snapshot(self) -> Snapshot:
        return Snapshot.taken(
            self.policy, self.updater.optimizer, self.state, self.draws, config=self.context.config, origin=self.context.origin,
            about=self.context.about(self.config, self.cursor, self.state, self.run.position()),
        )

    def _best_step(self) -> int | None:
        """The step whose checkpoint is kept beside the newest ones."""
        return best_step(self.evaluations, self.config.train.keep_best)

    def _finish(self, began: float) -> dict[str, Any]:
        """Measure again, save the model, write the summary. An interrupted run skips the measurement and can be resumed."""
        self._save()
        done = self.state.step >= self.config.train.last_step
        if done:
            self._evaluate("after")
        self.stop.hold()  # for good: nothing is under way any more that could be given up
        self.keeper.settle()
        self.keeper.mark_best(self._best_step())
        self.keeper.save_model(self.run.path / "model", self.policy.save)
        if not done:
            self.run.event("message", text=f"Stopped after step {self.state.step}, which is saved.")
        summary = self._summary("finished" if done else "interrupted", began)
        self.run.finish(summary["status"], summary)
        return summary

    def _ending(self, error: BaseException) -> BaseException:
        """A signal that went to all processes of the run ends workers and servers before the step: the signal is why it ends."""
        if self.stop.number is None or not isinstance(error, RewardError | EngineError):
            return error
        return StopNow(self.stop.number)

    def _abandon(self, error: BaseException, began: float) -> None:
        """Record why the run ended. What ends it between two steps, or before the weights have moved in one, loses no step: these are
        saved. Where the record itself cannot be written, the error that says so is the one that is raised."""
        self.stop.hold()
        try:
            if isinstance(error, SAVED_AT) and not self.is_torn:
                self._save()
            self.keeper.wait()
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self.run.event("message", text=f"Stopped in step {self.state.step + 1}; resuming goes on after step {self.saved_step or 0}.")
            self.run.finish(status, self._summary(status, began) | {"error": f"{type(error).__name__}: {error}"})
        except (RunError, SaveError) as another:
            error.add_note(str(another))
            self.run.close()

    def _summary(self, status: str, began: float) -> dict[str, Any]:
        return {
            "run": self.run.path.name, "status": status, "recipe": self.config.recipe, "model": self.config.model.name,
            "seed": self.config.train.seed, "steps": self.state.step, "seconds": time.perf_counter() - began,
            "training_seconds": self.state.seconds, "num_tokens": self.state.num_tokens, "evaluation": dict(self.evaluations),
            **({"stopped_by": self.stop.signal_name} if self.stop.is_set and status == "interrupted" else {}),
        }

    def _progress(self, phase: str) -> Callable[[int, int], None]:
        return functools.partial(self._report, phase)

    def _report(self, phase: str, done: int, total: int) -> None:
        self._announce_stop()
        self.run.progress(phase, done, total)

    def _announce_stop(self) -> None:
        """Say once that Ctrl-C was heard."""
        if self.stop.is_set and not self.stop.is_announced:
            self.stop.is_announced = True
            with self.stop.held():
                self.run.event("message", text=self.stop.announcement(self.saved_step, self.config.train.term_deadline))
