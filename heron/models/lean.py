"""Adapted linear layers that keep no float32 copy of what they read: PEFT's own, computed by `kernels.low_rank`.

The one hard idea: only the call is replaced, and only where it would be the plain one: 16 bits, one vanilla adapter that is switched on
and not merged. Everything else (an adapter that is switched off, DoRA, float32, the recording of the modules, which cannot look into a
kernel) is PEFT's own forward pass. Names of weights, saving and loading are as before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from heron.kernels.low_rank import with_low_rank


def keep_no_copies(model: Any) -> None:
    """Bind the lean call on every adapted linear layer of a PEFT model."""
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer) and isinstance(module.get_base_layer(), nn.Linear):
            module.forward = Lean(module)  # type: ignore[attr-defined]


class Lean:
    """What the `forward` of an adapted layer is replaced by."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __call__(self, x: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
        """`[..., K]` to `[..., O]`."""
        layer = self.layer
        name = None if arguments or keywords or layer.disable_adapters or layer.merged else self._only_plain_adapter()
        if name is None or type(x) is not Tensor or x.dtype is not torch.bfloat16:
            return type(layer).forward(layer, x, *arguments, **keywords)  # type: ignore[no-any-return]
        a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
        rounds_first = type(layer.get_base_layer()) is not nn.Linear  # as PEFT does on a quantised base
        return with_low_rank(layer.base_layer(x), x, a, b, layer.scaling[name], rounds_first=rounds_first)

    def _only_plain_adapter(self) -> str | None:
        """The adapter that is on, if it is one, without a variant."""
        layer = self.layer
        names = [name for name in layer.active_adapters if name in layer.lora_A]
        is_plain = len(names) == 1 and names[0] not in layer.lora_variant and layer.lora_B[names[0]].bias is None
        return names[0] if is_plain else None
