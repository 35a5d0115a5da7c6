"""Families of models: those that work agree with transformers token by token, the others are refused when they are loaded.

The refusals prevent the worst kind of defect: a model that trains without an error, but is not the model that is deployed.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import heron_gradient
from tinymodels import TAGS, load_tiny, ragged_groups, random_ids

from heron.config.schema import ObjectiveConfig
from heron.engine import NativeEngine, Request, SamplingParams
from heron.errors import ModelError
from heron.models.embedded import build_tokenizer
from heron.training.batch import pack
from heron.training.samples import Sample

EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
WORKING: dict[str, dict[str, Any]] = {
    "Cohere2": {"sliding_window": 5},
    "DeepseekV3": EXPERTS | {
        "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 1, "num_key_value_heads": 4,
    },
    "GPTNeoX": {},
    "Gemma2": {"sliding_window": 5, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 8},
    "Gemma3": {"sliding_window": 5, "sliding_window_pattern": 2},
    "Glm4": {},
    "Granite": {"logits_scaling": 2.0, "residual_multiplier": 0.5, "attention_multiplier": 0.3},
    "Olmo2": {},
    "Phi3": {},
    "Qwen3Moe": EXPERTS | {"num_experts": 4},
    "Starcoder2": {"sliding_window": 5},
}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "GptOss": ({"num_local_experts": 4, "num_experts_per_tok": 2}, "not supported yet"),  # attention sinks
    "Lfm2": ({"full_attn_idxs": [1]}, "conv"),
    "Mamba2": ({"num_heads": 8, "state_size": 8, "n_groups": 1}, "not supported yet"),
    "Qwen3_5": (LINEAR, "linear_attention"),
    "StableLm": ({}, "does not let its attention be replaced"),
}
TEXT = {"Gemma3", "Qwen3_5"}
"""Families whose text model has a config of its own."""


def save(family: str, folder: Path, *, dtype: torch.dtype = torch.float32, **settings: Any) -> Path:
    import transformers

    tokenizer = build_tokenizer(TAGS)
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "initializer_range": 0.15, "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }
    config = getattr(transformers, f"{family}TextConfig" if family in TEXT else f"{family}Config")(**sizes | settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{family}ForCausalLM")(config)
        for name, weight in model.named_parameters():
            if "sinks" in name:
                torch.nn.init.normal_(weight, std=2.0)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", WORKING)
def test_family_agrees_with_transformers(family: str, tmp_path: Path) -> None:
    """Sampled with the cache, trained packed, and computed by transformers alone: one and the same log-prob."""
    from transformers import AutoModelForCausalLM

    policy = load_tiny(save(family, tmp_path, **WORKING[family]))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    draw = random.Random(0)
    requests = [Request(prompt_ids=random_ids(draw, length), seeds=(1, 2)) for length in (9, 1, 14)]
    answers = NativeEngine(policy).generate(requests, SamplingParams(max_tokens=10))
    samples = []
    for request, siblings in zip(requests, answers, strict=True):
        for answer in siblings:
            whole = (*request.prompt_ids, *answer.token_ids)
            with torch.no_grad():
                logp = plain(input_ids=torch.tensor([whole])).logits[0, len(request.prompt_ids) - 1 : -1].log_softmax(-1)
            expected = logp.gather(-1, torch.tensor(answer.token_ids)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(answer.logprobs), expected, rtol=0, atol=5e-5)
        samples.append([
            Sample(prompt_ids=request.prompt_ids, token_ids=a.token_ids, is_trained=(True,) * len(a.token_ids), sampler_logprobs=a.logprobs,
                   advantage=1.0, weight=1.0, entropy_weight=0.0, keep=(True,) * len(a.token_ids))
            for a in siblings
        ])
    (batch,) = pack(samples, budget=1 << 20, device=policy.device)
    with torch.no_grad():
        hidden = policy.hidden(batch.token_ids, batch.positions, batch.plan)
        logp, _ = policy.logprobs(hidden[0, batch.where], batch.targets, temperature=1.0)
    torch.testing.assert_close(logp, batch.sampler_logprobs, rtol=0, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", REFUSED)
def test_family_that_would_be_computed_wrongly_is_refused(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    settings, words = REFUSED[family]
    with pytest.raises(ModelError, match=words):
        load_tiny(save(family, tmp_path, dtype=dtype, **settings))


@pytest.mark.parametrize("family", ["Qwen3Moe", "Gemma3", "DeepseekV3"])
def test_rounding_of_16_bits_is_no_reason_to_refuse(family: str, tmp_path: Path) -> None:
    load_tiny(save(family, tmp_path, dtype=torch.bfloat16, **WORKING[family]))


def test_dropout_stays_off_while_activations_are_recomputed(tmp_path: Path) -> None:
    """Gradient checkpointing needs training mode, and training mode switches dropout on: then sampler and trainer would disagree."""
    folder = save("Phi3", tmp_path, resid_pdrop=0.3, embd_pdrop=0.3)
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
