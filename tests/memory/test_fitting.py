"""Settings with which a run fits: every proposal is planned again here, from the config that it spells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heron.config import Config, EvaluationConfig, ModelConfig, ObjectiveConfig, RolloutConfig, TrainConfig, load_config, parse_overrides
from heron.memory import HOST
from heron.memory.case import SHARE_OF_FREE, Case, cache_of, case_of, needed, one_completion, spelled
from heron.memory.changes import OTHER, ROUNDED, SAME, cost_of, with_cache, with_micro_batch
from heron.memory.devices import Device, find_device
from heron.memory.fitting import cheapest_changes, fit

QWEN = {"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True, "dtype": "bfloat16"}
PROMPT = 200


def card(gib: float, **changes: Any) -> Device:
    return replace(find_device("L4"), memory=int(gib * 2**30), **changes)


def case(gib: float, *, model: dict[str, Any] | None = None, train: dict[str, Any] | None = None, device: Device | None = None,
         shape: dict[str, Any] | None = None, objective: dict[str, Any] | None = None, **rollout: Any) -> Case:
    config = Config(
        model=ModelConfig(**{"method": "lora", **(model or {})}), rollout=RolloutConfig(**{"max_completion_length": 2048, **rollout}),
        train=TrainConfig(**(train or {})), evaluation=EvaluationConfig(size=0), objective=ObjectiveConfig(**(objective or {})),
    )
    return case_of(config, shape or QWEN, prompt_tokens=PROMPT, device=device or card(gib))


def planned_again(found: Case) -> int:
    """The peak of the config that results from typing the proposal's words."""
    words = parse_overrides(spelled(found.settings).split())
    plain = {name: {key: value for key, value in values.items() if key not in words.get(name, {})} for name, values in
             found.config.as_dict().items() if isinstance(values, dict)}
    return case_of(load_config("gsm8k", plain, words), QWEN, prompt_tokens=PROMPT, device=found.device).plan.peak


@pytest.mark.parametrize("gib", [3.0, 6.0, 12.0])
def test_a_fitted_run_fits_and_uses_what_there_is(gib: float) -> None:
    """Prevents: settings that do not fit, or that leave half of a card idle where a larger micro-batch or cache would be faster."""
    found = fit(case(gib))
    assert found.fits and planned_again(found) == found.plan.peak
    assert 0.8 * gib < found.plan.peak / 2**30 <= gib or found.plan.peak == fit(case(100)).plan.peak


def test_a_larger_card_is_never_slower() -> None:
    """Prevents: a search that stops at the first settings that fit."""
    times = [fit(case(gib)).seconds.total for gib in (3, 6, 64)]
    assert times == sorted(times, reverse=True) and times[0] > times[-1]


def test_a_run_that_fits_is_left_in_what_it_trains() -> None:
    """Prevents: quantising, or switching to an adapter, where there is room without: that is another training, however fast."""
    found = fit(case(130, model={"method": "full", "dtype": "float32"}))
    assert found.fits and not {"model.method", "model.dtype", "train.optimizer"} & found.settings.keys()


def test_weights_of_16_bits_get_the_optimizer_that_can_train_them() -> None:
    """Prevents: a choice that fits and is refused, since 8-bit moments cannot move a weight of 16 bits."""
    asked = case(80, model={"method": "full"})
    assert "the run would be refused" in asked.verdict
    found = fit(asked)
    assert found.fits and found.config.train.optimizer == "adamw_kahan" and "refused" not in found.verdict
    assert all(change.config.train.optimizer == "adamw_kahan" or change.config.model.has_adapter
               for change in cheapest_changes(case(20, model={"method": "full"})) if "train.optimizer" in change.settings)


def test_vllm_is_not_offered_what_it_cannot_sample() -> None:
    """Prevents: a plan that ends in an error, or a run that is refused, because one of its alternatives would be."""
    asked = case(8, engine="vllm")
    assert all(change.config.model.method != "qlora" for change in cheapest_changes(asked))
    assert fit(asked).config.model.method != "qlora"


def test_what_cannot_fit_is_the_smallest_there_is() -> None:
    """Prevents: "nothing fits" with a peak that other settings would undercut."""
    found = fit(case(0.2))
    assert not found.fits
    thrifty = {"model.gradient_checkpointing": True, "train.micro_batch_tokens": PROMPT + 2048, "rollout.max_concurrent": 1,
               "model.method": "qlora", "train.optimizer": "adamw_8bit"}
    assert found.plan.peak <= case(0.2).changed(thrifty).plan.peak


def test_the_micro_batch_is_the_largest_that_fits() -> None:
    """Prevents: a search that is off by more than its grid, or that goes beyond the step."""
    found = with_micro_batch(case(8, max_concurrent=1))
    tokens = found.config.train.micro_batch_tokens
    assert tokens > PROMPT + 2048 and tokens % 256 == 0
    assert found.fits and not found.changed({"train.micro_batch_tokens": tokens + 512}).fits
    whole = with_micro_batch(case(500)).config.train.micro_batch_tokens
    assert whole == pytest.approx(8 * PROMPT + 64 * 2048, abs=256)


