"""From scored groups to training samples: which tokens count in an optimizer step, and how much.

The one hard idea: everything that is counted is counted here, over the whole optimizer step and all ranks, on integers, before any
forward pass. Rollouts that cannot move the weights are then left out of the computation, and stay in every count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heron.config.objective import ObjectiveConfig
from heron.errors import ConfigError
from heron.objective import Counts, entropy_threshold, entropy_weight, token_weights, trl_entropy_weights, trl_weights
from heron.training import ranks
from heron.types import Group, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One training sequence behind its prompt."""

    prompt_ids: tuple[int, ...]
    """The first turn's prompt, shared by the siblings."""
    token_ids: tuple[int, ...]
    """Everything after the prompt: completions, and what environments replied between them."""
    is_trained: tuple[bool, ...]
    """For each of `token_ids`: sampled by the model, and part of the loss."""
    sampler_logprobs: tuple[float, ...]
    """For each trained token: its log-prob when it was sampled."""
    keep: tuple[bool, ...]
    """For each trained token: among those with the highest entropy, if only they are trained on; else all True."""
    advantage: float
    """Of the rollout."""
    weight: float
    """Of each trained token in the optimizer step's loss."""
    entropy_weight: float
    """Of each kept token in the optimizer step's entropy bonus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """How the tokens of an optimizer step are counted. Example: `Weighing(scheme="tokens", max_completion_length=512)`."""

    scheme: str
    """What the loss divides by: `row_mean`, `tokens`, `local_tokens`, `constant` or `row_sum` (see `heron.objective.weights`)."""
    max_completion_length: int
    """L, the divisor of the scheme `constant`."""
    mask_truncated: bool = False
    """Truncated rollouts have no loss tokens."""
    top_entropy_quantile: float = 1.0
    """Share of the tokens that is trained on, those with the highest entropy."""
    keep_all: bool = False
    """Also rollouts without advantage are trained on: a KL or an entropy term moves them."""
    uses_entropy_bonus: bool = False
    """There is an entropy bonus, if only in some steps."""
    rows_per_micro_batch: int | None = None
    """Count as TRL does, in micro-batches of so many rows; None counts over the step."""
    num_minibatches: int = 1
    """Optimizer steps that one batch of rollouts is divided into."""


def weighing_of(objective: ObjectiveConfig, *, scheme: str, max_completion_length: int, moves_without_advantage: bool) -> Weighing:
    """The counting that a config asks for, with a loss of this scheme."""
    uses_entropy = objective.entropy_coef > 0 or objective.use_adaptive_entropy
    always = objective.entropy_coef > 0 and not objective.use_adaptive_entropy
    in_between = objective.use_adaptive_entropy and objective.num_iterations * objective.num_minibatches > 1
    return Weighing(
        scheme=scheme, max_completion_length=max_completion_length, mask_truncated=objective.mask_truncated_completions,
        top_entropy_quantile=objective.top_entropy_quantile,
        keep_all=moves_without_advantage or always or in_between, uses_entropy_bonus=uses_entropy,
        rows_per_micro_batch=objective.rows_per_micro_batch, num_minibatches=objective.num_minibatches,
    )


def loss_tokens(rollout: Rollout, *, mask_truncated: bool) -> int:
    """Tokens of a rollout that count in the loss."""
    return 0 if mask_truncated and rollout.truncated else rollout.length


def make_samples(groups: Sequence[Group], weighing: Weighing, *, batch_tokens: int | None = None) -> list[list[Sample]]:
    """Samples of one optimizer step, by group, without those that cannot move the weights.

    `batch_tokens` are the loss tokens of the whole batch of rollouts, where `groups` are only one of its minibatches.
    """
    if weighing.rows_per_micro_batch is not None and ranks.are_several():
        raise ConfigError('objective.token_weights = "trl" counts the micro-batches of one process, but there are several. '
                          'Leave it out: "step" counts over all of them.')
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    lengths = [loss_tokens(rollout, mask_truncated=weighing.mask_truncated) for rollout in rollouts]
    keeps = _keeps(rollouts, lengths, weighing)
    kept = [sum(keep) for keep in keeps]
    counts = ranks.total(Counts(rows=len(rollouts), tokens=sum(lengths), kept_tokens=sum(kept)))
    weights = _weights(lengths, counts, weighing, ranks.total_of(batch_tokens) if batch_tokens is not None else counts.tokens)
    bonus = _entropy_weights(kept, counts, weighing)
    made = [
        _sample(rollout, keep, weight, share) if length and (weighing.keep_all or rollout.advantage) else None
        for rollout, length, keep, weight, share in zip(rollouts, lengths, keeps, weights, bonus, strict=True)
    ]
    rows = iter(made)
    by_group = [[sample for _ in group.rollouts if (sample := next(rows)) is not None] for group in groups]
    return [siblings for siblings in by_group if siblings]


def mean_kept_entropy(groups: Sequence[Group], weighing: Weighing) -> float | None:
    """Mean entropy, over all ranks, of the tokens that an optimizer step keeps, when they were sampled; None if there are none."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    lengths = [loss_tokens(rollout, mask_truncated=weighing.mask_truncated) for rollout in rollouts]
    keeps = _keeps(rollouts, lengths, weighing)
    values = ranks.gathered([
        value for rollout, keep in zip(rollouts, keeps, strict=True) if keep
        for value, kept in zip(entropies_of(rollout), keep, strict=True) if kept
    ])
    return sum(values) / len(values) if values else None


