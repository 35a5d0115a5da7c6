"""llama.cpp itself, where its Python package is installed, answers from an exported file as the model does."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_gguf_export import LLAMA3, VOCABULARIES, WINDOWS, YARN
from tinymodels import load_tiny, save_model
from vocabularies import TEXT, save_with

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: pip install llama-cpp-python")
pytest.importorskip("gguf")

from heron.export.agreement import greedy  # noqa: E402
from heron.export.llamacpp import write_gguf  # noqa: E402
from heron.types import Completion, Message  # noqa: E402

LONGROPE = {"rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 4.0], "original_max_position_embeddings": 256}
SMOL = {"no_rope_layers": [1, 1, 1, 0], "num_hidden_layers": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": True, "head_dim": 8}
SCALED = {"logits_scaling": 2.0, "residual_multiplier": 0.5, "embedding_multiplier": 3.0, "attention_multiplier": 0.3}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("Llama", {"rope_scaling": LLAMA3, "tie_word_embeddings": True}),
    "linear": ("Llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral-window": ("Mistral", {"sliding_window": 256}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3-yarn": ("Qwen3", {"head_dim": 8, "rope_scaling": YARN}),
    "qwen3-moe": ("Qwen3Moe", EXPERTS),
    "gemma2": ("Gemma2", WINDOWS | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0}),
    "gemma3": ("Gemma3", WINDOWS | {"num_hidden_layers": 6, "sliding_window_pattern": 6, "num_key_value_heads": 1}),
    "phi4": ("Phi3", {}),
    "phi4-mini": ("Phi3", {"partial_rotary_factor": 0.5, "original_max_position_embeddings": 256, "rope_scaling": LONGROPE}),
    "smollm3": ("SmolLM3", SMOL), "olmo2": ("Olmo2", {}), "granite": ("Granite", SCALED),
    "cohere2": ("Cohere2", {"sliding_window": 7, "sliding_window_pattern": 4, "num_hidden_layers": 4, "logit_scale": 0.4, "head_dim": 8}),
    "glm4": ("Glm4", {"head_dim": 8, "partial_rotary_factor": 0.5, "attention_bias": True}),
    "starcoder2": ("Starcoder2", {"sliding_window": 256}),
}
QUESTIONS = ("What is 1 + 2?", "Say more, and then a little more than that.")
QUANTIZE = """#!{python}
import sys
import llama_cpp
wide, narrow, kind = sys.argv[1:]
settings = llama_cpp.llama_model_quantize_default_params()
settings.nthread, settings.ftype = 1, getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + kind)
sys.exit(llama_cpp.llama_model_quantize(wide.encode(), narrow.encode(), settings))
"""
"""The tool `llama-quantize`, made of the same library."""
F32 = 0  # GGML's number for the type of keys and values


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens a file with llama.cpp and closes it afterwards."""
    models: list[Any] = []

    def open_file(path: Path) -> Any:
        models.append(llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=1, type_k=F32, type_v=F32))
        return models[-1]

    yield open_file
    for model in models:
        model.close()


def answers_alike(model: Any, token_ids: list[int], expected: Completion) -> float:
    """The likeliest tokens are those expected; the largest difference of their log-probs."""
    gap = 0.0
    model.reset()
    model.eval(token_ids)
    for token, logprob in zip(expected.token_ids, expected.logprobs, strict=True):
        scores = torch.from_numpy(np.array(model.scores[model.n_tokens - 1])).log_softmax(-1)
        assert int(scores.argmax()) == token
        gap = max(gap, abs(float(scores[token]) - logprob))
        model.eval([token])
    return gap


def ask(texts: tuple[str, ...] | list[str]) -> list[list[Message]]:
    return [[{"role": "user", "content": text}] for text in texts]


@pytest.mark.parametrize("kind", MODELS)
def test_llama_cpp_says_the_same_tokens(tmp_path: Path, opened: Callable[[Path], Any], kind: str) -> None:
    """Prevents: a file that is whole by its own account and another model in llama.cpp's eyes."""
    family, settings = MODELS[kind]
    policy = load_tiny(save_model(family, tmp_path / "model", stirred=True, **settings))
    asked = ask(QUESTIONS)
    expected = greedy(policy, asked, 24)
    write_gguf(policy, tmp_path / "model.gguf", quantization="f32", name="tiny", prompts=[])
    model = opened(tmp_path / "model.gguf")
    tolerance = 5e-3 if kind.startswith("gemma") else 1e-3  # llama.cpp looks its GELU up in a table of float16
    for messages, completion in zip(asked, expected, strict=True):
        text = policy.render_text(messages).encode()
        token_ids = list(model.tokenize(text, add_bos=False, special=True))
        assert tuple(token_ids) == policy.render(messages)
        assert answers_alike(model, token_ids, completion) < tolerance


@pytest.mark.parametrize("kind", VOCABULARIES)
def test_llama_cpp_reads_the_same_words(tmp_path: Path, opened: Callable[[Path], Any], kind: str) -> None:
    """Prevents: trusting our own reading of the file's words; and a begin token that stands twice, or not at all."""
    policy = load_tiny(save_with(VOCABULARIES[kind](), "Llama", tmp_path / "model"))
    write_gguf(policy, tmp_path / "model.gguf", quantization="f16", name="tiny", prompts=[])
    model = opened(tmp_path / "model.gguf")
    for messages in ask([*TEXT, "Zürich's 東 <|im_end|> x"]):
        text = policy.render_text(messages).removeprefix(policy.tokenizer.bos_token)
        assert tuple(model.tokenize(text.encode(), add_bos=True, special=True)) == policy.render(messages)
    assert model.token_eos() in policy.end_ids


@pytest.mark.parametrize("quantization", ["q6_k", "q4_k_m", "q2_k"])
def test_llama_cpps_own_quantisations_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: str) -> None:
    """Prevents: a bound that the tool's files do not meet, or that a wrong tensor would meet; a file in f32 left beside the small one."""
    tool = tmp_path / "bin" / "llama-quantize"
    tool.parent.mkdir()
    tool.write_text(QUANTIZE.format(python=sys.executable))
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    policy = load_tiny(save_model("Llama", tmp_path / "model", hidden_size=256, intermediate_size=512))
    done = write_gguf(policy, tmp_path / "small.gguf", quantization=quantization, name="tiny", prompts=[])
    assert f"Q{quantization[1]}_K" in done.types and not done.is_exact
    assert [path.name for path in tmp_path.glob("*.gguf")] == ["small.gguf"]
