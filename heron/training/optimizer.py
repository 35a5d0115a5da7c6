"""AdamW on the trainable weights, and a learning rate that is a pure function of the step (so resuming needs no scheduler)."""

from __future__ import annotations

import math

import torch
from torch import nn

from heron.config.schema import TrainConfig
from heron.errors import ConfigError


def make_optimizer(
    weights: list[tuple[str, nn.Parameter]], config: TrainConfig, *, activations: torch.dtype = torch.float32
) -> torch.optim.AdamW:
    """AdamW; matrices decay, vectors (norms, biases) don't. Refuses dtypes in which training would go wrong unseen."""
    if activations is torch.float16:
        raise ConfigError("The model is stored in float16, whose gradients underflow unless the loss is scaled, and that is not done. "
                          "Use --model.dtype=bfloat16 (or float32).")
    for name, weight in weights:
        if weight.dtype is not torch.float32:
            raise ConfigError(f"The trainable weight {name} is {weight.dtype}, which cannot hold updates of the size of "
                              f"train.learning_rate={config.learning_rate:g}. Use --model.dtype=float32, or --model.method=lora, whose "
                              "adapter is float32 on any base.")
    groups = [
        {"params": [weight for _, weight in weights if weight.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for _, weight in weights if weight.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2), fused=True,
    )


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of 1-based `step`: linear warm-up to the peak, then constant, or linear or cosine to 0 after max_steps."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / (config.warmup_steps + 1)
    share = (step - config.warmup_steps - 1) / max(config.max_steps - config.warmup_steps, 1)  # in [0, 1)
    if config.lr_scheduler_type == "linear":
        return config.learning_rate * (1 - share)
    if config.lr_scheduler_type == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
    return config.learning_rate


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Use this learning rate in the next step."""
    for group in optimizer.param_groups:
        group["lr"] = value
