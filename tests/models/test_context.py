"""How long a row may be, where positions are turned otherwise once a batch holds something longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tinymodels import TAGS, load_tiny

from heron.engine import NativeEngine, Request, SamplingParams
from heron.errors import EngineError
from heron.models.embedded import build_tokenizer

SHORT = {"rope_theta": 10_000.0, "original_max_position_embeddings": 64}
KINDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "longrope": ("Phi3", {
        "original_max_position_embeddings": 64,
        "rope_parameters": SHORT | {
            "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [3.0, 5.0, 7.0, 9.0], "partial_rotary_factor": 1.0,
        },
    }, 64),
    "dynamic": ("Llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}}, 512),
    "yarn": ("Llama", {"rope_parameters": SHORT | {"rope_type": "yarn", "factor": 8.0}}, 512),
    "default": ("Llama", {}, 512),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_stay_where_positions_do_not_depend_on_neighbours(tmp_path: Path, kind: str) -> None:
    """Prevents: a completion whose log-probs change, by a nat and more, because something longer runs beside it."""
    family, settings, wanted = KINDS[kind]
    tokenizer = build_tokenizer(TAGS)
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**{
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, **settings,
    })
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy = load_tiny(tmp_path)
    assert policy.context_length == wanted
    with pytest.raises(EngineError, match=f"context of {wanted}"):
        NativeEngine(policy).generate([Request(prompt_ids=(5,) * (wanted - 4), seeds=(0,))], SamplingParams(max_tokens=8))
