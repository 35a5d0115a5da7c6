"""The ways from hidden states to log-probs that are compared: Heron's, full logits, and the fused functions of TRL and Liger.

The one hard idea: every way is a function of the same three tensors, and each does the least that it can. TRL's is asked for nothing
besides log-probs, and Liger's is called without the loss around it (which Liger compiles; this part it never does). What it leaves out:
ways that exist on GPUs alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.machine import installed

Way = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`hidden [N, D], head [V, D], targets [N]` to `logprobs [N]`."""

HERON, ENTROPY, FULL, TRL, LIGER = "Heron", "Heron with entropy", "full logits", "TRL", "Liger"
PACKAGES = {TRL: "trl", LIGER: "liger-kernel"}
"""What a peer's way needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What goes in."""

    tokens: int
    """N."""
    vocabulary: int
    """V."""
    dtype: str
    """Of hidden and head: `bfloat16` or `float32`."""
    trained: bool = False
    """Whether the head is trained."""
    width: int = 1024
    """D."""

    def text(self) -> str:
        """For a table."""
        return f"{self.dtype}, N {self.tokens}, V {self.vocabulary}"

    def inputs(self, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Hidden, head, targets, and the loss's gradient of each log-prob. Made in place: nothing is freed that a peak could hide in."""
        dtype, generator = getattr(torch, self.dtype), torch.Generator(device).manual_seed(0)
        hidden = torch.empty(self.tokens, self.width, dtype=dtype, device=device).normal_(generator=generator)
        head = torch.empty(self.vocabulary, self.width, dtype=dtype, device=device).normal_(std=self.width**-0.5, generator=generator)
        targets = torch.randint(self.vocabulary, (self.tokens,), generator=generator, device=device)
        gradient = torch.randn(self.tokens, generator=generator, device=device)
        return hidden.requires_grad_(), head.requires_grad_(self.trained), targets, gradient


def way(name: str) -> Way:
    """The function behind a name."""
    return {HERON: _heron, ENTROPY: _heron_with_entropy, FULL: full_logits, TRL: _trl, LIGER: _liger}[name]


def is_here(name: str) -> bool:
    """Whether it can be measured."""
    return name not in PACKAGES or installed(PACKAGES[name]) is not None


def forward_and_backward(name: str, inputs: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """What is measured: log-probs and the gradients of a loss on them, which are then dropped."""
    hidden, head, targets, gradient = inputs
    (way(name)(hidden, head, targets) @ gradient).backward()
    hidden.grad = head.grad = None


def full_logits(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """The textbook: logits, widened, normalized, gathered."""
    logits = torch.nn.functional.linear(hidden, head)
    wide = logits if logits.dtype is torch.float64 else logits.float()
    return wide.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


def _heron(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    from heron.kernels.logprobs import selected_logprobs

    return selected_logprobs(hidden, head, targets)[0]


def _heron_with_entropy(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    from heron.kernels.logprobs import selected_logprobs

    return selected_logprobs(hidden, head, targets, entropy=True)[0]


def _trl(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    logprobs: Tensor = ChunkedLogProbFunction.apply(hidden, head, None, targets, 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ())[0]
    return logprobs


def _liger(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    from liger_kernel.chunked_loss.fused_linear_ppo import LigerFusedLinearPPOBase

    logprobs: Tensor = LigerFusedLinearPPOBase.chunk_forward(hidden[None], head, targets[None])
    return logprobs[0]
