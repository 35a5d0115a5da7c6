"""The shared-prompt benchmark: both sides make the same gradient, tokens are counted as they are packed, and the bar holds every goal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import shared_prompt
from benchmarks.shared_prompt import Case, Measured, Shape

SMALL = Shape(name="small", prompt=12, lengths=(3, 9, 1, 5), siblings=2)


def measured(*, ratio: float, goal: float | None = 2.0, dtype: str = "float32", error: float = 1e-7) -> Measured:
    case = Case(shape=SMALL, dtype=dtype, goal=goal)
    return Measured(case=case, ours=1.0, padded=ratio, padded_completions=1.0, error=error)


@pytest.mark.parametrize("completions_only", [False, True])
def test_sides_agree_on_the_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, completions_only: bool) -> None:
    """Prevents: comparing the time of two different steps; a padded side that is off by one, or forgets a last, smaller micro-batch."""
    transformers = pytest.importorskip("transformers")
    from heron.config.model import ModelConfig
    from heron.models import load_policy
    from heron.types import Tags

    monkeypatch.setattr(shared_prompt, "MICRO_BATCH_ROWS", 3)
    folder = shared_prompt.save_model(tmp_path)
    policy = load_policy(ModelConfig(name=str(folder), device="cpu"), Tags())
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    groups = shared_prompt.make_groups(SMALL)
    theirs = shared_prompt.padded_step(plain, groups, completions_only=completions_only)
    assert shared_prompt.relative_error(shared_prompt.heron_step(policy, groups), theirs) < shared_prompt.LARGEST_ERROR
    spoilt = theirs | {"model.norm.weight": theirs["model.norm.weight"] * 2}
    assert shared_prompt.relative_error(shared_prompt.heron_step(policy, groups), spoilt) > shared_prompt.LARGEST_ERROR


def test_tokens_are_those_that_are_packed() -> None:
    """Prevents: a token ratio that does not belong to the batch that is measured."""
    import torch

    from heron.config.schema import ObjectiveConfig
    from heron.training.batch import pack
    from heron.training.compiled import objective_of
    from heron.training.samples import Weighing, make_samples

    scheme = objective_of(ObjectiveConfig()).loss.weights
    for shape in (SMALL, shared_prompt.shapes()[1]):
        samples = make_samples(shared_prompt.make_groups(shape), Weighing(scheme=scheme, max_completion_length=192))
        batches = pack(samples, budget=1 << 20, device=torch.device("cpu"))
        assert sum(batch.num_tokens for batch in batches) == shape.packed_tokens
    assert SMALL.padded_tokens == 4 * (12 + 9)


def test_every_goal_holds_the_bar() -> None:
    fast, slow = measured(ratio=2.5), measured(ratio=1.9)
    assert shared_prompt.bar([fast, fast]).line() == "bar shared_prompt: met, 2.50x / 2.50x (goal 2x / 2x)"
    assert shared_prompt.bar([fast, slow]).exit_code == 1
    assert shared_prompt.bar([fast, measured(ratio=0.5, goal=None)]).met


def test_another_gradient_is_no_speed() -> None:
    """Prevents: a fast step that computes something else, even where no ratio is asked for; bfloat16 is rounded and only informs."""
    for goal in (2.0, None):
        wrong = measured(ratio=9.0, goal=goal, error=1e-4)
        assert not shared_prompt.bar([measured(ratio=9.0), wrong]).met
        assert shared_prompt.bar([measured(ratio=9.0), replace(wrong, case=replace(wrong.case, dtype="bfloat16"))]).met
    assert not measured(ratio=9.0, error=float("nan")).is_met


def test_row_shows_both_ratios_and_the_tokens() -> None:
    cells = shared_prompt.table([measured(ratio=3.0)])
    row = dict(zip(cells.columns, cells.rows[0], strict=True))
    assert (row["ratio"], row["ratio to completions' logits"], row["token ratio"]) == ("3.00x", "1.0x", f"{84 / 38:.1f}x")