def test_the_cache_gets_what_is_left() -> None:
    """Prevents: a cache beside which sampling does not fit, one smaller than there is room for, and one without room for an answer."""
    asked = case(4, max_completion_length=8192)
    found = with_cache(asked)
    room = found.config.rollout.cache_gib
    assert found.plan.peak_of("sample", "gpu") <= 4 * 2**30 < found.changed({"rollout.cache_gib": room + 0.2}).plan.peak_of("sample", "gpu")
    assert room * 2**30 >= one_completion(asked.config, QWEN, prompt_tokens=PROMPT, device=asked.device)
    assert cache_of(found.plan, "sample") == int(room * 2**30)


def test_a_cache_of_its_own_choice_is_planned_as_the_engine_makes_it() -> None:
    """Prevents: "does not fit" for a cache that the engine would make smaller, since completions can wait."""
    unbounded = case(500, max_completion_length=8192)
    bounded = case(6, max_completion_length=8192)
    free = 6 * 2**30 - bounded.plan.peak_of("none", "gpu")
    assert cache_of(bounded.plan, "sample") == pytest.approx(SHARE_OF_FREE["gpu"] * free, rel=1e-6)
    assert cache_of(bounded.plan, "sample") < cache_of(unbounded.plan, "sample")
    row = next(row for row in bounded.plan.rows if row.name == "key-value cache")
    assert "80% of what is free" in row.note and "rollout.cache_gib" not in row.note
    assert bounded.seconds.sampling > unbounded.seconds.sampling


def test_three_changes_that_fit_cheapest_first() -> None:
    """Prevents: proposals that do not fit, that cost more than the next one, or that hold more than is needed."""
    asked = case(10)
    assert not asked.fits
    found = cheapest_changes(asked)
    assert len(found) == 3 and all(one.fits and 1 <= len(one.settings) <= 2 and planned_again(one) == one.plan.peak for one in found)
    costs = [(cost_of(asked, one.settings), one.seconds.total) for one in found]
    assert costs == sorted(costs)
    for one in found:
        assert len(one.settings) == 1 or not any(asked.changed({name: value}).fits for name, value in one.settings.items())


def test_changes_that_come_near_are_shown_where_none_is_enough() -> None:
    """Prevents: an empty list where a user needs it most."""
    asked = case(1.2)
    found = cheapest_changes(asked)
    assert len(found) == 3 and not any(one.fits for one in found)
    assert all(one.plan.peak < asked.plan.peak for one in found)


@pytest.mark.parametrize(("settings", "cost"), [
    ({"model.gradient_checkpointing": True, "train.micro_batch_tokens": 4096}, SAME), ({"train.optimizer": "adamw_8bit"}, ROUNDED),
    ({"model.method": "qlora"}, ROUNDED), ({"rollout.num_generations": 4, "model.offload": "off"}, OTHER),
])
def test_a_change_says_what_else_it_costs(settings: dict[str, Any], cost: int) -> None:
    """Prevents: half the answers offered as a mere matter of seconds."""
    assert cost_of(case(8), settings) == cost


def test_an_adapter_in_place_of_all_weights_is_another_experiment() -> None:
    """Prevents: calling full training and LoRA the same but for rounding."""
    assert cost_of(case(8, model={"method": "full"}), {"model.method": "qlora"}) == OTHER


def test_the_host_has_to_have_room_too() -> None:
    """Prevents: layer inputs that fit the card because they were moved into memory that is not there."""
    asked = case(4, model={"gradient_checkpointing": True, "offload": "on"})
    poor = case(0, model={"gradient_checkpointing": True, "offload": "on"}, device=card(100, host_memory=needed(asked.plan, HOST) - 1))
    assert not poor.fits and "the host" in poor.verdict
    assert fit(poor).fits


def test_a_cpu_is_offered_nothing_that_moves_to_a_host() -> None:
    """Prevents: `offload_optimizer` proposed where the settings would be refused or do nothing."""
    cpu = card(3, place=HOST)
    asked = case(0, device=cpu, max_completion_length=4096)
    assert asked.config.model.device == "cpu" and asked.plan.device == HOST
    for found in (*cheapest_changes(asked), fit(asked)):
        assert not {"model.offload", "train.offload_optimizer"} & found.settings.keys()


def test_micro_batches_of_rows_are_left_alone() -> None:
    """Prevents: a token budget proposed where `objective.rows_per_micro_batch` decides."""
    asked = case(8, objective={"token_weights": "trl", "rows_per_micro_batch": 8})
    assert "train.micro_batch_tokens" not in fit(asked).settings
    for one in cheapest_changes(asked, 12):
        assert not {"train.micro_batch_tokens", "rollout.num_generations"} & one.settings.keys()


def test_wide_weights_become_narrow_with_an_optimizer_that_can_train_them() -> None:
    """Prevents: a proposal that the trainer refuses: bf16 weights under plain AdamW."""
    asked = case(7, model={"method": "full", "dtype": "float32"}, max_completion_length=256, max_concurrent=8)
    proposals = [one for one in cheapest_changes(asked, 12) if "model.dtype" in one.settings]
    assert proposals and all(one.settings["train.optimizer"] == "adamw_kahan" for one in proposals)
