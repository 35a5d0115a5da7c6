"""Every combination of options against what TRL's own code said: values, and gradients with respect to log-probs and entropies.

`record_trl.py` made the record. Here the same tokens go through Heron as one flat micro-batch, with weights counted as TRL counts them.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from combinations import (
    ADVANTAGES,
    CLIP_MAX,
    GENERATION_TOKENS,
    MAX_COMPLETION_LENGTH,
    MINIBATCHES,
    NAMES,
    ROWS_PER_MICRO_BATCH,
    Combination,
    combinations,
    trained,
)
from safetensors import safe_open
from torch import Tensor

from heron.objective import Objective, Tokens, entropy_threshold, find_correction, find_loss, trl_entropy_weights, trl_weights

TOLERANCE = 1e-6
RECORD = Path(__file__).parent / "trl_1_16.safetensors"
WHERE = trained()
ROWS = WHERE.nonzero()[:, 0] * ROWS_PER_MICRO_BATCH + WHERE.nonzero()[:, 1]  # [N] place of each token's row in the step
LENGTHS = WHERE.sum(-1).flatten().tolist()


@pytest.fixture(scope="module")
def record() -> dict[str, Tensor]:
    with safe_open(RECORD, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def heron_loss(combination: Combination, inputs: dict[str, Tensor]) -> tuple[float, Tensor, Tensor | None]:
    """The loss of the step and its gradients `[N]`."""
    flat = {name: inputs[name][WHERE] for name in NAMES}
    logprobs, entropy = flat["logprobs"].clone().requires_grad_(), flat["entropy"].clone().requires_grad_()
    keep = _keep(flat["entropy"], combination.quantile)
    loss = find_loss(combination.loss)
    tokens = Tokens(
        logprobs=logprobs, old_logprobs=logprobs.detach() if combination.on_policy else flat["old"],
        advantages=torch.tensor(ADVANTAGES, dtype=torch.float64).flatten()[ROWS], rows=torch.unique(ROWS, return_inverse=True)[1],
        weights=_per_token(trl_weights(loss.weights, LENGTHS, rows_per_micro_batch=ROWS_PER_MICRO_BATCH, minibatches=MINIBATCHES,
                                       max_completion_length=MAX_COMPLETION_LENGTH, generation_tokens=int(GENERATION_TOKENS))),
        sampler_logprobs=None if combination.correction == "none" else flat["sampler"], reference_logprobs=flat["reference"],
        entropy=entropy, entropy_weights=keep * _per_token(trl_entropy_weights(_sums(keep), ROWS_PER_MICRO_BATCH)),
        keep=None if combination.quantile == 1.0 else keep,
    )
    objective = Objective(
        loss=loss, level=combination.level, settings=combination.settings, beta=combination.beta,
        use_bias_correction_kl=combination.use_bias_correction, off_policy_mask_threshold=combination.opsm,
        correction=find_correction(combination.correction, high=CLIP_MAX.get(combination.correction)),
    )
    value = objective(tokens, entropy_coef=combination.entropy_coef).loss
    value.backward()
    return float(value.detach()) + _empty_rows(combination), logprobs.grad, entropy.grad


def _per_token(per_row: list[float]) -> Tensor:
    return torch.tensor(per_row, dtype=torch.float64)[ROWS]


def _sums(keep: Tensor) -> list[int]:
    return [int(total) for total in torch.zeros(len(LENGTHS), dtype=keep.dtype).index_add(0, ROWS, keep)]


def _keep(entropy: Tensor, quantile: float) -> Tensor:
    """TRL looks for the threshold in each micro-batch."""
    keep = torch.ones_like(entropy)
    for batch in (ROWS < ROWS_PER_MICRO_BATCH, ROWS >= ROWS_PER_MICRO_BATCH):
        keep[batch] = (entropy[batch] >= entropy_threshold(entropy[batch], quantile)).double()
    return keep


def _empty_rows(combination: Combination) -> float:
    """In TRL's value, not its gradient, a row without tokens has the ratio 1 where the loss is one of whole rows."""
    if combination.loss not in ("gmpo", "rloo"):
        return 0.0
    flat = [advantage for batch in ADVANTAGES for advantage in batch]
    return sum(-advantage / len(LENGTHS) for advantage, length in zip(flat, LENGTHS, strict=True) if not length)


def test_every_combination_agrees_with_trl(record: dict[str, Tensor]) -> None:
    """Prevents: a sign, a mask, a clip, a denominator or their order that differs from TRL's in any combination of options."""
    grid = combinations()
    worst: dict[str, float] = Counter()
    bonus = iter(record["entropy_gradient"])
    for number, combination in enumerate(grid):
        loss, gradient, entropy_gradient = heron_loss(combination, record)
        errors = [abs(loss - float(record["loss"][number])), float((gradient - record["gradient"][number]).abs().max())]
        if combination.entropy_coef:
            errors.append(float((entropy_gradient - next(bonus)).abs().max()))
        worst[repr(combination)] = max(errors)
    assert next(bonus, None) is None
    name, error = worst.most_common(1)[0]
    assert error <= TOLERANCE, f"{name}: {error}"


def test_the_record_covers_the_grid(record: dict[str, Tensor]) -> None:
    """Prevents: a grid that shrinks, or a record of another grid; and inputs on which options make no difference."""
    grid = combinations()
    with safe_open(RECORD, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["combinations"]) == [repr(each) for each in grid] and metadata["trl"].startswith("1.16.")
    assert len(grid) == len(set(grid)) == len(record["loss"]) == 1016
    different = {tuple(row.tolist()) for row in record["gradient"].round(decimals=9)}
    assert len(different) > 900, "options that do not act on these inputs are not tested by them"
    assert RECORD.stat().st_size < 700_000


@pytest.mark.parametrize("number", [0, 100, 333, 555, 777, 888, 950, 1005, 1013, 1015])
def test_the_record_is_what_trl_says_today(number: int, record: dict[str, Tensor]) -> None:
    """Prevents: a record that was edited, or made by other code than TRL's."""
    from record_trl import trl_loss

    loss, gradient, _ = trl_loss(combinations()[number], record)
    assert loss == pytest.approx(float(record["loss"][number]), abs=1e-12)
    torch.testing.assert_close(gradient[WHERE], record["gradient"][number], rtol=0, atol=1e-12)
