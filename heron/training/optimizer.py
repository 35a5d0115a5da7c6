"""The optimizer that the config names, and a learning rate that is a pure function of the step (so resuming needs no scheduler).

The hard idea is what 16 bits can hold. Weights of 16 bits are refused where updates of the size of the learning rate would be rounded away
unseen; Kahan summation keeps what rounding took, in 16 bits too: updates down to 4e-6 of a weight's size arrive in the sum. Packages and
devices that are not there are found before time is spent (`check_optimizer`).

Muon is for matrices inside the network, in which the direction that a matrix turns to is what matters; embeddings, the head, biases, norms
and stacked experts get AdamW, under the same learning rate: Muon's update is scaled to AdamW's size (arXiv 2502.16982). The A and B of an
adapter are such matrices too, and Muon trains them: their rank is the small side, so a step is cheap, and each direction moves as much.

What it leaves out: schedules of anything else, settings of single layers, and sums of gradients in float32: under `full` in bfloat16 the
gradients of micro-batches are added in bfloat16, which changed the gradient of a tiny model by 0.2 % over 2 micro-batches, 0.4 % over 9,
0.7 % over 33 and 1.2 % over 114, where computing in bfloat16 itself changed it by 1.7 %. Buffers in float32 would double its memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from heron.config.schema import TrainConfig
from heron.errors import ConfigError, MissingExtra

Weights = list[tuple[str, nn.Parameter]]
Groups = list[dict[str, Any]]

PACKAGES = {
    "adamw_8bit": ("bitsandbytes", "qlora"), "paged_adamw_8bit": ("bitsandbytes", "qlora"), "adamw_kahan": ("optimi", "optim"),
}
"""The module that an optimizer comes from, and the extra that installs it."""
SMALLEST_MEMORY = 2.0**-8
"""Of a running mean in bfloat16: with a smaller share of the new, the old one is rounded back to what it was and never fades."""
LARGE = 1024
"""Elements of a state that is worth moving."""


def check_optimizer(config: TrainConfig, device: torch.device) -> None:
    """Its package is there, and the device can do what it is for."""
    module, extra = PACKAGES.get(config.optimizer, ("torch", ""))
    if find_spec(module) is None:
        raise MissingExtra({"optimi": "torch-optimi"}.get(module, module), extra, f'train.optimizer = "{config.optimizer}"')
    if config.optimizer.startswith("paged_") and device.type != "cuda":
        raise ConfigError(f'train.optimizer is "{config.optimizer}", whose pages move between a CUDA GPU and the host, but the device is '
                          f'{device}. Use "adamw_8bit".')
    if config.offload_optimizer and device.type == "cpu":
        raise ConfigError("train.offload_optimizer moves the optimizer's state from a GPU to the host's memory, but the device is the CPU, "
                          "where it is already. Leave it out.")
    if config.offload_optimizer and config.optimizer.startswith("paged_"):
        raise ConfigError(f'train.offload_optimizer and train.optimizer = "{config.optimizer}" both move the state. Leave one out: '
                          '"adamw_8bit" may be offloaded.')
    plain = TrainConfig.__dataclass_fields__
    betas = [name for name in ("adam_beta1", "adam_beta2") if getattr(config, name) != plain[name].default]
    if config.optimizer == "adafactor" and betas:
        raise ConfigError(f"train.{' and train.'.join(betas)} belong to AdamW, but train.optimizer is \"adafactor\", whose running mean "
                          "follows the step. Leave them out.")


def make_optimizer(
    weights: Weights, config: TrainConfig, *, activations: torch.dtype = torch.float32, tables: Collection[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """The optimizer of these weights. Matrices decay, vectors (norms, biases) don't. Refuses dtypes in which training goes wrong unseen.

    Args:
        weights: what is trained, by name.
        config: train section.
        activations: dtype of the activations.
        tables: embeddings and heads among the weights, whose rows are tokens (see `tables_of`).
    """
    _check_dtypes(weights, config, activations)
    chosen = [weight for _, weight in weights]
    if config.optimizer != "muon":
        return _one(_groups(chosen, config), config)
    rows = {id(table) for table in tables}
    inner = [weight for weight in chosen if weight.dim() == 2 and id(weight) not in rows]
    known = {id(weight) for weight in inner}
    rest = [weight for weight in chosen if id(weight) not in known]
    parts: list[torch.optim.Optimizer] = []
    if inner:
        parts.append(torch.optim.Muon(inner, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"))
    if rest:
        parts.append(_adamw(_groups(rest, config), config))
    return Together(parts)


def tables_of(model: Any) -> list[nn.Parameter]:
    """Weights of a language model whose rows are tokens: embeddings and the head."""
    found = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    return [weight for module in (*found, model.get_output_embeddings()) for weight in module.parameters(recurse=False)]


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


@contextmanager
def resting(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The optimizer's state is in the host's memory, pinned, while something else has the GPU. Not yet run on a GPU."""
    places = {id(weight): weight.device for group in optimizer.param_groups for weight in group["params"]}
    move_state(optimizer, lambda weight, value: torch.empty_like(value, device="cpu", pin_memory=True).copy_(value))
    try:
        yield
    finally:
        move_state(optimizer, lambda weight, value: value.to(places[id(weight)]))


