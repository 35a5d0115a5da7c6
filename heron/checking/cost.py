"""What the probe will cost, said before it starts."""

from __future__ import annotations

from dataclasses import replace

from heron.config import Config
from heron.config.objective import ObjectiveConfig
from heron.errors import ModelError
from heron.memory.seconds import element_of, step_seconds
from heron.run.text import count, short_duration
from heron.training.cost import config_json
from heron.training.present import device_present


def words_of_cost(config: Config, *, prompts: int, samples: int, prompt_tokens: int) -> str:
    """How many answers of how many tokens, and about how long that takes here."""
    most = config.rollout.max_completion_length
    words = f"Asking the model: {prompts} prompts × {samples} answers of at most {most} tokens ({count(prompts * samples * most)} in all)"
    seconds = _seconds(config, prompts, samples, prompt_tokens)
    words += ", each scored once by every reward function"
    if seconds is None:
        return f"{words}."
    return f"{words}; by the model's size about {short_duration(seconds)} if all are that long, several times that if it is very small."


def _seconds(config: Config, prompts: int, samples: int, prompt_tokens: int) -> float | None:
    """Of sampling; None for a model that cannot be planned."""
    step = replace(
        config, objective=ObjectiveConfig(), train=replace(config.train, prompts_per_step=prompts),
        rollout=replace(config.rollout, num_generations=samples, partial_tokens=0),
    )
    try:
        model = config_json(config)
        device = device_present(config.model.device, element=element_of(config, model))
        return step_seconds(step, model, prompt_tokens=prompt_tokens, device=device).sampling
    except ModelError:
        return None
