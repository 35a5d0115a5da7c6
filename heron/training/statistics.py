"""What one batch of rollouts looks like in numbers: rewards, signal, lengths, truncation. Plain Python on plain values.

Each name has its definition in `heron/run/metrics.toml`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import fmean

from heron.objective import loneliness
from heron.run.averages import mean, variance
from heron.training.outcomes import advantage_spread, duplicates, shares, solved
from heron.types import Group, Rollout


def rollout_metrics(groups: Sequence[Group], weights: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a step's groups under TRL's names where it has one; `weights` are those of the reward functions by name.

    `rewards/<name>/mean` and `/std` are over the rollouts where the function applied; a function that applied nowhere has no
    entry. `frac_reward_zero_std` is the share of rollouts in groups without signal; `groups/one_scorable` the share of groups
    in which a single rollout could be scored, so that there was none to compare it with.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    values = {
        **_mean_std("reward", [rollout.reward for rollout in rollouts], "reward", "reward_std"),
        "frac_reward_zero_std": sum(len(group.rollouts) for group in groups if not group.has_signal) / len(rollouts),
        "groups/with_signal": fmean(group.has_signal for group in groups),
        "groups/one_scorable": loneliness([[rollout.reward for rollout in group.rollouts] for group in groups]) / len(groups),
        "frac_rollouts_unscored": fmean(rollout.reward is None for rollout in rollouts),
        **solved(groups), **_lengths(rollouts), **_form(rollouts), "completions/duplicates": duplicates(groups),
        **_entropy(rollouts), **advantage_spread(rollouts), **_excluded(rollouts), **_logged(rollouts),
    }
    for name in weights:
        scores = [rollout.rewards.get(name) for rollout in rollouts]
        values |= _mean_std(name, scores, f"rewards/{name}/mean", f"rewards/{name}/std")
        values[f"rewards/{name}/none"] = scores.count(None) / len(scores)
    return values | shares(groups, weights)


def _lengths(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """`completions/*_length`, in tokens: of all, of those that ended of their own accord, and of right and other answers."""
    known = [(rollout.length, rollout) for rollout in rollouts]
    lengths = sorted(length for length, _ in known)
    ended = [length for length, rollout in known if not rollout.truncated]
    right, wrong = (
        [length for length, rollout in known if rollout.verdict in verdicts] for verdicts in (("right",), ("wrong", "unreadable"))
    )
    values = {
        "completions/mean_length": fmean(lengths), "completions/min_length": lengths[0], "completions/max_length": lengths[-1],
        "completions/p10_length": _nearest_rank(lengths, 0.1), "completions/p90_length": _nearest_rank(lengths, 0.9),
        "completions/clipped_ratio": 1 - len(ended) / len(rollouts),
    }
    if ended:
        values |= {f"completions/{name}_terminated_length": of(ended) for name, of in (("mean", fmean), ("min", min), ("max", max))}
    return values | {
        f"completions/mean_length_{name}": fmean(found) for name, found in (("right", right), ("wrong", wrong)) if found
    }


def _nearest_rank(ordered: Sequence[int], share: float) -> int:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _form(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Share in the asked format, and of answers that cannot be read, where either was asked."""
    formatted = [rollout.follows_format for rollout in rollouts if rollout.follows_format is not None]
    judged = [rollout.verdict for rollout in rollouts if rollout.verdict is not None]
    return {
        **({"completions/format_rate": fmean(formatted)} if formatted else {}),
        **({"completions/unreadable": judged.count("unreadable") / len(judged)} if judged else {}),
    }


def _excluded(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """How many rollouts a reward function failed at; nothing where none did."""
    excluded = sum(rollout.error is not None for rollout in rollouts)
    return {"rewards/excluded": excluded} if excluded else {}


def _logged(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What reward functions recorded with `log_metric`, as `logged/<name>`: the mean over the rollouts of their batches."""
    values: dict[str, list[float]] = {}
    for rollout in rollouts:
        for name, value in rollout.logged.items():
            values.setdefault(f"logged/{name}", []).append(value)
    return {name: mean(given) for name, given in values.items()}


def _entropy(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Per sampled token, in nats; nothing if the engine reports none."""
    nats = list(chain.from_iterable(turn.completion.entropies for rollout in rollouts for turn in rollout.turns))
    return {"entropy": fmean(nats)} if nats else {}


def _mean_std(name: str, scores: Sequence[float | None], mean_key: str, std_key: str) -> dict[str, float]:
    known = [score for score in scores if score is not None]
    if not known:
        return {}
    return {mean_key: mean(known), std_key: math.sqrt(variance(known))}


def staleness(groups: Sequence[Group], version: int) -> dict[str, float]:
    """`version_lag/*`: optimizer steps between the weights that said a token and those that are trained, over all tokens."""
    lags = [lag for group in groups for lag, tokens in _lags(group, version) for _ in range(tokens)]
    return {"version_lag/mean": fmean(lags), "version_lag/max": max(lags)} if lags else {}


def max_lag(groups: Sequence[Group], version: int) -> int:
    """The largest of them; 0 if these weights said everything."""
    return max((lag for group in groups for lag, _ in _lags(group, version)), default=0)


def _lags(group: Group, version: int) -> list[tuple[int, int]]:
    """`(lag, tokens)` of every part of every completion."""
    completions = [turn.completion for rollout in group.rollouts for turn in rollout.turns]
    return [
        (version - said_by, tokens) for each in completions
        for said_by, tokens in each.versions or ((each.policy_version, len(each.token_ids)),)
    ]


def wilson(successes: float, trials: int, *, z: float = 1.959964) -> tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson 1927): sensible near 0 and 1, unlike the normal one.

    For a mean of rates in [0, 1], pass their sum as `successes`: their variance is at most a coin's, so the interval is safe.
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - reach), min(1.0, centre + reach)
