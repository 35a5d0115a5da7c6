"""Bases of 4 and 8 bits: the same numbers for sampler and trainer, real gradients, and choices that are kept."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import heron_gradient
from tinymodels import TAGS, load_tiny, ragged_groups, save_tiny, stir_adapter
from torch import Tensor

from heron.config import load_config, to_toml
from heron.config.model import ModelConfig
from heron.config.schema import ObjectiveConfig
from heron.engine import NativeEngine, Request, SamplingParams
from heron.engine.hf import HFEngine
from heron.errors import ConfigError, MissingExtra, ModelError
from heron.export import export
from heron.inference import policy_at
from heron.kernels.attention import packed_plan
from heron.models import Policy, load_policy
from heron.models.quantized import check_bitsandbytes, load_base
from heron.models.sensitivity import output_errors, within
from heron.run import RunWriter

pytest.importorskip("bitsandbytes")
Folder = Callable[[str], Path]
BITS = ["nf4", "int8"]
WIDE = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 16 bits, whose rows are whole blocks of nf4."""
    return save_tiny("qwen3", tmp_path_factory.mktemp("base"), dtype=torch.bfloat16, **WIDE)


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in float32, in which kernels must agree closely."""
    return save_tiny("qwen3", tmp_path_factory.mktemp("wide"), **WIDE)


def logits_of(policy: Policy, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """By transformers' own forward pass and attention, each row alone."""
    model = policy.model.get_base_model()
    model.set_attn_implementation("sdpa")
    try:
        with torch.no_grad():
            return [model(input_ids=torch.tensor([row]), use_cache=False).logits[0].float() for row in rows]
    finally:
        model.set_attn_implementation("heron")


def logprobs_of(policy: Policy, row: Sequence[int], *, temperature: float = 0.8) -> Tensor:
    """Of each token of a row behind its first, by the kernels that train."""
    tokens = torch.tensor([row])
    hidden = policy.hidden(tokens, torch.arange(len(row))[None], packed_plan([range(len(row))], device=tokens.device))
    return policy.logprobs(hidden[0, :-1], tokens[0, 1:], temperature=temperature)[0]


@pytest.mark.parametrize("bits", BITS)
def test_types_and_counts(base: Path, bits: str) -> None:
    """Prevents: packed bytes counted as weights, a quantised head, an adapter in bfloat16, a base that is widened."""
    policy, plain = load_tiny(base, method="qlora", quantization=bits), load_tiny(base, method="lora")
    assert policy.num_parameters() == plain.num_parameters()
    assert policy.num_parameters(trainable=True) == plain.num_parameters(trainable=True)
    assert policy.linear_shapes() == plain.linear_shapes()
    assert policy.dtype is torch.bfloat16
    assert {weight.dtype for _, weight in policy.trainable()} == {torch.float32}
    packed = [weight for name, weight in policy.model.named_parameters() if "base_layer.weight" in name]
    assert len(packed) == 14 and {weight.dtype for weight in packed} == {torch.uint8 if bits == "nf4" else torch.int8}


@pytest.mark.parametrize("bits", BITS)
def test_evaluation_mode_changes_nothing(base: Path, bits: str) -> None:
    """Prevents: weights that are repacked, or activations that are rounded, as soon as somebody samples; and gradients that end there."""
    policy = load_tiny(base, method="qlora", quantization=bits)
    layer = policy.model.get_base_model().model.layers[0].mlp.up_proj.base_layer
    x = torch.randn(5, 64, dtype=torch.bfloat16)
    with policy.sampling():
        sampled = layer(x)
    for training in (False, True):
        layer.train(training)
        trained = layer(x.requires_grad_())
        assert torch.equal(trained, sampled)
        gradient, = torch.autograd.grad(trained.sum(), x)
        assert gradient.abs().max() > 0
    assert torch.equal(torch.cat([layer(row[None]) for row in x]), sampled), "a token's numbers depend on its neighbours"


