"""Who computes log-probs of chosen tokens from hidden states: Heron, full logits, TRL's fused head, Liger's.

Each side is a function of `Inputs` that returns the log-probs `[N]`, which autograd can differentiate. Peers are called as
their own trainers call them, with their own tile sizes, without the outputs that can be left out, and uncompiled: torch.compile has
nothing to fuse across their loops on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.machine import installed

SIDES = ("heron", "heron foreseen", "heron with entropy", "full logits", "liger", "trl")
"""Names for `side`."""
PACKAGES = {"liger": "liger-kernel", "trl": "trl"}
"""What a peer needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A shape to measure."""

    tokens: int
    """N."""
    vocabulary: int
    """V."""
    width: int = 1024
    """D."""
    dtype: str = "bfloat16"
    """Of hidden and head."""
    is_trained: bool = False
    """Whether the head wants a gradient."""

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.dtype}, N {self.tokens}, D {self.width}, V {self.vocabulary}, {'trained' if self.is_trained else 'frozen'} head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Tensors of a case."""

    hidden: Tensor
    """`[N, D]`, standard normal: logits of standard deviation 1."""
    head: Tensor
    """`[V, D]`."""
    targets: Tensor
    """`[N]`."""
    upstream: Tensor
    """`[N]`, the loss's gradient with respect to the log-probs."""

    @classmethod
    def of(cls, case: Case, device: str = "cpu") -> Inputs:
        """The same ones each time."""
        dtype, generator = getattr(torch, case.dtype), torch.Generator(device).manual_seed(0)
        hidden = torch.empty(case.tokens, case.width, dtype=dtype, device=device).normal_(generator=generator)
        head = torch.empty(case.vocabulary, case.width, dtype=dtype, device=device).normal_(std=case.width**-0.5, generator=generator)
        targets = torch.randint(case.vocabulary, (case.tokens,), device=device, generator=generator)
        upstream = torch.randn(case.tokens, device=device, generator=generator)
        return cls(hidden=hidden.requires_grad_(), head=head.requires_grad_(case.is_trained), targets=targets, upstream=upstream)

    def run(self, side: Callable[[Inputs], Tensor]) -> Tensor:
        """Forward and backward; gradients stand in `hidden.grad` and `head.grad`."""
        self.hidden.grad = self.head.grad = None
        logprobs = side(self)
        (logprobs * self.upstream).sum().backward()
        return logprobs.detach()


Side = Callable[[Inputs], Tensor]


def is_here(name: str) -> bool:
    """Whether a side's package is installed."""
    return name not in PACKAGES or installed(PACKAGES[name]) is not None


def side(name: str) -> Side:
    """One of `SIDES`."""
    return {
        "heron": heron, "heron foreseen": heron_foreseen, "heron with entropy": heron_with_entropy, "full logits": full_logits,
        "liger": liger, "trl": trl,
    }[name]


def heron(inputs: Inputs) -> Tensor:
    """This project's kernel, as the trainer calls it."""
    from heron.kernels.logprobs import selected_logprobs

    return selected_logprobs(inputs.hidden, inputs.head, inputs.targets)[0]


def heron_foreseen(inputs: Inputs) -> Tensor:
    """The same as on a policy's own samples, where the trainer knows what the loss will send back: a trained head takes a product less."""
    from heron.kernels.logprobs import selected_logprobs

    return selected_logprobs(inputs.hidden, inputs.head, inputs.targets, expected_gradient=inputs.upstream)[0]


def heron_with_entropy(inputs: Inputs) -> Tensor:
    """The same, measuring the entropy too."""
    from heron.kernels.logprobs import selected_logprobs

    return selected_logprobs(inputs.hidden, inputs.head, inputs.targets, entropy=True)[0]


def full_logits(inputs: Inputs) -> Tensor:
    """What a model with a head does: logits, float32, log_softmax, gather."""
    logits = torch.nn.functional.linear(inputs.hidden, inputs.head).float()  # [N, V]
    return logits.log_softmax(-1).gather(-1, inputs.targets[:, None]).squeeze(-1)


def liger(inputs: Inputs) -> Tensor:
    """The log-probs inside Liger's fused GRPO loss, without the loss: tiles made again in the backward pass."""
    from liger_kernel.chunked_loss.fused_linear_ppo import _SELECTIVE_LOGPROB_VOCAB_CHUNK_SIZE, _ChunkedSelectiveLogProbFunction

    return _ChunkedSelectiveLogProbFunction.apply(
        inputs.hidden, inputs.head, inputs.targets, None, 1.0, _SELECTIVE_LOGPROB_VOCAB_CHUNK_SIZE
    )


def trl(inputs: Inputs) -> Tensor:
    """TRL's fused head, without its optional outputs."""
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    return ChunkedLogProbFunction.apply(
        inputs.hidden, inputs.head, None, inputs.targets, 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ()
    )[0]
