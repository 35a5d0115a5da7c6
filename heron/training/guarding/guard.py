"""What happens after optimizer steps that were not taken, for a loss, a gradient or a ratio was not finite.

The one hard idea: a step that is skipped has changed nothing, so the weights that broke three batches in a row are the same weights each
time. Then it is they who are broken or about to be, and the run goes back, once, to the newest checkpoint with other weights; prompts are
not repeated, and nothing recorded is taken back: the record says in which step that was, and whose weights it goes on with. What has
happened is counted in the run's state, so a resumed run knows of it.

Left out: weights that are not finite themselves, which the engine notices before it samples anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from heron.config.schema import Config
from heron.errors import GuardStop
from heron.models.policy import Policy
from heron.run import RunWriter
from heron.training.guarding.dumps import dump
from heron.training.guarding.weights import put_back
from heron.training.keeping import Keeper, TrainState, fault_of, load_state, restore_optimizer
from heron.training.keeping.finding import checkpoints_in
from heron.training.updater import Skipped
from heron.types import Group

IN_A_ROW = 3
"""Steps with something that is not finite after which the run goes back."""
MOST_NAMES = 5
"""Weights that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Watches over the optimizer's steps of one run."""

    config: Config
    """Which model is loaded from a checkpoint."""
    run: RunWriter
    """Where it is recorded."""
    policy: Policy
    """Whose weights are put back."""
    optimizer: torch.optim.Optimizer
    """Whose moments are put back."""
    keeper: Keeper
    """May still be writing the checkpoint that is needed."""

    def heed(self, step: int, groups: Sequence[Group], skipped: Sequence[Skipped], state: TrainState, *, taken: int) -> dict[str, float]:
        """Record what was skipped in this step, and go back or stop where it was the third in a row. Returns metrics, if there are any."""
        if not skipped:
            state.broken_in_a_row = 0 if taken else state.broken_in_a_row  # no step tried, nothing learnt
            return {}
        state.broken_in_a_row += 1
        what = _described(skipped)
        about = {"not_finite": sorted({name for each in skipped for name in each.what}), "weights": list(skipped[0].weights)}
        path = dump(self.run.path, step, {**about, "policy_version": state.policy_version}, groups)
        kept = None if path is None else str(path.relative_to(self.run.path))
        self.run.event("skipped_step", step=step, optimizer_steps=len(skipped), dump=kept, in_a_row=state.broken_in_a_row, **about)
        where = f" Its answers are in {kept}." if kept else " There are dumps enough of earlier steps; this one was not kept."
        self.run.event("message", text=f"Step {step}: {what} not finite, so {len(skipped)} optimizer step(s) were not taken "
                                       f"({state.broken_in_a_row} of {IN_A_ROW} steps in a row).{where}")
        metrics = {"guard/skipped_steps": float(len(skipped))}
        return metrics if state.broken_in_a_row < IN_A_ROW else metrics | self._go_back(step, what, where, state)

    def _go_back(self, step: int, what: str, where: str, state: TrainState) -> dict[str, float]:
        """Weights, moments and entropy bonus of the newest checkpoint with other weights; everything else goes on."""
        path, past = self._newest_with_other_weights(state)
        words = f"In step {step}, for the {_ordinal(IN_A_ROW)} in a row, {what} not finite.{where}"
        advice = "Look at those answers, and begin a run with a lower train.learning_rate or train.max_grad_norm"
        if state.times_gone_back:
            raise GuardStop(f"{words} The run had gone back to earlier weights for this once already. {advice}.")
        if path is None or past is None:
            raise GuardStop(f"{words} There is no checkpoint with other weights to go back to. {advice}; train.save_steps writes "
                            "checkpoints more often.")
        put_back(self.policy, self.config, path)
        restore_optimizer(path, self.optimizer, self.policy.device)
        state.entropy = past.entropy
        state.policy_version += 1  # these weights after those: whatever was computed for a version must not be taken for theirs
        state.broken_in_a_row, state.times_gone_back = 0, state.times_gone_back + 1
        self.run.event("went_back", step=step, weights_of_step=past.step)
        self.run.event("message", text=f"Step {step}: the weights and the optimizer are those of step {past.step} again; what steps "
                                       f"{past.step + 1} to {step} taught is lost. The run goes on with new prompts, and stops the next "
                                       "time.")
        return {"guard/went_back_to": float(past.step)}

    def _newest_with_other_weights(self, state: TrainState) -> tuple[Path, TrainState] | tuple[None, None]:
        self.keeper.wait()
        for path in reversed(checkpoints_in(self.keeper.folder)):
            if fault_of(path) is None and (past := load_state(path)).policy_version < state.policy_version:
                return path, past
        return None, None


def _described(skipped: Sequence[Skipped]) -> str:
    """`the loss and the gradient were`, with the first weights by name."""
    what = sorted({name for each in skipped for name in each.what})
    names = skipped[0].weights
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    of = f" (of {', '.join(names[:MOST_NAMES])}{more})" if names else ""
    return " and ".join(f"the {name}{of if name == 'gradient' else ''}" for name in what) + (" were" if len(what) > 1 else " was")


def _ordinal(number: int) -> str:
    return {2: "second time", 3: "third time"}.get(number, f"{number}th time")
