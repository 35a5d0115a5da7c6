"""Unsloth's names: what they make, what they refuse, and who answers when."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_trl import questions, small_args, variety

import heron.compat.trl
from heron.compat.elsewhere import ELSEWHERE
from heron.compat.trl import GRPOConfig, GRPOTrainer
from heron.compat.unsloth import FastLanguageModel, FastModel, PatchFastRL, SamplingParams, is_bfloat16_supported
from heron.config import load_config
from heron.errors import ConfigError, DataError, ModelError, RunError

pytestmark = pytest.mark.filterwarnings("ignore:These arguments")
GREEDY = SamplingParams(temperature=0.0, max_tokens=8)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def folder(tiny_folder: Callable[[str], Path]) -> str:
    return str(tiny_folder("qwen3"))


def adapted(folder: str, **arguments: Any) -> tuple[Any, Any]:
    model, tokenizer = FastLanguageModel.from_pretrained(folder, load_in_4bit=False, fast_inference=True, **arguments)
    return FastLanguageModel.get_peft_model(model, r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]), tokenizer


def trained(folder: str, out: Path, **arguments: Any) -> tuple[Any, GRPOTrainer]:
    model, tokenizer = adapted(folder, **arguments)
    trainer = GRPOTrainer(model, variety, small_args(out, learning_rate=0.3, max_steps=3), questions(), processing_class=tokenizer)
    trainer.train()
    return model, trainer


def texts(model: Any, **arguments: Any) -> list[str]:
    return [answer.outputs[0].text for answer in model.fast_generate(["One", "Two", "Three"], GREEDY, **arguments)]


def test_arguments_become_settings(folder: str, tmp_path: Path) -> None:
    """Prevents: an adapter of another rank or scale, and a trainer that trains something else."""
    model, trainer = trained(folder, tmp_path)
    config = load_config(trainer.run_dir / "config.toml").model
    assert (config.method, config.lora_rank, config.lora_alpha) == ("lora", 4, 8)
    assert set(config.lora_target_modules) == {"q_proj", "v_proj"} and trainer.model is model


def test_the_base_answers_without_a_request_and_the_adapter_with_one(folder: str, tmp_path: Path) -> None:
    """Prevents: before and after that are the same model, and weights of a request that stay behind."""
    fresh, _ = adapted(folder)
    base = texts(fresh)
    model, trainer = trained(folder, tmp_path)
    model.save_lora(tmp_path / "lora")
    assert any(bool(weight.abs().max() > 0) for name, weight in load_file(tmp_path / "lora" / "adapter_model.safetensors").items()
               if "lora_B" in name)
    assert texts(model) == base
    request = model.load_lora(tmp_path / "lora")
    answers = texts(model, lora_request=request)
    assert answers != base
    with torch.no_grad():
        for name, weight in trainer._trainer.policy.trainable():
            if "lora_B" in name:
                weight.zero_()
    assert texts(model, lora_request=request) == answers, "the saved weights answer, not those in memory"
    assert all(bool((weight == 0).all()) for name, weight in trainer._trainer.policy.trainable() if "lora_B" in name)


def test_every_weight_can_be_trained(folder: str, tmp_path: Path) -> None:
    """Prevents: full_finetuning that trains an adapter, and a model that answers as before."""
    model, tokenizer = FastModel.from_pretrained(folder, full_finetuning=True)
    before = texts(model)
    GRPOTrainer(model, variety, small_args(tmp_path, learning_rate=0.05), questions(), processing_class=tokenizer).train()
    assert texts(model) != before
    model.save_pretrained_merged(tmp_path / "merged", tokenizer)
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    with pytest.raises(ConfigError, match="no adapter"):
        model.save_lora(tmp_path / "lora")


@pytest.mark.parametrize("full", [False, True])
def test_a_second_trainer_goes_on_with_what_the_first_one_trained(full: bool, folder: str, tmp_path: Path) -> None:
    """Prevents: a second stage of a notebook that begins again from the base and throws the first one away."""
    model, tokenizer = FastModel.from_pretrained(folder, full_finetuning=True) if full else adapted(folder)
    base = texts(model)
    GRPOTrainer(model, variety, small_args(tmp_path / "a", learning_rate=0.05), questions(), processing_class=tokenizer).train()
    model.save_pretrained(tmp_path / "first")
    tokenizer.chat_template = "{{ messages[0].content }}!"
    still = GRPOTrainer(model, variety, small_args(tmp_path / "b", learning_rate=1e-12), questions(), processing_class=tokenizer)
    still.train()
    model.save_pretrained(tmp_path / "second")
    name = "model.safetensors" if full else "adapter_model.safetensors"
    first, second = (load_file(tmp_path / each / name) for each in ("first", "second"))
    assert all(torch.allclose(first[key], second[key], atol=1e-6) for key in first)
    assert still.processing_class.chat_template == tokenizer.chat_template
    assert (texts(model) == base) is not full


def test_a_saved_adapter_answers_and_is_trained_on_in_another_session(folder: str, tmp_path: Path) -> None:
    """Prevents: `from_pretrained` of what `save_lora` wrote that fails, and a request that only a model in training can answer."""
    model, _ = trained(folder, tmp_path / "a")
    model.tokenizer.chat_template = "{{ messages[0].content }}!"
    model.save_lora(tmp_path / "lora")
    base, answers = texts(model), texts(model, lora_request=model.load_lora(tmp_path / "lora"))
    fresh, _ = FastLanguageModel.from_pretrained(folder, load_in_4bit=False)
    assert texts(fresh) == base and texts(fresh, lora_request=fresh.load_lora(tmp_path / "lora")) == answers and texts(fresh) == base
    again, own = FastLanguageModel.from_pretrained(str(tmp_path / "lora"), load_in_4bit=False)
    assert own.chat_template == model.tokenizer.chat_template
    assert texts(again) == base and texts(again, lora_request=again.load_lora(tmp_path / "lora")) == answers
    with pytest.raises(ConfigError, match=r"r=8 \(it has 4\)"):
        FastLanguageModel.get_peft_model(again, r=8, lora_alpha=8)
    own.chat_template = "{{ messages[0].content }}?"
    options = small_args(tmp_path / "b", learning_rate=1e-12)
    trainer = GRPOTrainer(FastLanguageModel.get_peft_model(again, r=4, lora_alpha=8), variety, options, questions(), processing_class=own)
    trainer.train()
    assert trainer.processing_class.chat_template == own.chat_template, "that of the trainer, not that beside the adapter"
    again.save_lora(tmp_path / "later")
    resumed, _ = FastLanguageModel.from_pretrained(str(tmp_path / "lora"), load_in_4bit=False)
    with pytest.raises(RunError, match="is finished"):  # and not: began with other settings
        GRPOTrainer(resumed, variety, options, questions(), processing_class=own).train(resume_from_checkpoint=True)
    first, later = (load_file(tmp_path / each / "adapter_model.safetensors") for each in ("lora", "later"))
    assert all(torch.allclose(first[name], later[name], atol=1e-6) for name in first)


def test_sampling_params_mean_what_they_mean_in_vllm(folder: str) -> None:
    """Prevents: a stop that is shown or not against what was asked, and n that is ignored."""
    model, _ = adapted(folder)
    (plain,) = model.fast_generate("One", SamplingParams(temperature=0.0, max_tokens=8))
    stop = plain.outputs[0].text[2]
    (cut,) = model.fast_generate("One", SamplingParams(temperature=0.0, max_tokens=8, stop=[stop]))
    (kept,) = model.fast_generate("One", SamplingParams(temperature=0.0, max_tokens=8, stop=stop, include_stop_str_in_output=True))
    assert cut.outputs[0].text == plain.outputs[0].text.split(stop)[0] and kept.outputs[0].text == cut.outputs[0].text + stop
    (several,) = model.fast_generate("One", SamplingParams(n=3, seed=1, max_tokens=4))
    assert len({output.text for output in several.outputs}) == 3 and all(len(output.token_ids) <= 4 for output in several.outputs)
    with pytest.raises(ConfigError, match="presence_penalty"):
        SamplingParams(presence_penalty=1.0)
    with pytest.raises(TypeError, match="temprature"):
        SamplingParams(temprature=1.0)  # type: ignore[call-arg]


@pytest.mark.parametrize(("name", "value"), [
    ("logprobs", 1), ("min_tokens", 4), ("skip_special_tokens", False), ("bad_words", ["no"]), ("logits_processors", [1]),
])
def test_sampling_params_that_are_not_there_say_what_to_do(name: str, value: Any) -> None:
    """Prevents: a bare TypeError for what vLLM has, and an error for what is off."""
    with pytest.raises(ConfigError, match=rf"SamplingParams\({name}={re.escape(repr(value))}\) cannot be honoured\. \w"):
        SamplingParams(**{name: value})
    assert SamplingParams(logprobs=None, min_tokens=0, detokenize=True, logit_bias=None) == SamplingParams()
    assert replace(copy.deepcopy(SamplingParams(n=2)), n=3) == SamplingParams(n=3)


def test_several_sampling_params_are_refused_as_such(folder: str) -> None:
    """Prevents: a list that is said to come from a wrong import."""
    model, _ = adapted(folder)
    with pytest.raises(ConfigError, match="is a list"):
        model.fast_generate(["One", "Two"], [GREEDY, GREEDY])


def test_sampling_params_of_a_config_say_what_is_not_applied(folder: str) -> None:
    """Prevents: the flagship notebook that stops at its options, and a filter or a temperature that is dropped without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GRPOConfig(vllm_sampling_params=SamplingParams(seed=3407, top_k=-1, stop=["<|end|>"], include_stop_str_in_output=True))
        GRPOConfig(vllm_sampling_params=SamplingParams(max_tokens=9, temperature=0.5), max_completion_length=9, temperature=0.5)
    with pytest.warns(UserWarning, match=r"Not applied while training: min_p=0\.1\. ") as said:
        GRPOConfig(vllm_sampling_params=SamplingParams(min_p=0.1, seed=3407))
    assert "vllm_sampling_params=SamplingParams(min_p=0.1, seed=3407)" in str(said[0].message)
    with pytest.warns(UserWarning, match="temperature=0.7, max_tokens=99"):
        GRPOConfig(vllm_sampling_params=SamplingParams(temperature=0.7, max_tokens=99))
    with pytest.raises(ConfigError, match="Import SamplingParams from heron"):
        GRPOConfig(vllm_sampling_params=object())


