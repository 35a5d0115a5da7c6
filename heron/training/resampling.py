"""Groups without a signal replaced by groups of further prompts: dynamic sampling (DAPO, arXiv 2503.14476, section 3.2).

The one hard idea: what is drawn stays a function of the seed, the step and the round, and the rows are the next ones of the same endless
order that every step reads on from; where that is has to be counted, since a step may now take more rows than its share. The count is in
the run's state, and changes when the whole step has been sampled.

The rewards of a step are then those of the groups that were chosen for their signal. `resampling/reward_of_all` is the mean over all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heron.run.averages import mean
from heron.types import Group

Draw = Callable[[int, int], list[Group]]
"""So many new groups, of this round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """The groups of a step, and what they cost."""

    groups: list[Group]
    """As many as there were, in their order; those that have been replaced are of other prompts."""
    extra: int
    """Groups that were sampled besides the first ones."""
    tokens: int
    """Sampled, of all groups."""
    metrics: dict[str, float]
    """`resampling/*`."""


def resampled(first: Sequence[Group], draw: Draw, *, rounds: int) -> Resampled:
    """Replace groups without a signal by new ones that have one, in at most so many rounds."""
    groups, everything, done = list(first), list(first), 0
    while (idle := [place for place, group in enumerate(groups) if not group.has_signal]) and done < rounds:
        done += 1
        drawn = draw(len(idle), done)
        everything += drawn
        for place, group in zip(idle, (group for group in drawn if group.has_signal), strict=False):
            groups[place] = group
    rewards = [rollout.reward for group in everything for rollout in group.rollouts if rollout.reward is not None]
    extra = len(everything) - len(first)
    return Resampled(
        groups=groups, extra=extra, tokens=sum(rollout.length for group in everything for rollout in group.rollouts),
        metrics={"resampling/rounds": float(done), "resampling/extra_groups": float(extra), "resampling/left": float(len(idle))}
        | ({"resampling/reward_of_all": mean(rewards)} if rewards else {}),
    )
