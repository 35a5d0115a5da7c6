"""What a `GRPOTrainer` tells while it trains: `state.log_history` under TRL's names, and `TrainerCallback`s.

The one hard idea: it is a listener of the run, so the loop knows nothing of it. What a callback raises must end the training all the same,
which a listener cannot do: the error is kept, the loop is asked to stop after the step, and `raise_kept` raises it once the run is closed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from heron.compat.trl.naming import means, named
from heron.errors import ConfigError

Event = Callable[..., Any]
EVENTS = (
    "on_init_end", "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_step_begin", "on_step_end", "on_log", "on_save",
    "on_evaluate",
)
"""What a callback may hear."""
UNHEARD = ("on_pre_optimizer_step", "on_optimizer_step", "on_substep_end", "on_prediction_step", "on_predict", "on_push_begin")
"""What it could hear of transformers' Trainer, and not here."""


@dataclass(slots=True, kw_only=True)
class State:
    """`trainer.state`, and what reward functions get as `trainer_state`: the part of transformers' `TrainerState` that exists here."""

    global_step: int = 0
    """Optimizer steps so far."""
    max_steps: int = 0
    """Optimizer steps in all."""
    epoch: float = 0.0
    """Passes over the dataset so far."""
    num_train_epochs: float = 0.0
    """Passes in all."""
    logging_steps: float = 0
    """Steps between two entries of the history."""
    log_history: list[dict[str, Any]] = field(default_factory=list)
    """What was logged."""
    best_metric: float | None = None
    """Always None: the last checkpoint is kept, not the best."""
    is_world_process_zero: bool = True
    is_local_process_zero: bool = True


@dataclass(slots=True, kw_only=True)
class Control:
    """What a callback may ask for. `should_save` and `should_epoch_stop` cannot be honoured, and are errors."""

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False