def _weights(lengths: Sequence[int], counts: Counts, weighing: Weighing, batch_tokens: int) -> list[float]:
    if weighing.rows_per_micro_batch is None:
        return token_weights(weighing.scheme, lengths, counts=counts, max_completion_length=weighing.max_completion_length)
    return trl_weights(
        weighing.scheme, lengths, rows_per_micro_batch=weighing.rows_per_micro_batch, minibatches=weighing.num_minibatches,
        max_completion_length=weighing.max_completion_length, generation_tokens=batch_tokens,
    )


def _entropy_weights(kept: Sequence[int], counts: Counts, weighing: Weighing) -> list[float]:
    if weighing.rows_per_micro_batch is None:
        return [entropy_weight(counts)] * len(kept)
    return trl_entropy_weights(kept, rows_per_micro_batch=weighing.rows_per_micro_batch)


def _keeps(rollouts: Sequence[Rollout], lengths: Sequence[int], weighing: Weighing) -> list[tuple[bool, ...]]:
    """For each loss token of each rollout: is it trained on. TRL looks for the threshold in each micro-batch."""
    if weighing.top_entropy_quantile == 1.0:
        return [(True,) * length for length in lengths]
    entropies = [entropies_of(rollout) if length else () for rollout, length in zip(rollouts, lengths, strict=True)]
    if weighing.rows_per_micro_batch is None:
        return _above(ranks.gathered([value for row in entropies for value in row]), entropies, weighing.top_entropy_quantile)
    size = weighing.rows_per_micro_batch
    parts = [entropies[start : start + size] for start in range(0, len(entropies), size)]
    return [
        keep for rows in parts for keep in _above([value for row in rows for value in row], rows, weighing.top_entropy_quantile)
    ]


def _above(everything: Sequence[float], rows: Sequence[Sequence[float]], quantile: float) -> list[tuple[bool, ...]]:
    """For each value of each row: is it in the upper `quantile` of everything."""
    if not everything:
        return [() for _ in rows]
    threshold = entropy_threshold(everything, quantile)
    return [tuple(value >= threshold for value in row) for row in rows]


def entropies_of(rollout: Rollout) -> tuple[float, ...]:
    """Entropy at each sampled token of a rollout, as the engine reported it."""
    values = tuple(value for turn in rollout.turns for value in turn.completion.entropies)
    if len(values) != rollout.length:
        raise ConfigError("objective.top_entropy_quantile and use_adaptive_entropy need the entropy of every sampled token, which this "
                          "engine does not report. Leave them out, or sample with the native engine.")
    return values


def _sample(rollout: Rollout, keep: tuple[bool, ...], weight: float, entropy_weight: float) -> Sample:
    first, *later = rollout.turns
    tokens = list(first.completion.token_ids)
    trained = [True] * len(tokens)
    for turn in later:
        tokens += [*turn.prompt_ids, *turn.completion.token_ids]
        trained += [False] * len(turn.prompt_ids) + [True] * len(turn.completion.token_ids)
    logprobs = tuple(value for turn in rollout.turns for value in turn.completion.logprobs)
    return Sample(
        prompt_ids=first.prompt_ids, token_ids=tuple(tokens), is_trained=tuple(trained), sampler_logprobs=logprobs, keep=keep,
        advantage=rollout.advantage, weight=weight, entropy_weight=entropy_weight,
    )
