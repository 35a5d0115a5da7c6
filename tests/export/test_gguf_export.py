"""A GGUF file holds the merged weights and the run's words, and says of the model what llama.cpp must know."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finished_runs import make_run
from tinymodels import load_tiny, save_model
from vocabularies import TEXT, byte_level, pieces, save_with

gguf = pytest.importorskip("gguf")

from heron.errors import ConfigError, ModelError  # noqa: E402
from heron.export import export  # noqa: E402
from heron.export.agreement import compare, greedy  # noqa: E402
from heron.export.llamacpp import file as gguf_file  # noqa: E402
from heron.export.llamacpp import write_gguf  # noqa: E402
from heron.export.llamacpp.reading import encoder_of  # noqa: E402
from heron.export.llamacpp.tensors import Entry  # noqa: E402
from heron.export.llamacpp.types import is_within  # noqa: E402
from heron.export.llamacpp.vocabulary import SPLITS  # noqa: E402

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
WINDOWS = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 7}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_scaling": LLAMA3, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 128, "rope_scaling": YARN}),  # transformers' reader takes no other size
    "gemma2": ("Gemma2", WINDOWS | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0}),
    "gemma3": ("Gemma3", WINDOWS | {"num_hidden_layers": 6, "sliding_window_pattern": 6, "num_key_value_heads": 1}),
    "phi3": ("Phi3", {}),
}


def save(kind: str, folder: Path, **settings: Any) -> Path:
    family, own = MODELS[kind]
    return save_model(family, folder, stirred=True, **own | settings)


def write(folder: Path, quantization: str, **options: Any) -> Any:
    """The file of a tiny model beside it, open for reading."""
    path = folder / f"{quantization}.gguf"
    policy = load_tiny(folder, **options)
    write_gguf(policy, path, quantization=quantization, name="tiny", prompts=["<|user|>What is 1 + 2?<|end|>"])
    return gguf.GGUFReader(path)


def told(file: Any, key: str) -> Any:
    field = file.get_field(key)
    return None if field is None else field.contents()


@pytest.mark.parametrize("kind", MODELS)
def test_another_reader_of_gguf_computes_the_same_model(tmp_path: Path, kind: str) -> None:
    """Prevents: rows of queries in the wrong order, Gemma's norms off by one, a wrong angle, a name that another weight has.

    The reader is transformers', which knows the format by itself.
    """
    import transformers

    folder = save(kind, tmp_path / kind)
    write(folder, "f32")
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    read = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file="f32.gguf", dtype=torch.float32).state_dict()
    assert plain.keys() == read.keys()
    for name, weight in plain.items():
        torch.testing.assert_close(read[name], weight, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("quantization", ["f32", "f16", "bf16", "q8_0"])
def test_every_tensor_is_what_its_type_can_hold(tmp_path: Path, quantization: str) -> None:
    """Prevents: a file that was written and never compared; exact where it can be, within the rounding where it cannot."""
    folder = save("qwen2", tmp_path / "model", intermediate_size=64)
    file = write(folder, quantization)
    weights = dict(load_tiny(folder).model.named_parameters())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, 2)
    tensors = {tensor.name: tensor for tensor in file.tensors}
    cast = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}.get(quantization)
    assert len(tensors) == len(weights)
    for source, weight in weights.items():
        tensor = tensors[names.get_name(source, try_suffixes=(".weight", ".bias"))]
        read = torch.from_numpy(np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type)))
        if weight.dim() == 1:
            assert tensor.tensor_type.name == "F32" and torch.equal(read, weight)
        elif cast is not None:
            assert torch.equal(read, weight.to(cast).float())
        else:
            blocks = weight.detach().reshape(-1, 32)
            bound = blocks.abs().amax(dim=1, keepdim=True) / 127 * (0.5 + 127 * 2.0**-11)
            assert tensor.tensor_type.name == "Q8_0" and ((read.reshape(-1, 32) - blocks).abs() <= bound * 1.01).all()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_is_exported_with_its_adapter_merged(tmp_path: Path, method: str) -> None:
    """Prevents: a file of the base, no Modelfile beside it, a card that says nothing of it."""
    run_dir = make_run(tmp_path / "run", save("llama", tmp_path / "base"), method=method)
    wide = export(run_dir, tmp_path / "hf", dtype="float32").folder
    done = export(run_dir, tmp_path / "out", format="gguf", quantization="f32")
    assert done.agreement.equal == done.agreement.answers == 3
    assert {path.name for path in done.folder.iterdir()} == {"model-f32.gguf", "Modelfile", "README.md"}
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(done.folder / "model-f32.gguf").tensors}
    merged = load_tiny(wide).model.get_input_embeddings().weight
    assert np.array_equal(read["token_embd.weight"].data, merged.detach().numpy())
    down = dict(load_tiny(wide).model.named_parameters())["model.layers.1.mlp.down_proj.weight"]
    assert np.array_equal(read["blk.1.ffn_down.weight"].data, down.detach().numpy())
    assert "3 of 3 greedy answers are the same tokens" in (done.folder / "README.md").read_text()


def test_what_was_written_wrong_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: trusting a file because it was written. Once a tensor is spoilt on its way, once what the way back makes of it."""
    run_dir = make_run(tmp_path / "run", save("qwen3", tmp_path / "base"), method="full")
    pack = gguf_file._packed

    def spoil(name: str, values: torch.Tensor, kind: Any) -> Any:
        return pack(name, values * 1.01 if name == "blk.1.attn_k.weight" else values, kind)

    with monkeypatch.context() as patched:
        patched.setattr(gguf_file, "_packed", spoil)
        with pytest.raises(ModelError, match=r"blk\.1\.attn_k\.weight, read back"):
            export(run_dir, tmp_path / "out", format="gguf", quantization="q8_0")
    monkeypatch.setattr(Entry, "restore", lambda self, weight, read: weight.detach().copy_(-read))
    with pytest.raises(ModelError, match="does not answer like the trained one"):
        export(run_dir, tmp_path / "out", format="gguf", quantization="f32")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*partial"))


