"""One attention function for training and sampling, registered with transformers under the name `heron`.

The one hard idea: the model's own modules run unchanged on packed tokens `[1, T]` (no padding in any linear layer), and a
*plan*, passed through `model(..., plan=plan)`, says who attends to whom. Training packs what siblings begin with once; every sibling
attends to it and to itself, and gradients through it are exact. On CUDA the plan is a mask of FlexAttention (`flex`, not yet run
on a GPU), elsewhere matrix products over the parts of the tree (`packed`).

Left out: paged caches, dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from heron.errors import ModelError
from heron.kernels.flex import FlexPlan, flex_plan
from heron.kernels.packed import PackedPlan, plan_of
from heron.kernels.packed_tree import tree_of

NAME = "heron"
"""The name under which the function is registered with transformers."""


class PlanMissing(ModelError):
    """A forward pass came to Heron's attention without a plan: it was called from elsewhere, or the model's code hands none on."""


class AttentionPlan(Protocol):
    """Who attends to whom in one forward pass."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """`query [B, H, T, d]`, `key` and `value [B, K, T, d]` of one layer to `output [B, H, T, d]`.

        A token sees those before it in its row that are fewer than `window` positions away. Scores are multiplied by `scaling`, and then
        become `softcap * tanh(scores / softcap)` if there is a cap. `sinks [H]` are scores of one more key for each head, whose value is
        0: what a head would say is made smaller by the weight that it gives to its sink (arXiv:2309.17453; gpt-oss).
        """
        ...


def register() -> None:
    """Make the function known to transformers. Called when a policy is made; calling it again changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def packed_plan(rows: Sequence[Sequence[int]], *, device: torch.device, slack: float = 1.25) -> PackedPlan | FlexPlan:
    """Plan for rows of packed indices, each in reading order. Rows may share beginnings; together they hold every packed token.

    The packed order is free, but depth-first order (a sibling's own tokens next to each other, and behind what it continues) saves
    a copy of queries, keys and values. `slack` bounds the padding where rows are computed together: their lengths differ by at most
    this factor, and a few tokens.
    """
    tree = tree_of(rows)
    if device.type == "cuda":
        return flex_plan(tree, device=device)
    return plan_of(tree, device=device, slack=slack)


def _attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, scaling: float | None = None,
    plan: AttentionPlan | None = None, sliding_window: int | None = None, softcap: float | None = None, s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    if plan is None:
        raise PlanMissing("This model's attention is Heron's, and a plan tells it who attends to whom: the model does not run by itself. "
                          "Ask it with heron.load(RUN).fast_generate([...]); or, to call model.generate, give it transformers' attention: "
                          "model.eval(), model.set_attn_implementation('sdpa').")
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output = plan.attend(layer, query, key, value, scaling=scale, window=sliding_window, softcap=softcap, sinks=s_aux)
    return output.transpose(1, 2), None


def _no_mask(*_: Any, **__: Any) -> None:
    """The plan knows who attends to whom; transformers need not build a mask."""
