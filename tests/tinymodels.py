"""Tiny random models in Hugging Face format, for tests: two layers, 32 wide, with the embedded model's byte tokenizer.

Weights are drawn wide, so that every token depends on what it attends to and greedy decoding has no near ties.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from heron.config.schema import ModelConfig
from heron.models import Policy, load_policy
from heron.models.embedded import build_tokenizer
from heron.objective import advantages
from heron.types import Completion, FinishReason, Group, Message, Prompt, Rollout, Tags, Turn

TAGS = Tags()

KINDS = {
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "llama": ("Llama", {}),
    "untied": ("Llama", {"tie_word_embeddings": False}),
    "mistral-window": ("Mistral", {"sliding_window": 7}),
    "qwen2-window": ("Qwen2", {"sliding_window": 7, "use_sliding_window": True, "max_window_layers": 1}),
}
"""Families by name. `qwen2-window` has a first layer with full attention and a second one with a window."""


def save_tiny(kind: str, folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, **settings: Any) -> Path:
    """Write a random model and its tokenizer; `settings` go into the transformers config."""
    import transformers

    family, extra = KINDS[kind]
    tokenizer = build_tokenizer(TAGS)
    wanted = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.15,
        "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = getattr(transformers, f"{family}Config")(**wanted | extra | settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{family}ForCausalLM")(config)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load_tiny(folder: Path, **settings: Any) -> Policy:
    """The policy of a tiny model; `settings` go into Heron's model section."""
    return load_policy(ModelConfig(name=str(folder), device="cpu", **settings), TAGS)


def stir_adapter(policy: Policy, *, seed: int = 0, scale: float = 0.3) -> None:
    """Give a fresh adapter's B matrices, which begin as zeros, random values, so that it does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in policy.trainable():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)


def prompt(row: int = 0, text: str = "What is 1 + 1?", **columns: Any) -> Prompt:
    """A prompt with one user message."""
    messages: tuple[Message, ...] = ({"role": "user", "content": text},)
    return Prompt(id=f"test:{row}", messages=messages, columns={"question": text, **columns})


def random_ids(draw: random.Random, length: int, vocabulary: int = 250) -> tuple[int, ...]:
    """Token ids that are bytes, never special."""
    return tuple(draw.randrange(vocabulary) for _ in range(length))


def completion(token_ids: Sequence[int], *, truncated: bool = False, logprobs: Sequence[float] | None = None) -> Completion:
    """A completion as an engine would have made it."""
    return Completion(
        token_ids=tuple(token_ids), logprobs=tuple(logprobs or [-1.0] * len(token_ids)),
        finish_reason=FinishReason.LENGTH if truncated else FinishReason.STOP, policy_version=0,
    )


def ragged_groups(
    seed: int, *, shape: Sequence[int] = (4, 3, 2), scale: str = "group", flat: Sequence[int] = (),
    truncated: float = 0.3,
) -> list[Group]:
    """Groups of these many siblings with prompts of 1 to 12 tokens and completions of 1 to 10; those in `flat` have equal rewards."""
    draw = random.Random(seed)
    rewards = [
        [1.0] * siblings if number in flat else [draw.choice((0.0, 0.5, 1.0, 3.0)) + 0.01 * k for k in range(siblings)]
        for number, siblings in enumerate(shape)
    ]
    values = advantages(rewards, scale=scale)
    groups = []
    for number, siblings in enumerate(shape):
        row = prompt(number)
        first = random_ids(draw, 1 if number == 1 else draw.randint(2, 12))
        rollouts = []
        for sibling in range(siblings):
            length = 1 if (number, sibling) == (0, 1) else draw.randint(2, 10)
            answer = completion(random_ids(draw, length), truncated=draw.random() < truncated)
            rollouts.append(Rollout(
                prompt=row, turns=(Turn(prompt_ids=first, completion=answer),), text="",
                reward=rewards[number][sibling], advantage=values[number][sibling],
            ))
        groups.append(Group(prompt=row, rollouts=tuple(rollouts)))
    return groups
