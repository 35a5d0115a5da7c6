"""Families of models: the table in the documentation is what their checks say, and the others are refused when they are loaded.

The refusals prevent the worst kind of defect: a model that trains without an error, but is not the model that is deployed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from family_table import FAMILIES, METHODS, PAGE, REWRITE, Row, rendered, row_of, save
from naive import heron_gradient
from tinymodels import load_tiny, ragged_groups, save_model

from heron.config.schema import ObjectiveConfig
from heron.errors import ModelError
from heron.kernels.host.build import built

BY_NAME = {family.name: family for family in FAMILIES}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "Lfm2": ({"full_attn_idxs": [1]}, "conv"),
    "Mamba2": ({"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1}, "not supported yet"),
    "Qwen3_5": (LINEAR, "linear_attention"),
    "StableLm": ({}, "does not let its attention be replaced"),
}


@pytest.fixture(scope="module")
def row() -> Callable[[str], Row]:
    """The row of a family, its checks run once."""
    return cache(lambda name: row_of(BY_NAME[name]))


@pytest.mark.parametrize("name", BY_NAME)
def test_family(row: Callable[[str], Row], name: str) -> None:
    """Prevents: a family whose sampler, trainer, gradient or saved file is another model than transformers'."""
    pytest.importorskip("bitsandbytes")
    found = row(name)
    assert not found.failures
    assert {found.cells[method] for method in METHODS} == {"yes"}


def test_page_says_what_the_checks_say(row: Callable[[str], Row]) -> None:
    """Prevents: a table that promises what no longer works, or hides what does."""
    pytest.importorskip("bitsandbytes")
    if built().code is None:
        pytest.skip("no C compiler: nothing is recorded here")
    page = rendered([row(name) for name in BY_NAME])
    assert PAGE.read_text() == page, f"rewrite it with {REWRITE}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", REFUSED)
def test_family_that_would_be_computed_wrongly_is_refused(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    settings, words = REFUSED[family]
    with pytest.raises(ModelError, match=words):
        load_tiny(save_model(family, tmp_path, dtype=dtype, stirred=True, **settings))


@pytest.mark.parametrize("name", ["Qwen3-MoE", "Gemma 3", "DeepSeek V3", "gpt-oss"])
def test_rounding_of_16_bits_is_no_reason_to_refuse(name: str, tmp_path: Path) -> None:
    load_tiny(save(BY_NAME[name], tmp_path, dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_argument_that_is_not_handed_on_is_noticed(dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: tolerance for rounding and for experts that hides a model without its sinks."""
    from heron.kernels import attention

    whole = attention._attention
    monkeypatch.setattr(attention, "_attention", lambda *given, **named: whole(*given, **named | {"s_aux": None}))
    with pytest.raises(ModelError, match="not supported yet"):
        load_tiny(save(BY_NAME["gpt-oss"], tmp_path, dtype=dtype))


def test_dropout_stays_off_while_activations_are_recomputed(tmp_path: Path) -> None:
    """Gradient checkpointing needs training mode, and training mode switches dropout on: then sampler and trainer would disagree."""
    folder = save_model("Phi3", tmp_path, resid_pdrop=0.3, embd_pdrop=0.3)
    plain, saving = load_tiny(folder), load_tiny(folder, gradient_checkpointing=True)
    saving.model.train()
    groups, objective = ragged_groups(3), ObjectiveConfig()
    _, _, expected = heron_gradient(plain, groups, objective)
    _, _, seen = heron_gradient(saving, groups, objective)
    for ours, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("vocabulary", [4, 13])
def test_very_small_vocabulary(vocabulary: int) -> None:
    """Prevents: a raw index error for a toy model with fewer tokens than the comparison uses."""
    import transformers

    from heron.kernels import attention
    from heron.models.agreement import adopt_attention

    attention.register()
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, bos_token_id=None,
        eos_token_id=1, pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config)
    adopt_attention(model, "toy")
    assert model.config._attn_implementation == attention.NAME
