"""What both sides train on: one saved model, one dataset, one list of reward functions, one shape of batch.

`arithmetic` is the default recipe's own batch on its warmed-up start, so that completions have natural lengths. `long` has the
usual shape of a reasoning run on a larger random model: long prompts and ragged completions, most of them short. A random model
never learns to stop, so its generation config lists enough end tokens for a mean length of about 45.

The learning rate is tiny: a step costs the same whatever its size, and both sides keep sampling the lengths that they began with.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from heron import data
from heron.config import Config, load_config
from heron.models.embedded import build_config, build_tokenizer
from heron.rewards import resolve
from heron.training.warmup import warm_start
from heron.types import Prompt, Tags

LEARNING_RATE = 1e-6

PROMPT_TOKENS, MAX_NEW_TOKENS, END_TOKENS = 256, 192, 6
"""Of the workload `long`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A batch to step on, the same for every trainer."""

    name: str
    """`arithmetic` or `long`."""
    config: Config
    """Heron's settings; `model.name` is the saved model's folder."""
    rewards: tuple[tuple[Callable[..., Any], float], ...]
    """Functions in Heron's row form, with their weights."""

    @property
    def rollouts_per_step(self) -> int:
        """Completions that a step trains on."""
        return self.config.train.prompts_per_step * self.config.rollout.num_generations

    @property
    def shape(self) -> str:
        """The batch in words."""
        train, rollout = self.config.train, self.config.rollout
        return f"{train.prompts_per_step} x {rollout.num_generations}, <= {rollout.max_completion_length} new"

    def prompts(self) -> Sequence[Prompt]:
        """The rows to train on."""
        return data.load(self.config.data, self.config.tags, seed=self.config.train.seed, eval_size=0).train


def arithmetic() -> Workload:
    """The default recipe's batch on the embedded model's warmed-up start, which is made if it is not in the cache."""
    recipe = load_config("arithmetic")
    config = load_config("arithmetic", _stepping(warm_start(recipe)))
    return Workload(
        name="arithmetic", config=config, rewards=tuple(resolve(config.rewards.functions, config.rewards.weights))
    )


def long(folder: Path) -> Workload:
    """Prompts of 256 tokens, 8 siblings, up to 192 new tokens, on a random model of ten million weights saved in `folder`."""
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps({"prompt": question}) + "\n" for question in _questions(256)))
    config = load_config(
        "arithmetic", _stepping(_random_model(folder / "model")),
        {"data": {"dataset": str(questions)}, "rollout": {"max_completion_length": MAX_NEW_TOKENS}, "train": {"prompts_per_step": 4}},
    )
    return Workload(name="long", config=config, rewards=((lowercase_share, 1.0),))


def lowercase_share(completion: str) -> float:
    """A reward that differs between any two siblings."""
    return sum(letter.islower() for letter in completion) / (len(completion) + 1)


def _stepping(model: Path) -> dict[str, Any]:
    """Settings of a run that only steps: no evaluation, no checkpoint."""
    return {
        "model": {"name": str(model), "dtype": "float32"}, "evaluation": {"size": 0},
        "train": {"max_steps": 1_000_000, "learning_rate": LEARNING_RATE, "warmup_steps": 0, "save_steps": 0},
    }


def _random_model(folder: Path) -> Path:
    from transformers import Qwen3ForCausalLM

    tokenizer = build_tokenizer(Tags())
    shape = build_config(tokenizer)
    shape.hidden_size, shape.intermediate_size, shape.num_hidden_layers, shape.num_attention_heads = 384, 1024, 6, 6
    shape.layer_types = None
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(type(shape)(**shape.to_dict()))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *range(END_TOKENS - 1)]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _questions(count: int) -> list[str]:
    """Random letters; with the template's role and end marks a question makes exactly `PROMPT_TOKENS` tokens."""
    draw = random.Random(0)
    return ["".join(draw.choices(string.ascii_letters, k=PROMPT_TOKENS - 3)) for _ in range(count)]
