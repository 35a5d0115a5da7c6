"""Which engine a config names, and what goes with it."""

from __future__ import annotations

from typing import Any

import pytest

from heron.config.schema import RolloutConfig
from heron.errors import ConfigError


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"engine": "vlm"}, "vlm"),
        ({"vllm_url": "http://localhost:8000", "vllm_folder": "x"}, "rollout.engine = 'vllm' alone"),
        ({"engine": "vllm", "vllm_url": "http://localhost:8000"}, "go together"),
        ({"engine": "vllm", "vllm_folder": "adapters"}, "go together"),
        ({"cache_gib": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_do_nothing_or_contradict_each_other_are_refused(wrong: dict[str, Any], said: str) -> None:
    """Prevents: a server that is named but never asked, and one that cannot find the adapters."""
    with pytest.raises(ConfigError, match=said):
        RolloutConfig(**wrong)
