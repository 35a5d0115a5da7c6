"""Which engine a config names, and what goes with it."""

from __future__ import annotations

from typing import Any

import pytest

from heron.config.schema import RolloutConfig
from heron.engine import SamplingParams
from heron.errors import ConfigError


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"engine": "vlm"}, "vlm"),
        ({"vllm_url": "http://localhost:8000", "vllm_folder": "x"}, "rollout.engine = 'vllm' alone"),
        ({"engine": "vllm", "vllm_url": "http://localhost:8000"}, "vllm_folder must be set where rollout.vllm_url is, but it is None"),
        ({"engine": "vllm", "vllm_folder": "adapters"}, "vllm_url must be set where rollout.vllm_folder is, but it is None"),
        ({"cache_gib": -1.0}, "must not be negative"),
        ({"cache_gib": 1.0, "engine": "hf"}, "cache_gib is of use to"),
        ({"cache_gib": 1.0, "engine": "vllm", "vllm_url": "http://localhost:8000", "vllm_folder": "x"}, "cache_gib is of use to"),
    ],
)
def test_settings_that_do_nothing_or_contradict_each_other_are_refused(wrong: dict[str, Any], said: str) -> None:
    """Prevents: a server that is named but never asked, and one that cannot find the adapters."""
    with pytest.raises(ConfigError, match=said):
        RolloutConfig(**wrong)


@pytest.mark.parametrize("engine", ["native", "vllm"])
def test_a_cache_that_is_used_may_be_set(engine: str) -> None:
    RolloutConfig(engine=engine, cache_gib=1.0)


def test_a_temperature_that_cannot_be_sampled_is_no_setting() -> None:
    """Prevents: a run whose model is loaded, and whose first step is refused by the engine."""
    for temperature in (0.0, 1e-7, -1.0):
        with pytest.raises(ConfigError, match=r"rollout\.temperature must be at least 1e-06"):
            RolloutConfig(temperature=temperature)
    for make in (RolloutConfig, lambda temperature: SamplingParams(max_tokens=1, temperature=temperature)):
        make(temperature=1e-6)
    with pytest.raises(ConfigError, match="temperature"):
        SamplingParams(max_tokens=1, temperature=1e-7)