def test_an_answer_ends_at_end_tokens_alone(folder: str, tmp_path: Path) -> None:
    """Prevents: a stop string in the params of a trainer that ends nothing."""
    model, tokenizer = adapted(folder)
    fine, other = SamplingParams(stop=[tokenizer.eos_token]), SamplingParams(stop=["</answer>"], stop_token_ids=[5])
    GRPOTrainer(model, variety, small_args(tmp_path, vllm_sampling_params=fine), questions()).train()
    with pytest.raises(ConfigError, match=r"\['</answer>', 5\].*not done while training"):
        GRPOTrainer(model, variety, small_args(tmp_path, vllm_sampling_params=other), questions()).train()


def test_a_prompt_beyond_max_seq_length_is_refused(folder: str, tmp_path: Path) -> None:
    """Prevents: max_seq_length that is ignored."""
    with pytest.raises(DataError, match="context of 20"):
        trained(folder, tmp_path, max_seq_length=20)


@pytest.mark.parametrize(("arguments", "said"), [
    ({"rope_scaling": {"factor": 2}}, "config.json"), ({"trust_remote_code": True}, "own code"), ({"max_seq_len": 5}, "max_seq_length"),
    ({"dtype": torch.float16}, "loss scaling"),
])
def test_what_cannot_be_honoured_is_refused(arguments: dict[str, Any], said: str, folder: str) -> None:
    """Prevents: an argument that is taken and dropped."""
    with pytest.raises(ConfigError, match=said):
        FastLanguageModel.from_pretrained(folder, load_in_4bit=False, **arguments)