@pytest.mark.parametrize("bits", BITS)
def test_fused_logprobs_equal_transformers_logits(wide_base: Path, bits: str) -> None:
    """Prevents: a head, a scale or an adapter that is left out on the way to the loss."""
    policy = load_tiny(wide_base, method="qlora", quantization=bits)
    stir_adapter(policy)
    row = [5, 17, 33, 60, 8, 100, 41]
    logits, = logits_of(policy, [row])
    expected = torch.log_softmax(logits[:-1] / 0.8, -1).gather(1, torch.tensor(row[1:])[:, None])[:, 0]
    torch.testing.assert_close(logprobs_of(policy, row).detach(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bits", BITS)
def test_gradient_is_that_of_the_weights_that_it_stands_for(wide_base: Path, bits: str) -> None:
    """Prevents: a backward pass through other weights than the forward pass used."""
    from peft.utils.integrations import dequantize_module_weight

    quantised, plain = load_tiny(wide_base, method="qlora", quantization=bits), load_tiny(wide_base, method="lora")
    for policy in (quantised, plain):
        stir_adapter(policy)
    layers = dict(quantised.model.named_modules())
    with torch.no_grad():
        for (name, mine), (_, theirs) in zip(quantised.trainable(), plain.trainable(), strict=True):
            theirs.copy_(mine), name
        for name, module in plain.model.named_modules():
            if name.endswith("base_layer"):
                module.weight.copy_(dequantize_module_weight(layers[name]))
    groups = ragged_groups(3)
    (mine, *_), (theirs, *_) = (heron_gradient(policy, groups, ObjectiveConfig(beta=0.1)) for policy in (quantised, plain))
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("bits", BITS)
def test_greedy_equals_transformers_generate(wide_base: Path, bits: str) -> None:
    """Prevents: an engine that samples from other weights than are trained."""
    policy = load_tiny(wide_base, method="qlora", quantization=bits)
    stir_adapter(policy)
    asked = [Request(prompt_ids=ids, seeds=(0,)) for ids in ((5, 17, 33), (60, 8, 100, 41, 7, 9), (1,))]
    params = SamplingParams(max_tokens=12, temperature=0)
    native, theirs = (engine.generate(asked, params) for engine in (NativeEngine(policy), HFEngine(policy)))
    assert [answer.token_ids for (answer,) in native] == [answer.token_ids for (answer,) in theirs]


@pytest.mark.parametrize("bits", BITS)
def test_sampler_and_trainer_have_the_same_logprobs(wide_base: Path, bits: str) -> None:
    """Prevents: a ratio that does not begin at 1."""
    policy = load_tiny(wide_base, method="qlora", quantization=bits)
    stir_adapter(policy)
    (answers,) = NativeEngine(policy).generate([Request(prompt_ids=(5, 17, 33), seeds=(0, 1, 2))], SamplingParams(max_tokens=12))
    for answer in answers:
        trained = logprobs_of(policy, (5, 17, 33, *answer.token_ids), temperature=1.0)[2:].detach()
        torch.testing.assert_close(torch.tensor(answer.logprobs), trained, atol=1e-5, rtol=0)


def test_8_bits_lose_less_than_4(wide_base: Path) -> None:
    """Prevents: scales that are applied to the wrong side."""
    row = [5, 17, 33, 60, 8, 100, 41]
    plain, four, eight = (
        logits_of(load_tiny(wide_base, **settings), [row])[0]
        for settings in ({"method": "lora"}, {"method": "qlora"}, {"method": "qlora", "quantization": "int8"})
    )
    assert 0 < (eight - plain).norm() < (four - plain).norm() / 4 < plain.norm() / 4


@pytest.mark.filterwarnings("error:.* runs module by module")
def test_recorder_declines_quietly(base: Path) -> None:
    """Prevents: a recording whose products have no gradient, or a warning at each run."""
    assert load_tiny(base, method="qlora").recorder.replay() is None


class TestExceptions:
    """Layers that keep 16 bits."""

    def test_named_layers_keep_their_type(self, base: Path) -> None:
        policy = load_tiny(base, method="qlora", quantization_exceptions=("down_proj", "layers.0.mlp.up_proj"))
        assert plain_layers(policy) == {
            "layers.0.mlp.down_proj", "layers.1.mlp.down_proj", "layers.0.mlp.up_proj",
        }

    def test_a_name_that_names_nothing_is_refused(self, base: Path) -> None:
        """Prevents: a typing error that quantises what was to be kept. `proj` is the end of a word, and of no name."""
        for name in ("down_prj", "proj"):
            with pytest.raises(ConfigError, match=rf"{name}.*down_proj"):
                load_tiny(base, method="qlora", quantization_exceptions=(name,))

    def test_the_layers_that_are_hurt_most_are_kept(self, tmp_path: Path) -> None:
        """Prevents: a choice by size, by place or by weights alone. An outlier in each block of one layer leaves the other weights a single
        code, and never meets an input that is not 0."""
        folder = save_tiny("qwen3", tmp_path, dtype=torch.bfloat16, **WIDE)
        spoil(folder, "model.layers.1.mlp.gate_proj.weight", "model.layers.1.post_attention_layernorm.weight")
        policy = load_tiny(folder, method="qlora", quantization_keep=0.15)
        assert policy.quantization_kept[0] == "model.layers.1.mlp.gate_proj"
        assert plain_layers(policy) == {name.removeprefix("model.") for name in policy.quantization_kept}

    def test_what_was_measured_can_be_loaded_again(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a resumed run on another base, since it measured with another build of torch."""
        monkeypatch.setattr("heron.models.quantized.most_sensitive", None)
        config = ModelConfig(name=str(base), device="cpu", method="qlora", quantization_keep=0.2)
        policy = load_policy(config, TAGS, kept=["model.layers.0.self_attn.o_proj"])
        assert policy.quantization_kept == ("model.layers.0.self_attn.o_proj",)
        assert plain_layers(policy) == {"layers.0.self_attn.o_proj"}

    def test_share_is_never_exceeded(self) -> None:
        """Prevents: a base that does not fit. The worst layer is too large for what is left, a smaller one is not."""
        errors, sizes = {"a": 0.1, "b": 0.9, "c": 0.05, "d": 0.01}, {"a": 10, "b": 50, "c": 10, "d": 30}
        assert within(errors, sizes, 0.5) == ("b",)
        assert within(errors, sizes, 0.2) == ("a", "c")
        assert within(errors, sizes, 0.05) == ()

    def test_errors_are_those_of_the_real_inputs(self, wide_base: Path) -> None:
        """Compares with a plain computation: the layer's inputs by a hook, the weight through bitsandbytes by hand."""
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit
        from transformers import AutoModelForCausalLM

        model, name = AutoModelForCausalLM.from_pretrained(wide_base), "model.layers.1.mlp.down_proj"
        samples = [torch.tensor([[5, 17, 33]]), torch.tensor([[60, 8, 100, 41]])]
        seen: list[Tensor] = []
        hook = model.get_submodule(name).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
        with torch.no_grad():
            for sample in samples:
                model(input_ids=sample)
        hook.remove()
        weight = model.get_submodule(name).weight.data
        rough, x = dequantize_4bit(*quantize_4bit(weight, quant_type="nf4", compress_statistics=True)), torch.cat(seen)
        expected = float((x @ (rough - weight).T).norm() / (x @ weight.T).norm())
        assert output_errors(model, samples, [name], double=True)[name] == pytest.approx(expected, rel=1e-4)


def plain_layers(policy: Policy) -> set[str]:
    """Adapted layers whose base is not quantised."""
    return {
        name.removeprefix("base_model.model.model.").removesuffix(".base_layer") for name, module in policy.model.named_modules()
        if name.endswith("base_layer") and type(module) is torch.nn.Linear
    }


def spoil(folder: Path, name: str, norm: str) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights[name][:, 0], weights[norm][0] = 30.0, 0.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


class TestQuantisedCheckpoints:
    """Folders that are quantised already."""

    @pytest.fixture(scope="class")
    def saved(self, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """As others write them, with transformers."""
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

        folder = tmp_path_factory.mktemp("quantised")
        settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float16)
        AutoModelForCausalLM.from_pretrained(base, quantization_config=settings).save_pretrained(folder)
        AutoTokenizer.from_pretrained(base).save_pretrained(folder)
        return folder

    @pytest.mark.parametrize("method", ["lora", "qlora"])
    def test_it_keeps_its_own_settings(self, base: Path, saved: Path, method: str) -> None:
        """Prevents: other weights than those of quantising it here, or its type of computation instead of the model's."""
        mine = load_tiny(base, method="qlora", double_quantization=False)
        theirs = load_tiny(saved, method=method)
        for policy in (mine, theirs):
            stir_adapter(policy)
        copy_adapter(mine, theirs)
        row = [5, 17, 33, 60, 8]
        assert theirs.num_parameters() == mine.num_parameters()
        assert torch.equal(logits_of(theirs, [row])[0], logits_of(mine, [row])[0])

    def test_it_can_be_talked_to(self, saved: Path) -> None:
        """Prevents: `heron.load` of a quantised folder refused, as if all its weights were to be trained."""
        assert policy_at(saved, str(saved), {"device": "cpu"}).is_quantized

    def test_full_training_is_refused(self, saved: Path) -> None:
        with pytest.raises(ConfigError, match=r"quantised already \(nf4\).*--model\.method=lora"):
            load_tiny(saved)

    @pytest.mark.parametrize(
        "settings", [{"quantization": "int8"}, {"quantization_exceptions": ("down_proj",)}, {"quantization_keep": 0.1}]
    )
    def test_other_settings_are_refused(self, saved: Path, settings: dict[str, Any]) -> None:
        """Prevents: a setting that is silently dropped."""
        with pytest.raises(ConfigError, match=rf"keeps its own settings, but model\.{next(iter(settings))}"):
            load_tiny(saved, method="qlora", **settings)

    def test_other_formats_are_refused_by_name(self, base: Path) -> None:
        from transformers import AutoConfig

        own = AutoConfig.from_pretrained(base)
        own.quantization_config = {"quant_method": "gptq", "bits": 4}
        with pytest.raises(ModelError, match=r"gptq.*--model\.method=qlora"):
            load_base(lambda: None, "somebody/model", ModelConfig(name="x", method="lora"), own, None)


def copy_adapter(source: Policy, target: Policy) -> None:
    with torch.no_grad():
        for (_, mine), (_, theirs) in zip(source.trainable(), target.trainable(), strict=True):
            theirs.copy_(mine)


def test_absent_package_is_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: an ImportError from deep inside, after the data was read."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest))
    with pytest.raises(MissingExtra, match=r'pip install "heron-rl\[qlora\]"'):
        check_bitsandbytes(ModelConfig(method="qlora"))
    check_bitsandbytes(ModelConfig(method="lora"))


def test_measuring_what_nf4_hurts_is_no_use_to_8_bits() -> None:
    with pytest.raises(ConfigError, match="quantization_keep"):
        ModelConfig(method="qlora", quantization="int8", quantization_keep=0.1)


def test_an_export_adds_the_adapter_to_the_base_of_16_bits(wide_base: Path, tmp_path: Path) -> None:
    """Prevents: a folder of 4-bit weights, or of weights that were rounded to 4 bits once."""
    from safetensors.torch import load_file

    settings = {"name": str(wide_base), "method": "qlora", "lora_rank": 4, "device": "cpu"}
    writer = RunWriter.create(
        tmp_path / "run", config_toml=to_toml(load_config("arithmetic", {"model": settings, "rollout": {"max_completion_length": 8}})),
        manifest={"start_model": str(wide_base), "rewards": {"number_right": 1.0}, "quantization_kept": []},
    )
    policy = load_tiny(wide_base, method="qlora", lora_rank=4)
    stir_adapter(policy)
    policy.save(tmp_path / "run" / "model")
    writer.finish("finished", {"steps": 1})
    written = load_file(export(tmp_path / "run", tmp_path / "out", dtype="float32").folder / "model.safetensors")
    layer = policy.model.get_base_model().model.layers[0].mlp.up_proj
    added = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    name = "model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(written[name], load_file(wide_base / "model.safetensors")[name] + added.detach(), atol=1e-5, rtol=0)


def test_the_checkpoint_is_let_go_of(tmp_path: Path) -> None:
    """Prevents: a file of 16 bits that stays in memory beside the base of 4, since the embedding lies in it."""
    policy = load_tiny(save_tiny("qwen3", tmp_path), method="qlora", lora_rank=4)
    mapped = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else ""
    assert str(tmp_path) not in mapped
    assert policy.model.get_input_embeddings().weight is policy.model.get_output_embeddings().weight
