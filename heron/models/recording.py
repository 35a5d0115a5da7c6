"""The forward pass of the trainer's own modules as a straight list of tensor operations: recorded once, and replayed.

The one hard idea: modules are the truth, but running them costs Python for every token, and small operations one by one. So they run
once on tensors without data (`make_fx`), which gives a graph of what they do with any number of tokens; groups of its operations that
`kernels.host` does at once are replaced (`lowering`), the rest stays as it is. The graph holds the parameters themselves: what the
optimizer writes in place, the next replay reads. What it cannot see are weights that were *replaced*, and adapters that are switched off
or merged: `state_of` is compared before each use, and a changed model is recorded anew. Other numbers that a module keeps in Python (the
epsilon of a norm) are recorded as they are.

What it leaves out: GPUs, models with hooks or quantised weights, and models whose forward pass depends on data; those run module by module.
"""

from __future__ import annotations

import itertools
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, library

from heron.kernels.attention import AttentionPlan
from heron.models.lowering import lowered

if TYPE_CHECKING:
    from heron.models.policy import Policy

WORTH_TOKENS, WORTH_TOKENS_PER_LAYER = 1024, 256
"""Fewest tokens for which recording pays: it takes a second, or 0.2 s a layer. A rule of the call alone: a resumed run repeats it."""
KEPT = 2
"""Recordings of one policy."""

RECORDING = threading.RLock()
"""One at a time: torch's tracer is of the whole process."""

Replay = Callable[[Tensor, Tensor, AttentionPlan], Tensor]
"""From token ids `[1, T]`, positions `[1, T]` and a plan to last hidden states `[1, T, D]`, with gradients where they are wanted."""


class Recorder:
    """Keeps the recordings of one policy: with its adapter and, where a KL is measured from the base, without."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._replays: dict[tuple[Any, ...], Replay | None] = {}

    def replay(self) -> Replay | None:
        """The decoder of the policy as it is now; None if it cannot be recorded."""
        if self._policy.is_quantized:  # what multiplies its weights has no gradient once it is recorded
            return None
        if any(module._forward_hooks or module._forward_pre_hooks for module in self._policy.model.modules()):
            return None
        with RECORDING:
            state = state_of(self._policy)
            if state not in self._replays:
                for stale in list(self._replays)[: 1 - KEPT]:
                    del self._replays[stale]
                self._replays[state] = self._recorded()
            return self._replays[state]

    def is_worth(self, tokens: int) -> bool:
        """A call of so many tokens pays for a recording."""
        return tokens >= max(WORTH_TOKENS, WORTH_TOKENS_PER_LAYER * int(self._policy.text_config.num_hidden_layers))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy records for itself."""
        return Recorder, (self._policy,)

    def _recorded(self) -> Replay | None:
        from torch.fx.experimental.proxy_tensor import make_fx

        policy, some = self._policy, [torch.zeros(1, 3, dtype=torch.int64) for _ in range(2)]  # 0 and 1 would be recorded as such

        def forward(token_ids: Tensor, positions: Tensor) -> Tensor:
            return policy.forward(token_ids, positions, _Recording())

        try:
            with policy.sampling(), quiet("torch._subclasses.fake_tensor"):
                return lowered(make_fx(forward, tracing_mode="symbolic", pre_dispatch=True, _allow_non_fake_inputs=True)(*some))
        except Exception as error:  # boundary: any model's own code, run on tensors without data
            reason = next(iter(str(error).splitlines()), "no message")
            warnings.warn(f"{policy.source} runs module by module and more slowly, since its forward pass could not be recorded: "
                          f"{type(error).__name__}: {reason}", stacklevel=2)
            return None


def state_of(policy: Policy) -> tuple[Any, ...]:
    """What a recording depends on: where the weights lie, and which adapters are on, and how strongly."""
    adapters = (
        (
            module.disable_adapters, *module.active_adapters, *getattr(module, "merged_adapters", ()),
            *getattr(module, "scaling", {}).values(),
        )
        for module in policy.model.modules() if isinstance(getattr(module, "disable_adapters", None), bool)
    )
    return (*adapters, *(tensor.data_ptr() for tensor in itertools.chain(policy.model.parameters(), policy.model.buffers())))


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Without what this logger reports besides raising it."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Recording:
    """An attention plan that leaves a mark in the graph."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        return attention_mark(query, key, value, layer, scaling, window, softcap, sinks)


@library.custom_op("heron::attend", mutates_args=())
def attention_mark(
    query: Tensor, key: Tensor, value: Tensor, layer: int, scaling: float, window: int | None, softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Stands for a layer's attention in a recording; never run."""
    raise NotImplementedError


@attention_mark.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, layer: int, scaling: float, window: int | None, softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    return query.new_empty(*query.shape[:3], value.shape[3])
