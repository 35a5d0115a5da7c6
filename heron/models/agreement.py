"""Does a model say the same with Heron's attention as with its own? Asked once, when it is loaded.

The hard idea: what a family wants of its attention cannot be listed (norms, caps, states that run through the sequence, arguments
that are not handed on), but it can be seen. A row packed behind another one must come out as the model's own attention makes it alone. What
is not seen: windows longer than the row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heron.errors import ModelError
from heron.kernels import attention

ROW, BEFORE = 12, 5
"""Tokens of the row that is compared, and of the one packed before it."""
STATELESS = {"full_attention", "sliding_attention"}
"""Kinds of layers in which tokens meet in attention alone."""


def adopt_attention(model: Any, name: str) -> None:
    """Switch a model to Heron's attention; a ModelError if it would then be another model."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - STATELESS
    if kinds:
        raise ModelError(f"{name} is a {type(model).__name__} with layers of the kind {', '.join(sorted(kinds))}, which is not supported "
                         "yet. Choose a model whose layers are full or sliding-window attention.")
    size = model.get_input_embeddings().weight.shape[0]
    tokens = torch.arange(1, BEFORE + ROW + 1, device=model.device) % size  # [BEFORE + ROW]; a small vocabulary repeats itself
    row = tokens[BEFORE:]
    with torch.no_grad():
        own = _hidden(model, row, torch.arange(ROW, device=model.device))
        try:
            model.set_attn_implementation(attention.NAME)
            ours = _packed_behind_another(model, tokens)
        except attention.PlanMissing as error:
            raise ModelError(f"{type(model).__name__} does not let its attention be replaced: it does not hand on who attends to whom. "
                             "Choose a model of another family.") from error
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"{type(model).__name__} does not let its attention be replaced: {error}") from error
    gap = _gap((ours - own).norm(dim=-1) / own.norm(dim=-1), model)
    if not gap < (1e-3 if model.dtype is torch.float32 else 0.25):
        raise ModelError(f"{name} is a {type(model).__name__}, which is not supported yet: with Heron's attention its activations change "
                         f"by {gap:.0%}, so another model than this would be trained. Choose a model of another family.")


def _gap(gaps: Tensor, model: Any) -> float:
    """The largest of the tokens' `gaps [ROW]`. Rounding to 16 bits may send some tokens to other experts, under either attention."""
    config = model.config.get_text_config()
    has_experts = any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    return float(gaps.quantile(0.75) if has_experts and model.dtype is not torch.float32 else gaps.max())


def _packed_behind_another(model: Any, tokens: Tensor) -> Tensor:
    """Hidden states `[ROW, D]` of the last ROW tokens, packed behind a row of the others."""
    plan = attention.packed_plan([range(BEFORE), range(BEFORE, BEFORE + ROW)], device=tokens.device)
    positions = torch.cat([torch.arange(BEFORE, device=tokens.device), torch.arange(ROW, device=tokens.device)])
    return _hidden(model, tokens, positions, plan=plan)[BEFORE:]


def _hidden(model: Any, token_ids: Tensor, positions: Tensor, **keywords: Any) -> Tensor:
    output = model.get_decoder()(input_ids=token_ids[None], position_ids=positions[None], use_cache=False, **keywords)
    return output.last_hidden_state[0].float()