def test_what_an_adapter_cannot_be_is_refused(folder: str, tmp_path: Path) -> None:
    """Prevents: dropout that is dropped, and an export of what was never trained."""
    model, tokenizer = adapted(folder)
    with pytest.raises(ConfigError, match="lora_dropout"):
        FastLanguageModel.get_peft_model(model, lora_dropout=0.1)
    for save in (model.save_lora, model.save_pretrained_merged, model.save_pretrained_gguf):
        with pytest.raises(RunError, match="not trained yet"):
            save(tmp_path / "out")
    with pytest.raises(ModelError, match="no adapter"):
        model.load_lora(tmp_path)
    with pytest.raises(ConfigError, match="hf upload"):
        model.push_to_hub_merged("me/model", tokenizer)
    with pytest.raises(ConfigError, match="fast_generate"):
        model.generate(1)
    four_bits, _ = FastLanguageModel.from_pretrained(folder)
    with pytest.raises(ConfigError, match="get_peft_model first"):
        GRPOTrainer(four_bits, variety, small_args(tmp_path), questions())


def test_what_saving_cannot_do_is_refused(folder: str, tmp_path: Path) -> None:
    """Prevents: an upload that never happens, a typo that is ignored, and advice about uploads for it."""
    model, _ = trained(folder, tmp_path / "out")
    for save in (model.save_pretrained, model.save_pretrained_merged, model.save_pretrained_gguf):
        with pytest.raises(ConfigError, match=r"push_to_hub=True.*hf upload"):
            save(tmp_path / "x", push_to_hub=True)
        with pytest.raises(ConfigError, match="has no argument 'nonsense'"):
            save(tmp_path / "x", nonsense=3)
        with pytest.raises(ConfigError, match="safetensors"):
            save(tmp_path / "x", safe_serialization=False)
    with pytest.warns(UserWarning, match="max_shard_size='5GB'") as said:
        model.save_pretrained(tmp_path / "saved", push_to_hub=False, max_shard_size="5GB")
    assert said[0].filename == __file__ and (tmp_path / "saved" / "adapter_config.json").is_file()