class Follower:
    """Hears a run's records and tells callbacks. `stop` asks the loop to end, `evaluate` measures."""

    def __init__(
        self, callbacks: Sequence[Any], args: Any, state: State, *, per_epoch: int, keywords: Callable[[], Mapping[str, Any]],
        stop: Callable[[], None], evaluate: Callable[[], Any],
    ) -> None:
        self.control = Control()
        self.callbacks = [checked(each) for each in callbacks]
        self._args, self._state, self._per_epoch = args, state, per_epoch
        self._keywords, self._stop, self._evaluate = keywords, stop, evaluate
        self._since: list[dict[str, float]] = []
        self._losses: list[float] = []
        self._error: BaseException | None = None
        self._began, self._begun_at = time.perf_counter(), 0

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Listen to the run."""
        if self._error is not None or kind not in ("metrics", "checkpoint"):
            return
        try:
            self._stepped(payload) if kind == "metrics" else self.tell("on_save")
        except Exception as error:  # boundary: a callback's error must end the training, and not only this listener
            self._error = error
            self._stop()

    def begin(self) -> None:
        """The training is about to start."""
        self._began, self._begun_at = time.perf_counter(), self._state.global_step
        self.tell("on_train_begin")
        if self._args.eval_on_start:
            self._evaluate()
        self._open()

    def end(self) -> dict[str, float]:
        """The training is over: the last entry of the history, the mean loss of all steps in it."""
        self.raise_kept()
        seconds, steps = time.perf_counter() - self._began, self._state.global_step - self._begun_at
        samples = steps * self._args.per_device_train_batch_size * self._args.gradient_accumulation_steps
        metrics = {
            "train_runtime": seconds, "train_samples_per_second": samples / seconds, "train_steps_per_second": steps / seconds,
            "train_loss": fmean(self._losses) if self._losses else float("nan"),
        }
        self.log(metrics)
        self.tell("on_train_end")
        return metrics | {"epoch": self._state.epoch}

    def pop(self, callback: Any) -> Any:
        """Out of the callbacks: this one, or the first of this class."""
        for number, each in enumerate(self.callbacks):
            if each is callback or (isinstance(callback, type) and isinstance(each, callback)):
                return self.callbacks.pop(number)
        warnings.warn(f"There is no callback {callback!r} to take away: here are none but those that were given. The live view is left out "
                      "by GRPOConfig(disable_tqdm=True), trackers by report_to='none'.", stacklevel=3)
        return None

    def raise_kept(self) -> None:
        """What a callback raised while the loop ran."""
        if self._error is not None:
            raise self._error

    def recall(self, records: Sequence[Mapping[str, Any]]) -> None:
        """The history of a run that goes on, as its record has it; callbacks do not hear of it again."""
        callbacks, self.callbacks = self.callbacks, []
        for record in records:
            if self._is_log_due(self._advance(record)):
                self._log_means()
        self.callbacks = callbacks

    def log(self, values: Mapping[str, Any]) -> None:
        """An entry of the history, which callbacks hear of."""
        logs = dict(values) | {"epoch": self._state.epoch}
        self._state.log_history.append({**logs, "step": self._state.global_step})
        self.tell("on_log", logs=logs)

    def tell(self, event: str, **more: Any) -> None:
        """Call every callback that has it, and heed what it asks for."""
        for callback in self.callbacks:
            hear = getattr(callback, event, None)
            if hear is not None:
                answer = hear(self._args, self._state, self.control, **self._keywords(), **more)
                self.control = self.control if answer is None else answer
        if self.control.should_save or self.control.should_epoch_stop:
            raise ConfigError("A callback set control.should_save or control.should_epoch_stop, which are not heeded here. Set save_steps "
                              "in GRPOConfig; to end the training, set control.should_training_stop.")
        if self.control.should_training_stop:
            self._stop()

    def _stepped(self, record: Mapping[str, Any]) -> None:
        """One batch of rollouts was trained on."""
        args, state = self._args, self._state
        whole = self._advance(record)
        self.tell("on_step_end")
        if self._is_log_due(whole) or self.control.should_log:
            self._log_means()
        is_due = self._is_due(args.eval_strategy, args.eval_steps or args.logging_steps, whole, delay=args.eval_delay)
        if is_due or self.control.should_evaluate:
            self._evaluate()
        self.control.should_log = self.control.should_evaluate = False
        if whole:
            self.tell("on_epoch_end")
        if state.global_step < state.max_steps and not self.control.should_training_stop:
            self._open(epoch=whole)

    def _advance(self, record: Mapping[str, Any]) -> bool:
        """Count the step; True if an epoch ended with it."""
        before = int(self._state.epoch)
        self._state.global_step = record["step"] * self._args.optimizer_steps_per_batch
        self._state.epoch = self._state.global_step / self._per_epoch
        self._since.append(named(record, self._args.loss_type))
        self._losses += [self._since[-1]["loss"]] if "loss" in self._since[-1] else []
        return int(self._state.epoch) > before

    def _is_log_due(self, whole_epoch: bool) -> bool:
        args = self._args
        return self._is_due(args.logging_strategy, args.logging_steps, whole_epoch, first=args.logging_first_step)

    def _open(self, *, epoch: bool = True) -> None:
        if epoch:
            self.tell("on_epoch_begin")
        self.tell("on_step_begin")

    def _is_due(self, strategy: str, steps: float, whole_epoch: bool, *, first: bool = False, delay: float = 0) -> bool:
        """Whether it is time, as TRL counts: every so many optimizer steps (below 1: a share of all), or at the end of an epoch."""
        now, each = self._state.global_step, self._args.optimizer_steps_per_batch
        if strategy == "epoch":
            return whole_epoch and now >= delay
        every = steps if steps >= 1 else max(int(steps * self._state.max_steps), 1)
        if strategy != "steps" or now < delay:
            return False
        return (first and now == each) or int(now // every) > int((now - each) // every)

    def _log_means(self) -> None:
        """Means over the steps since the last entry."""
        found = means(self._since)
        self._since.clear()
        self.log(found)


def checked(callback: Any) -> Any:
    """An instance, of which every event that it means to hear is told here."""
    made = callback() if isinstance(callback, type) else callback
    unheard = [name for name in UNHEARD if _is_its_own(made, name)]
    if unheard:
        raise ConfigError(f"The callback {type(made).__name__} has {', '.join(unheard)}, which is never called here. There are "
                          f"{', '.join(EVENTS)}.")
    return made


def _is_its_own(callback: Any, name: str) -> bool:
    """Not what it has of transformers' TrainerCallback."""
    method = getattr(type(callback), name, None)
    return method is not None and not getattr(method, "__module__", "").startswith("transformers.")
