"""Tiny random models in Hugging Face format, for tests: two layers, 32 wide, with the embedded model's byte tokenizer.

Weights are drawn wide, so that every token depends on what it attends to and greedy decoding has no near ties.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heron.config.model import ModelConfig
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
    "gemma2": ("Gemma2", {
        "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 7, "attn_logit_softcapping": 1.0, "final_logit_softcapping": 4.0,
    }),
    "gemma3": ("Gemma3", {"head_dim": 8, "sliding_window": 7, "sliding_window_pattern": 2, "final_logit_softcapping": 4.0}),
    "cohere": ("Cohere", {"logit_scale": 0.4}),
    "cohere2": ("Cohere2", {"logit_scale": 0.4, "head_dim": 8, "sliding_window": 7}),
    "granite": ("Granite", {"logits_scaling": 2.0, "residual_multiplier": 0.5, "embedding_multiplier": 3.0, "attention_multiplier": 0.3}),
}
"""Families by name. `qwen2-window` has a first layer with full attention and a second one with a window."""


def save_tiny(kind: str, folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, **settings: Any) -> Path:
    """Write a random model and its tokenizer; `settings` go into the transformers config."""
    family, extra = KINDS[kind]
    return save_model(family, folder, seed=seed, dtype=dtype, **{"tie_word_embeddings": True} | extra | settings)


def save_model(
    family: str, folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, stirred: bool = False, **settings: Any
) -> Path:
    """The same of a family by its name in transformers; `stirred` draws its norms, biases and sinks too, which begin as ones and zeros."""
    import transformers

    tokenizer = build_tokenizer(TAGS)
    wanted = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.15,
        "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }
    make_config = getattr(transformers, f"{family}TextConfig", None) or getattr(transformers, f"{family}Config")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{family}ForCausalLM")(make_config(**wanted | settings))
        if stirred:
            _stir(model)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def _stir(model: Any) -> None:
    """Move weights that begin as ones or zeros."""
    for name, weight in model.named_parameters():
        if weight.dim() == 1 or "bias" in name:
            weight.add_(torch.randn(weight.shape) * (2.0 if "sinks" in name else 0.2))


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


def as_sampled(groups: Sequence[Group], logprobs: Sequence[Tensor], *, gap: float, seed: int = 0) -> list[Group]:
    """The groups as if an engine had sampled them with `logprobs` (by row), off by about `gap`; entropies are drawn."""
    generator = torch.Generator().manual_seed(seed)
    rows = iter(logprobs)

    def sampled(rollout: Rollout) -> Rollout:
        exact = next(rows).detach().float()
        drift = torch.randn((), generator=generator) + torch.randn(exact.shape, generator=generator)  # of the row, and of its tokens
        reported = iter((exact + gap * drift).clamp(max=0.0).tolist())
        nats = iter((torch.rand(exact.shape, generator=generator) * 3).tolist())
        return replace(rollout, turns=tuple(turn_of(turn, reported, nats) for turn in rollout.turns))

    def turn_of(turn: Turn, reported: Iterator[float], nats: Iterator[float]) -> Turn:
        count = len(turn.completion.token_ids)
        answer = replace(
            turn.completion, logprobs=tuple(itertools.islice(reported, count)), entropies=tuple(itertools.islice(nats, count))
        )
        return replace(turn, completion=answer)

    return [replace(group, rollouts=tuple(map(sampled, group.rollouts))) for group in groups]


def with_shared_beginnings(groups: Sequence[Group], length: int = 3) -> list[Group]:
    """The groups with siblings that begin alike; every second one is wholly what another begins with."""

    def said(group: Group, number: int, rollout: Rollout) -> Rollout:
        first = group.rollouts[0].completion_ids
        own = rollout.turns[0].completion
        tokens = first[: len(own.token_ids)] if number % 2 else (*first[:length], *own.token_ids[length:])[: len(own.token_ids)]
        return replace(rollout, turns=(replace(rollout.turns[0], completion=replace(own, token_ids=tokens)),))

    return [replace(group, rollouts=tuple(said(group, *pair) for pair in enumerate(group.rollouts))) for group in groups]


def with_second_turns(groups: Sequence[Group], seed: int = 0) -> list[Group]:
    """The groups after an environment has replied to every second rollout, and been answered."""
    draw = random.Random(seed)

    def answered(number: int, rollout: Rollout) -> Rollout:
        more = Turn(prompt_ids=random_ids(draw, draw.randint(1, 4)), completion=completion(random_ids(draw, draw.randint(1, 5))))
        return replace(rollout, turns=(*rollout.turns, more)) if number % 2 else rollout

    return [replace(group, rollouts=tuple(answered(*pair) for pair in enumerate(group.rollouts))) for group in groups]


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
    values = advantages(rewards, scale_rewards=scale)
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