def move_state(optimizer: torch.optim.Optimizer, move: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Replace each large tensor of the state by what `move(weight, tensor)` makes of it, one after the other."""
    for part in optimizer.parts if isinstance(optimizer, Together) else [optimizer]:
        for weight, state in part.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.numel() >= LARGE:
                    state[name] = move(weight, value)


class Together(torch.optim.Optimizer):
    """Several optimizers of different weights as one."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        super().__init__([{"params": group["params"]} for part in parts for group in part.param_groups], {})
        self.parts = parts
        self._share()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()

    def _share(self) -> None:
        """The groups and the state are those of the parts."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def _one(groups: Groups, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of all weights that `config.optimizer` names."""
    rate, betas = config.learning_rate, (config.adam_beta1, config.adam_beta2)
    if config.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=rate)
    if config.optimizer == "adamw_kahan":
        import optimi

        return optimi.AdamW(groups, lr=rate, betas=betas, eps=1e-8, kahan_sum=True)  # type: ignore[no-any-return]
    if config.optimizer in PACKAGES:
        import bitsandbytes.optim

        is_paged = config.optimizer.startswith("paged_")
        return bitsandbytes.optim.AdamW8bit(groups, lr=rate, betas=betas, eps=1e-8, is_paged=is_paged)  # type: ignore[no-any-return]
    return _adamw(groups, config)


def _adamw(groups: Groups, config: TrainConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.adam_beta1, config.adam_beta2), fused=True)


def _groups(weights: Sequence[nn.Parameter], config: TrainConfig) -> Groups:
    groups: Groups = [
        {"params": [weight for weight in weights if weight.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _check_dtypes(weights: Weights, config: TrainConfig, activations: torch.dtype) -> None:
    if activations is torch.float16:
        raise ConfigError("The model is stored in float16, whose gradients underflow unless the loss is scaled, and that is not done. "
                          "Use --model.dtype=bfloat16 (or float32).")
    keeps_rests = config.optimizer == "adamw_kahan"
    for name, weight in weights:
        if weight.dtype is torch.bfloat16 and keeps_rests:
            _check_fading(config)
        elif weight.dtype is not torch.float32:
            raise ConfigError(f"The trainable weight {name} is {weight.dtype}, which cannot hold updates of the size of "
                              f"train.learning_rate={config.learning_rate:g}. Use --model.dtype=float32, or --model.method=lora, whose "
                              "adapter is float32 on any base, or --train.optimizer=adamw_kahan, which trains bfloat16.")


def _check_fading(config: TrainConfig) -> None:
    """The running means of `adamw_kahan` have the weights' type."""
    for name in ("adam_beta1", "adam_beta2"):
        if 1 - getattr(config, name) < SMALLEST_MEMORY:
            raise ConfigError(f"train.{name} is {getattr(config, name)}, but adamw_kahan keeps its running means in the weights' bfloat16, "
                              f"in which they would never fade. Use at most {1 - SMALLEST_MEMORY:.3f}, such as 0.99, or another optimizer "
                              "with --model.dtype=float32.")