def test_the_file_says_what_llama_cpp_must_know(tmp_path: Path) -> None:
    """Prevents: llama.cpp computing with its own defaults: context, heads, epsilon, windows, caps, positions, ends."""
    file = write(save("gemma2", tmp_path / "gemma2", rms_norm_eps=3e-6), "f16")
    expected = {
        "context_length": 512, "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 8,
        "attention.layer_norm_rms_epsilon": pytest.approx(3e-6), "attention.sliding_window": 7, "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 4.0, "block_count": 2,
    }
    assert {key: told(file, f"gemma2.{key}") for key in expected} == expected
    assert told(file, "general.file_type") == 1 and told(file, "tokenizer.chat_template").startswith("{%- for message")
    tokens = told(file, "tokenizer.ggml.tokens")
    assert tokens[told(file, "tokenizer.ggml.eos_token_id")] == "<|end|>"
    yarn = write(save("qwen3", tmp_path / "qwen3"), "f16")
    assert (told(yarn, "qwen3.rope.scaling.type"), told(yarn, "qwen3.rope.scaling.factor")) == ("yarn", 4.0)
    assert told(yarn, "qwen3.rope.scaling.original_context_length") == 128 and told(yarn, "qwen3.attention.key_length") == 128


REFUSED = {
    "an unknown family": ("Cohere", {"logit_scale": 0.4}, "'cohere' cannot be written"),
    "windows elsewhere": ("Gemma3", WINDOWS | {"num_hidden_layers": 4, "sliding_window_pattern": 2}, "whose number 6 divides"),
    "scores of another size": ("Gemma2", WINDOWS | {"query_pre_attn_scalar": 16}, "query_pre_attn_scalar is 16"),
    "positions that depend on the past": ("Llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope type 'dynamic'"),
    "another activation": ("Llama", {"hidden_act": "gelu"}, "activation is 'gelu'"),
    "positions that its architecture has no word for": ("Qwen2", {"rope_scaling": LLAMA3}, "no rope frequencies for qwen2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_llama_cpp_would_compute_otherwise_is_refused(tmp_path: Path, case: str) -> None:
    """Prevents: a file that loads and is another model."""
    family, settings, said = REFUSED[case]
    policy = load_tiny(save_model(family, tmp_path / "model", **settings))
    with pytest.raises(ModelError, match=said):
        write_gguf(policy, tmp_path / "model.gguf", quantization="f32", name="tiny", prompts=[])
    assert not (tmp_path / "model.gguf").exists()


def test_a_window_that_llama_cpp_does_not_apply_ends_the_context(tmp_path: Path) -> None:
    """Prevents: Mistral v0.1 seeing further in llama.cpp than it was trained to, without a word."""
    policy = load_tiny(save("mistral", tmp_path / "model", sliding_window=48))
    done = write_gguf(policy, tmp_path / "model.gguf", quantization="f32", name="tiny", prompts=[])
    assert told(gguf.GGUFReader(done.path), "llama.context_length") == 48
    assert any("48 tokens instead of 512" in note for note in done.notes)


VOCABULARIES = {
    "gpt-2": lambda: byte_level(None), "qwen2": lambda: byte_level(SPLITS["qwen2"][0]), "dbrx": lambda: byte_level(SPLITS["dbrx"][0]),
    "llama-bpe": lambda: byte_level(SPLITS["llama-bpe"][0], ignore_merges=True), "gpt-4o": lambda: byte_level(SPLITS["gpt-4o"][0]),
    "llama": lambda: pieces(begins_with_space=True), "gemma": lambda: pieces(begins_with_space=False),
}


@pytest.mark.parametrize("kind", VOCABULARIES)
def test_words_in_the_file_make_the_same_tokens(tmp_path: Path, kind: str) -> None:
    """Prevents: merges in another order, scores upside down, a rule of splitting under another's name, special tokens read as text."""
    tokenizer = VOCABULARIES[kind]()
    policy = load_tiny(save_with(tokenizer, "Llama", tmp_path / "model"))
    prompts = [policy.render_text([{"role": "user", "content": text}]) for text in [*TEXT, "Zürich's 東 <|im_end|> x"]]
    done = write_gguf(policy, tmp_path / "model.gguf", quantization="f16", name="tiny", prompts=prompts)
    file = gguf.GGUFReader(done.path)
    encode = encoder_of(file)
    assert all(encode(prompt) == list(policy.encode(prompt)) for prompt in prompts)
    assert told(file, "tokenizer.ggml.add_bos_token") is True and len(policy.encode(prompts[0])) < len(prompts[0].encode())
    assert told(file, "tokenizer.ggml.model") == ("llama" if kind in ("llama", "gemma") else "gpt2")
    if kind not in ("llama", "gemma"):
        assert told(file, "tokenizer.ggml.pre") == kind
    else:
        assert told(file, "tokenizer.ggml.add_space_prefix") is (kind == "llama")


def test_tokens_that_a_user_added_are_found_in_plain_text(tmp_path: Path) -> None:
    """Prevents: Gemma's tokens of several spaces, written with their mark, which llama.cpp would look for in vain and print as it is."""
    tokenizer = pieces(begins_with_space=False)
    tokenizer.add_tokens(["<tag>", "▁▁▁"])
    policy = load_tiny(save_with(tokenizer, "Llama", tmp_path / "model"))
    write_gguf(policy, tmp_path / "model.gguf", quantization="f16", name="tiny", prompts=[])
    encode = encoder_of(gguf.GGUFReader(tmp_path / "model.gguf"))
    assert encode("a<tag>the") == list(policy.encode("a<tag>the")) and len(tokenizer) - 1 in encode("a   the")


def test_words_that_would_be_read_otherwise_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a model that answers other tokens than it was trained on; and an unknown rule of splitting under a known name."""
    from heron.export.llamacpp import vocabulary

    policy = load_tiny(save_with(pieces(begins_with_space=False), "Llama", tmp_path / "model"))
    prompt = policy.render_text([{"role": "user", "content": TEXT[3]}])
    monkeypatch.setattr(vocabulary, "_scores", lambda tokens, merges: tuple(float(number) for number in range(len(tokens))))
    with pytest.raises(ModelError, match="as other tokens"):
        write_gguf(policy, tmp_path / "model.gguf", quantization="f16", name="tiny", prompts=[prompt])
    other = load_tiny(save_with(byte_level(r"\p{N}+|\P{N}+"), "Llama", tmp_path / "other"))
    with pytest.raises(ModelError, match="no rule of splitting"):
        write_gguf(other, tmp_path / "model.gguf", quantization="f16", name="tiny", prompts=[])


def test_the_embedded_model_is_exported(tmp_path: Path) -> None:
    """Prevents: a default whose words, bytes without any merge, no file can hold."""
    from heron.models.embedded import build_model, build_tokenizer
    from heron.types import Tags

    tokenizer = build_tokenizer(Tags())
    build_model(tokenizer, seed=3).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    policy = load_tiny(tmp_path / "model")
    asked = [[{"role": "user", "content": "What is 1 + 2?"}]]
    before = greedy(policy, asked, 8)
    prompts = [policy.render_text([{"role": "user", "content": text}]) for text in TEXT]
    done = write_gguf(policy, tmp_path / "model.gguf", quantization="q8_0", name="tiny", prompts=prompts)
    assert done.types.keys() == {"Q8_0", "F32"} and not done.is_exact
    assert compare(before, greedy(policy, asked, 8)).gap < 0.2


def test_bounds_tell_rounding_from_a_wrong_tensor() -> None:
    """Prevents: a bound that everything meets."""
    values = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    for kind, rounded in (("F16", values.astype(np.float16).astype(np.float32)), ("F32", values)):
        assert is_within(values, rounded, kind) and not is_within(values, rounded * 1.002, kind)
    kind = gguf.GGMLQuantizationType.Q8_0
    read = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
    assert is_within(values, read, "Q8_0") and not is_within(values, read + 0.02, "Q8_0")
    assert not is_within(values, np.full_like(values, np.nan), "Q8_0")
    assert is_within(values, values * 1.05, "Q4_K") and not is_within(values, values[::-1], "Q4_K")
    assert not is_within(values, values * 1.001, "A_TYPE_WITHOUT_A_BOUND")


def test_quantisations_of_llama_cpp_need_its_tool(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: minutes of merging before it is said that the tool is missing; and a tool's failure passed over."""
    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method="full")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="llama-quantize, which is not on the PATH"):
        export(run_dir, tmp_path / "out", format="gguf", quantization="q4_k_m")
    tool = tmp_path / "llama-quantize"
    tool.write_text("#!/bin/sh\n/bin/echo no such type >&2\nexit 3\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(ModelError, match=r"(?s)ended with 3.*no such type"):
        export(run_dir, tmp_path / "out", format="gguf", quantization="q4_k_m")
    tool.write_text(f'#!/bin/sh\n{shutil.which("cp", path=os.defpath)} "$1" "$2"\n')
    done = export(run_dir, tmp_path / "out", format="gguf", quantization="q4_k_m")
    assert {path.name for path in done.folder.glob("*.gguf")} == {"model-q4_k_m.gguf"}


def test_options_of_another_format_are_refused(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: an option that is taken and does nothing."""
    run_dir = make_run(tmp_path / "run", tiny_folder("qwen3"), method="full")
    with pytest.raises(ConfigError, match='Did you mean "gguf"'):
        export(run_dir, tmp_path / "out", format="ggul")
    with pytest.raises(ConfigError, match="dtype 'float16' is of use to the format hf alone"):
        export(run_dir, tmp_path / "out", format="gguf", dtype="float16")
    with pytest.raises(ConfigError, match="quantization 'q8_0' is of use to the format gguf alone"):
        export(run_dir, tmp_path / "out", quantization="q8_0")
    with pytest.raises(ConfigError, match='Did you mean "q8_0"'):
        export(run_dir, tmp_path / "out", format="gguf", quantization="q8")
    with pytest.raises(ConfigError, match="there is no adapter"):
        export(run_dir, tmp_path / "out", format="adapter")
