"""What must be true of every step, looked at in every run, and what is usually wrong where it is not.

The one hard idea: each of these is an equality between two things that were made apart: what was sampled and what is trained, the sampler's
log-probs and the trainer's, the version that a token claims and that of the weights, the shares of tokens and their sum. A fault in between
leaves the loss finite and the curve plausible, and breaks one of them. What is compared is there anyway; looking costs well below a
thousandth of a step.

Tolerances are for means over a step's tokens, in nats. An engine that runs the trainer's own modules differs by rounding alone (below 1e-5
in float32, some 0.01 in 16 bits or on a base of 8 or 4); any other has kernels of its own, and off-policy corrections are for its gap.
What is rounded are logits, and a temperature below 1 divides the error as it divides them.

Left out: what an alert is enough for (a gap that is large and not absurd), and advantages by an estimator of the user's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import NoReturn

import torch

from heron.engine.hf import HFEngine
from heron.errors import IdentityError
from heron.models.policy import Policy
from heron.objective.estimators import ESTIMATORS
from heron.rollout import Collector
from heron.training import ranks
from heron.training.measures import RATIO, Measures
from heron.training.passes import Minibatch
from heron.training.samples import Sample, Weighing, loss_tokens
from heron.types import Completion, FinishReason, Group, Rollout

EXACT, ROUNDED, OTHER_ENGINE = 1e-3, 0.1, 0.25
"""Nats between sampler and trainer: one code in float32; one code in fewer bits; two codes."""
SHARES = 1e-5
"""Of the sum of weights, which are float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """The checks of one run. Each raises IdentityError, by name."""

    policy: Policy
    """Whose version and end tokens they are."""
    collector: Collector
    """Knows how advantages were made, and whether its engine is exact."""
    max_completion_length: int
    """A truncated completion has so many tokens."""
    temperature: float
    """Divides the logits, and so their rounding."""
    optimizer: torch.optim.Optimizer
    """Moves the weights, and no copies of them."""
    is_on_policy: bool
    """Every token is sampled by the weights that are trained first; False where completions go on for several steps."""

    def of_rollouts(self, groups: Sequence[Group]) -> None:
        """Before anything is trained on them: versions, ends, advantages; and that the optimizer holds what is trained."""
        held = {id(weight) for group in self.optimizer.param_groups for weight in group["params"]}
        trained = self.policy.trainable()
        _same("optimizer", sum(id(weight) in held for _, weight in trained), len(trained), "trained tensors in the optimizer",
              "Weights were replaced after the optimizer was made: their gradients would move nothing.")
        for rollout in _rollouts(groups):
            for turn in rollout.turns:
                self._version(turn.completion)
                self._end(turn.completion)
        self._advantages(groups)

    def of_minibatch(self, groups: Sequence[Group], minibatch: Minibatch, weighing: Weighing) -> None:
        """Before its first forward pass: masks and weights. `weighing` is that of this step."""
        known = [(rollout, loss_tokens(rollout, mask_truncated=weighing.mask_truncated)) for rollout in _rollouts(groups)]
        trained = [(rollout, count) for rollout, count in known if count and (weighing.keep_all or rollout.advantage)]
        samples = [sample for siblings in minibatch.samples for sample in siblings]
        _same("masks", len(samples), len(trained), "rollouts to train on", "Rollouts were lost or added on their way to the trainer.")
        for sample, (rollout, _) in zip(samples, trained, strict=True):
            _check_sample(sample, rollout)
        packed = sum(len(batch.targets) for batch in minibatch.batches)
        _same("masks", packed, sum(count for _, count in trained), "trained tokens", "Packing has lost or repeated tokens.")
        _check_packed(minibatch, samples, [count for _, count in trained])
        _check_weights(minibatch, weighing, [count for _, count in known], [count for _, count in trained])

    def first_step(self, measured: Measures, mismatch: dict[str, float], *, is_on_policy: bool) -> None:
        """Before the weights move: the ratio, the sampler's log-probs, and the KL to a start that was not left yet. Numbers that are not
        finite are the guard's."""
        tolerance = self._tolerance
        own, divided = min(tolerance, ROUNDED), min(1.0, self.temperature)
        if is_on_policy and (ratios := measured.marks.get(RATIO)):
            _within("ratio", float((torch.cat(ratios) - 1).abs().mean()), own, "The weights have moved, or the old log-probs are of other "
                    "tokens: the first pass of a step that was sampled by these weights has the ratio 1.")
        if (gap := mismatch.get("sampling/logp_difference_mean")) is not None:
            _within("log-probs", gap, tolerance / divided, "The engine samples from other weights than the trainer's (a push that was lost "
                    "or left tensors out), at another temperature, or its log-probs belong to other tokens.")
        if self.policy.version == 0 and (kl := measured.marks.get("kl")):
            _within("reference", abs(float(torch.cat(kl).mean())), own / divided, "The reference is not the start of this run: another "
                    "adapter, another checkpoint, or weights that were changed in place.")

    @property
    def _tolerance(self) -> float:
        engine = self.collector.engine
        if not (engine.exact_logprobs or isinstance(engine, HFEngine)):  # which runs the trainer's modules, padded
            return OTHER_ENGINE
        return EXACT if self.policy.dtype is torch.float32 and not self.policy.is_quantized else ROUNDED

    def _version(self, completion: Completion) -> None:
        now = self.policy.version
        claimed = completion.versions or ((completion.policy_version, len(completion.token_ids)),)
        if claimed == ((now, len(completion.token_ids)),):
            return
        lowest, highest = min(version for version, _ in claimed), max(version for version, _ in claimed)
        if highest > now or (self.is_on_policy and lowest < now):
            _violated("version", f"tokens that claim version {lowest if highest <= now else highest}", f"version {now}",
                      "The engine was not told of the newest weights, or counts versions otherwise.")
        _same("version", sum(tokens for _, tokens in claimed), len(completion.token_ids), "tokens with a version",
              "The engine counts its tokens otherwise than it reports them.")

    def _end(self, completion: Completion) -> None:
        tokens, ends = completion.token_ids, self.policy.end_ids
        _same("ends", len(completion.logprobs), len(tokens), "log-probs of a completion", "The engine dropped or repeated tokens.")
        stopped = completion.finish_reason is FinishReason.STOP
        if not ends.isdisjoint(tokens[:-1] if stopped else tokens):
            _violated("ends", "an end token within a completion", "one at its end at most",
                      "A padding token that is also the end token was taken for what was said, or sampling went on after the end.")
        if stopped and (not tokens or tokens[-1] not in ends):
            _violated("ends", f"a completion that stopped with the token {tokens[-1] if tokens else None}", f"one of {sorted(ends)}",
                      "The end token was cut off: the model would not learn to stop.")
        if not stopped and len(tokens) != self.max_completion_length:
            _violated("ends", f"a completion of {len(tokens)} tokens that was truncated", f"{self.max_completion_length} tokens",
                      "The engine has another limit, or lost why the completion ended.")

    def _advantages(self, groups: Sequence[Group]) -> None:
        """As a second reckoning of the same rewards has them."""
        estimator = self.collector.estimator
        if ESTIMATORS.get(estimator.name) is not estimator:
            return
        for group, values in zip(groups, self.collector.advantages_of([group.rollouts for group in groups]), strict=True):
            for sibling, (rollout, value) in enumerate(zip(group.rollouts, values, strict=True)):
                if rollout.advantage != value:
                    _violated("advantages", f"advantage {rollout.advantage} of sibling {sibling} of {rollout.prompt.id}", f"{value}",
                              "Advantages were given to the wrong siblings, or rewards changed after they were compared.")


