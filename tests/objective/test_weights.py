"""Token weights: the printed formulas, sums over parts of a step, and TRL's counting against loops over its micro-batches."""

from __future__ import annotations

import random

import pytest

from heron.errors import ConfigError
from heron.objective import (
    LOSSES,
    SCHEMES,
    Counts,
    entropy_weight,
    find_loss,
    register_loss,
    token_weights,
    trl_entropy_weights,
    trl_weights,
)

LIMIT = 20


def lengths_of(seed: int, rows: int = 8) -> list[int]:
    """Ragged, with a row that is masked whole."""
    draws = random.Random(seed)
    return [0, *(draws.randint(1, 9) for _ in range(rows - 1))]


def test_weights_are_the_printed_formulas() -> None:
    """Prevents: rows that are masked whole leaving R, or counted in N."""
    lengths = [0, 3, 5]
    wanted = {"row_mean": [1 / 3, 1 / 9, 1 / 15], "tokens": [1 / 8] * 3, "local_tokens": [1 / 8] * 3, "constant": [1 / 60] * 3,
              "row_sum": [1 / 3] * 3}
    assert set(wanted) == set(SCHEMES)
    for scheme, values in wanted.items():
        assert token_weights(scheme, lengths, counts=Counts.of(lengths), max_completion_length=LIMIT) == pytest.approx(values)


@pytest.mark.parametrize(("loss", "scheme"), [
    ("grpo", "row_mean"), ("gspo", "row_mean"), ("sapo", "row_mean"), ("gmpo", "row_mean"), ("rloo", "row_mean"), ("bnpo", "local_tokens"),
    ("dapo", "tokens"), ("cispo", "tokens"), ("vespo", "tokens"), ("reinforce", "tokens"), ("dr_grpo", "constant"), ("luspo", "row_sum"),
])
def test_losses_have_the_weights_of_their_papers(loss: str, scheme: str) -> None:
    """Prevents: a loss that is right token by token, and wrong in sum."""
    assert LOSSES[loss].weights == scheme and LOSSES[loss].name == loss


def test_every_built_in_loss_is_in_the_table_above() -> None:
    marks = test_losses_have_the_weights_of_their_papers.pytestmark
    assert {loss for loss, _ in marks[0].args[1]} == set(LOSSES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_parts_of_a_step_add_up_to_the_step(scheme: str) -> None:
    """Prevents: a weight that depends on which micro-batch, or which rank, holds a row."""
    for seed in range(5):
        lengths = lengths_of(seed)
        first, second = lengths[:3], lengths[3:]
        counts = Counts.of(first) + Counts.of(second)
        assert counts == Counts.of(lengths)
        whole = token_weights(scheme, lengths, counts=counts, max_completion_length=LIMIT)
        parts = [token_weights(scheme, part, counts=counts, max_completion_length=LIMIT) for part in (first, second)]
        assert parts[0] + parts[1] == whole


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_trl_weights_are_what_its_micro_batches_divide_by(scheme: str, size: int) -> None:
    """Prevents: an accumulation over micro-batches that is off by their number. TRL's loss of a micro-batch, written as it writes it."""
    for seed in range(5):
        lengths, minibatches = lengths_of(seed), 3
        generation, accumulation = sum(lengths) * minibatches + 5, 8 // size
        found = trl_weights(scheme, lengths, rows_per_micro_batch=size, minibatches=minibatches, max_completion_length=LIMIT,
                            generation_tokens=generation)
        for row, length in enumerate(lengths):
            tokens = sum(lengths[row // size * size :][:size])
            wanted = {
                "row_mean": 1 / max(length, 1) / size / accumulation, "row_sum": 1 / size / accumulation,
                "constant": 1 / (size * LIMIT) / accumulation, "local_tokens": 1 / max(tokens, 1) / accumulation,
                "tokens": 1 / (generation * accumulation / (minibatches * accumulation)),
            }[scheme]
            assert found[row] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("scheme", ["row_mean", "constant", "row_sum"])
def test_trl_counts_the_same_where_it_does_not_count_tokens(scheme: str) -> None:
    """Prevents: the sentence in the documents on where both differ from going wrong."""
    lengths = lengths_of(1)
    mine = token_weights(scheme, lengths, counts=Counts.of(lengths), max_completion_length=LIMIT)
    theirs = trl_weights(scheme, lengths, rows_per_micro_batch=2, minibatches=2, max_completion_length=LIMIT, generation_tokens=99)
    assert mine == pytest.approx(theirs, rel=1e-12)


def test_entropy_weights_count_kept_tokens() -> None:
    """Prevents: a bonus that shrinks as fewer tokens are kept."""
    assert entropy_weight(Counts.of([4, 6], [1, 3])) == 1 / 4
    assert entropy_weight(Counts.of([4, 6])) == 1 / 10
    assert entropy_weight(Counts.of([0, 0])) == 1
    assert trl_entropy_weights([1, 3, 0, 2, 0, 0], 2) == pytest.approx([1 / 12, 1 / 12, 1 / 6, 1 / 6, 1 / 3, 1 / 3])


def test_a_step_without_tokens_has_finite_weights() -> None:
    """Prevents: a division by zero where every row is masked."""
    for scheme in SCHEMES:
        assert token_weights(scheme, [0, 0], counts=Counts.of([0, 0]), max_completion_length=LIMIT)
        assert trl_weights(scheme, [0, 0], rows_per_micro_batch=1, minibatches=1, max_completion_length=LIMIT, generation_tokens=0)


def test_wrong_weights_say_what_to_do() -> None:
    """Prevents: a micro-batch of another size at the end of a step, and a scheme that is found out in the middle of a run."""
    with pytest.raises(ConfigError, match="Choose a divisor of 5"):
        trl_weights("row_mean", [1] * 5, rows_per_micro_batch=2, minibatches=1, max_completion_length=LIMIT, generation_tokens=5)
    with pytest.raises(ConfigError, match='Did you mean "row_mean"'):
        register_loss(weights="rowmean")
    with pytest.raises(ConfigError, match="row_mean, tokens"):
        token_weights("mean", [1], counts=Counts.of([1]), max_completion_length=LIMIT)
    assert find_loss("dapo").weights in SCHEMES
