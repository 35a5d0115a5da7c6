"""What TRL is given to do: the same rewards, and the same work."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.same_work import VARIANTS, as_trl_reward, common_settings, trl_batch
from benchmarks.workloads import Workload, lowercase_share
from heron.config import load_config
from heron.rewards import resolve
from heron.types import Tags

RIGHT = "<start_working_out>7+8=15<end_working_out><SOLUTION>15</SOLUTION>"


def workload() -> Workload:
    config = load_config("arithmetic")
    return Workload(name="arithmetic", config=config, rewards=tuple(resolve(config.rewards.functions, config.rewards.weights)))


def test_rewards_pay_trl_what_they_pay_heron() -> None:
    """Prevents: a peer that trains on other rewards because an argument did not arrive."""
    completions = [[{"role": "assistant", "content": text}] for text in (RIGHT, RIGHT.replace("15<", "16<"), "fifteen")]
    paid = {
        function.__name__: as_trl_reward(function, Tags())(completions, [[1]] * 3, answer=["15"] * 3, left=[7] * 3, trainer_state=None)
        for function, _ in workload().rewards
    }
    assert paid == {"number_found": [1.0, 1.0, -1.0], "number_right": [3.0, -3.0, -3.0], "follows_format": [1.0, 1.0, 0.0]}


def test_sampled_tokens_are_counted_once() -> None:
    """Prevents: token counts that are multiplied by the number of reward functions."""
    counted: list[int] = []

    def count(completion_ids: Any) -> None:
        counted.append(sum(map(len, completion_ids)))

    completions = [[{"role": "assistant", "content": "abC"}], [{"role": "assistant", "content": ""}]]
    for counter in (count, None):
        assert as_trl_reward(lowercase_share, Tags(), counter)(completions, [[1, 2, 3], [4]]) == [0.5, 0.0]
    assert counted == [4]


def test_settings_follow_the_config() -> None:
    settings = common_settings(workload())
    recipe = load_config("arithmetic")
    assert settings["num_generations"] == recipe.rollout.num_generations
    assert settings["max_completion_length"] == recipe.rollout.max_completion_length
    assert (settings["loss_type"], settings["beta"], settings["bf16"], settings["use_cpu"]) == ("dapo", 0.0, False, True)
    assert settings["reward_weights"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_train_on_the_whole_batch_at_once(variant: str) -> None:
    """Prevents: a peer that makes several optimizer steps where Heron makes one, or generates more than once."""
    batch = trl_batch(workload(), variant)
    assert batch["per_device_train_batch_size"] * batch["gradient_accumulation_steps"] == workload().rollouts_per_step