def _check_weights(minibatch: Minibatch, weighing: Weighing, known: Sequence[int], trained: Sequence[int]) -> None:
    """The sum over the trained tokens is their share of what the scheme counts, however the step is cut."""
    if not trained or weighing.rows_per_micro_batch is not None or ranks.are_several():
        return
    rows, tokens, limit = len(known), sum(known), weighing.max_completion_length
    share = {
        "row_mean": len(trained) / rows, "tokens": sum(trained) / max(tokens, 1), "local_tokens": sum(trained) / max(tokens, 1),
        "constant": sum(trained) / (rows * limit), "row_sum": sum(trained) / rows,
    }[weighing.scheme]
    total = float(torch.cat([batch.weights for batch in minibatch.batches]).double().sum())
    _within("weights", abs(total / share - 1), SHARES, "The tokens of a micro-batch were counted instead of the step's.")


def _check_packed(minibatch: Minibatch, samples: Sequence[Sample], counts: Sequence[int]) -> None:
    """Every packed token has the advantage and the weight of its own sample."""
    if not samples:
        return
    lengths = torch.tensor(counts)
    for name, values, batches in (
        ("advantages", [sample.advantage for sample in samples], [batch.advantages for batch in minibatch.batches]),
        ("weights", [sample.weight for sample in samples], [batch.weights for batch in minibatch.batches]),
    ):
        expected, packed = torch.tensor(values).repeat_interleave(lengths), torch.cat(batches).cpu()
        _same(name, int((expected == packed).sum()), len(packed), f"packed tokens with their sample's {name}",
              "Packing gave tokens what belongs to others.")


def _check_sample(sample: Sample, rollout: Rollout) -> None:
    """What is trained of a rollout is what the model said in it, with its own advantage."""
    if tuple(compress(sample.token_ids, sample.is_trained)) != rollout.completion_ids:
        _violated("masks", f"{sum(sample.is_trained)} trained tokens of {rollout.prompt.id}", f"the {rollout.length} that the model said",
                  "A token of the environment is in the mask, or a sampled one (an end token that is also the padding) is not.")
    if sample.advantage != rollout.advantage:
        _violated("advantages", f"a sample with advantage {sample.advantage}", f"{rollout.advantage}, its rollout's",
                  "Samples were paired with the wrong rollouts.")


def _rollouts(groups: Sequence[Group]) -> list[Rollout]:
    return [rollout for group in groups for rollout in group.rollouts]


def _same(name: str, measured: int, expected: int, what: str, cause: str) -> None:
    if measured != expected:
        _violated(name, f"{measured} {what}", f"{expected}", cause)


def _within(name: str, measured: float, tolerance: float, cause: str) -> None:
    if math.isfinite(measured) and measured > tolerance:
        _violated(name, f"{measured:.3g}", f"at most {tolerance:g}", cause)


def _violated(name: str, measured: str, expected: str, cause: str) -> NoReturn:
    raise IdentityError(name, f"The identity \"{name}\" does not hold: {measured}, instead of {expected}. {cause} The run is saved as it "
                              "was before this step. train.check_identities = false trains on all the same.")