def test_unsloths_names_of_quantisations_are_taken(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: `quantization_method="not_quantized"`, Unsloth's own, that is refused; and one file that is written twice."""
    written: list[tuple[str, str]] = []

    def export(run: Path, out: Path, *, format: str, quantization: str) -> None:
        written.append((out.name, quantization))

    monkeypatch.setattr("heron.compat.unsloth.model.export", export)
    model, _ = trained(folder, tmp_path / "out")
    for method in ("not_quantized", "fast_quantized", "quantized", "f16", ["q8_0", "fast_quantized", "quantized"]):
        model.save_pretrained_gguf(tmp_path / "file", quantization_method=method)
    assert written == [("file", "f32"), ("file", "q8_0"), ("file", "q4_k_m"), ("file", "f16"), ("q8_0", "q8_0"), ("q4_k_m", "q4_k_m")]


@pytest.mark.parametrize(("module", "names"), [
    ("heron.compat.trl", [
        "DPOTrainer", "RLOOTrainer", "RewardTrainer", "clone_chat_template", "apply_chat_template", "create_reference_model", "SFTTrainer",
    ]),
    ("heron.compat.unsloth", ["UnslothTrainer", "FastVisionModel", "is_bf16_supported"]),
    ("heron.compat.unsloth.chat_templates", ["get_chat_template", "train_on_responses_only", "anything"]),
])
def test_an_import_that_fails_says_what_to_use(module: str, names: list[str]) -> None:
    """Prevents: a bare "cannot import name"."""
    for name in names:
        with pytest.raises(ImportError, match=rf"{module} has no {name}\. \w"):
            exec(f"from {module} import {name}", {})


def test_every_name_of_trls_is_here_or_has_advice() -> None:
    """Prevents: one of them that is forgotten."""
    import trl

    assert {name for names in trl._import_structure.values() for name in names} <= {*ELSEWHERE, *heron.compat.trl.__all__}


def test_what_has_nothing_to_do_says_so(folder: str) -> None:
    """Prevents: an argument that seems to do something."""
    with pytest.warns(UserWarning, match="gpu_memory_utilization=0.5"):
        FastLanguageModel.from_pretrained(folder, load_in_4bit=False, gpu_memory_utilization=0.5)
    with pytest.warns(UserWarning, match="nothing to do"):
        PatchFastRL("GRPO", FastLanguageModel)
    model, _ = FastLanguageModel.from_pretrained(folder, load_in_4bit=False)
    assert FastLanguageModel.for_inference(model) is model and is_bfloat16_supported() in (True, False)
