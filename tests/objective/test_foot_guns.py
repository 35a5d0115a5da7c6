"""Settings that train something else than their author thinks: refused where they are wrong, a sentence where they are unusual."""

from __future__ import annotations

from typing import Any

import pytest

from heron.errors import ConfigError
from heron.objective import LOSSES, Objective, advice, find_correction, find_loss

SETTINGS: dict[str, Any] = {
    "epsilon": 0.2, "epsilon_high": None, "delta": None, "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05,
    "vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0,
}
GOOD = {"cispo": {"epsilon_high": 5.0}, "gmpo": {"epsilon": 0.4}}


def objective(loss: str, level: str = "token", settings: dict[str, Any] | None = None, **more: Any) -> Objective:
    return Objective(loss=find_loss(loss), level=level, settings=SETTINGS | GOOD.get(loss, {}) | (settings or {}), **more)


@pytest.mark.parametrize("loss", LOSSES)
def test_recommended_settings_give_no_warning(loss: str) -> None:
    """Prevents: warnings that everybody learns to ignore."""
    assert objective(loss, "sequence" if loss == "luspo" else "token").advice() == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": "cispo", "settings": {"epsilon_high": None}}, r"greatest ratio itself.*not set.*5\.0"),
        ({"loss": "cispo", "settings": {"epsilon_high": 0.28}}, r"greatest ratio itself.*0\.28"),
        ({"loss": "dapo", "settings": {"delta": 1.28, "epsilon_high": 0.28}}, r"delta must exceed 1 \+ epsilon_high"),
        ({"loss": "grpo", "settings": {"delta": 1.1}}, r"more than 1\.2"),
        ({"loss": "gspo", "settings": {"delta": 1.1}}, r"more than 1\.2"),
        ({"loss": "luspo", "level": "sequence", "settings": {"delta": 1.1}}, r"more than 1\.2"),
        ({"loss": "vespo", "level": "sequence"}, "vespo makes no use.*Leave it out"),
        ({"loss": "gmpo", "level": "sequence"}, "gmpo makes no use.*Leave it out"),
        ({"loss": "rloo", "level": "sequence"}, "rloo makes no use.*Leave it out"),
        ({"loss": "reinforce", "level": "sequence"}, "reinforce makes no use.*Leave it out"),
        ({"loss": "grpo", "level": "row"}, "token, sequence.*'row'"),
        ({"loss": "grpo", "beta": 0.1, "kl_estimator": "k1"}, "no gradient in expectation.*use_bias_correction_kl"),
        ({"loss": "grpo", "kl_estimator": "k4"}, "k1, k2, k3"),
        ({"loss": "grpo", "beta": -0.1}, "must not be negative"),
    ],
)
def test_what_is_wrong_is_refused_when_the_objective_is_made(given: dict[str, Any], message: str) -> None:
    """Prevents: a run of many hours with a gradient that is a fifth of itself, noise, or clipped where it should not be."""
    with pytest.raises(ConfigError, match=message):
        objective(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": "luspo"}, "importance_sampling_level"),
        ({"loss": "dapo", "level": "sequence"}, "counts each row by its length"),
        ({"loss": "bnpo", "level": "sequence"}, "counts each row by its length"),
        ({"loss": "dr_grpo", "level": "sequence"}, "counts each row by its length"),
        ({"loss": "gmpo", "settings": {"epsilon": 0.2}}, "epsilon = 0.4"),
        ({"loss": "sapo", "settings": {"epsilon_high": 0.28}}, "epsilon_high = 0.28 has no effect with the loss sapo"),
        ({"loss": "cispo", "settings": {"delta": 3.0}}, "delta = 3 has no effect with the loss cispo"),
        ({"loss": "gmpo", "correction": find_correction("token_truncate")}, "one loss per row"),
        ({"loss": "dapo", "correction": find_correction("geometric_mask")}, "importance_sampling_clip_max = 1.001"),
        ({"loss": "grpo", "beta": 0.1, "kl_estimator": "k2", "use_bias_correction_kl": True}, "or choose k3"),
        ({"loss": "gspo", "beta": 0.1, "use_bias_correction_kl": True}, "which is biased"),
    ],
)
def test_what_is_unusual_gets_one_sentence(given: dict[str, Any], message: str) -> None:
    """Prevents: a setting without effect, or with another one than in its paper, that nobody hears about."""
    (sentence,) = objective(**given).advice()
    assert message in sentence


def test_settings_that_fit_each_other_are_left_alone() -> None:
    """Prevents: a warning that looks at one setting only."""
    assert objective("dapo", settings={"delta": 1.3, "epsilon_high": 0.28}).advice() == []
    assert objective("grpo", "sequence").advice() == []
    assert objective("dapo", correction=find_correction("geometric_mask", low=0.999, high=1.001)).advice() == []
    assert objective("dapo", beta=0.1, kl_estimator="k1", use_bias_correction_kl=True).advice() == []
    assert advice(find_loss("gmpo"), SETTINGS | GOOD["gmpo"], correction=find_correction("sequence_mask")) == []
