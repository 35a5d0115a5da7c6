"""What became of a step's groups: how many were solved, how strongly they pull, and which reward function makes the difference.

The one hard idea: a reward function matters as far as it tells siblings apart. Its share is the covariance of its weighted score with
the total within groups, over the total's variance: the shares add up to 1, and one below 0 works against the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from heron.run.averages import mean
from heron.types import Group, Rollout


def solved(groups: Sequence[Group]) -> dict[str, float]:
    """`groups/all_right`, `mixed` and `all_wrong`, `pass@1` and `pass@k`, over the groups that have verdicts; nothing without."""
    rates = [fmean(rollout.verdict == "right" for rollout in group.rollouts) for group in groups if _is_judged(group)]
    if not rates:
        return {}
    right, wrong = (fmean(rate == end for rate in rates) for end in (1.0, 0.0))
    return {
        "groups/all_right": right, "groups/mixed": fmean(0 < rate < 1 for rate in rates), "groups/all_wrong": wrong,
        "pass@1": fmean(rates), "pass@k": 1 - wrong,
    }


def advantage_spread(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """`advantages/*`."""
    values = [rollout.advantage for rollout in rollouts]
    return {
        "advantages/abs_mean": mean([abs(value) for value in values]), "advantages/min": min(values), "advantages/max": max(values),
        "advantages/positive": fmean(value > 0 for value in values), "advantages/zero": fmean(value == 0 for value in values),
    }


def shares(groups: Sequence[Group], weights: Mapping[str, float]) -> dict[str, float]:
    """`rewards/<name>/share`; nothing where no two siblings differ."""
    together = dict.fromkeys(weights, 0.0)
    variance = 0.0
    for group in groups:
        scored = [rollout for rollout in group.rollouts if rollout.reward is not None]
        totals = _centred([rollout.reward or 0.0 for rollout in scored])
        variance += sum(total * total for total in totals)
        for name, weight in weights.items():
            scores = _centred([weight * (rollout.rewards.get(name) or 0.0) for rollout in scored])
            together[name] += sum(score * total for score, total in zip(scores, totals, strict=True))
    return {f"rewards/{name}/share": value / variance for name, value in together.items()} if variance > 1e-12 else {}


def duplicates(groups: Sequence[Group]) -> float:
    """Share of rollouts that repeat an earlier sibling word for word, in every turn."""
    repeated = sum(len(group.rollouts) - len(set(map(_said, group.rollouts))) for group in groups)
    return repeated / sum(len(group.rollouts) for group in groups)


def _said(rollout: Rollout) -> tuple[object, ...]:
    """The last answer's text, and what was sampled in the turns before it."""
    return rollout.text, *(turn.completion.token_ids for turn in rollout.turns[:-1])


def _is_judged(group: Group) -> bool:
    return all(rollout.verdict is not None for rollout in group.rollouts)


def _centred(values: Sequence[float]) -> list[float]:
    middle = mean(values) if values else 0.0
    return [value - middle for value in values]
