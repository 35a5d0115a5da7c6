"""From folders to policies: dtypes, templates, adapters, and what is refused before any time is spent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import heron_gradient
from tinymodels import TAGS, load_tiny, ragged_groups, save_tiny, stir_adapter

from heron.config.model import ModelConfig
from heron.config.schema import ObjectiveConfig, TrainConfig
from heron.engine import NativeEngine, Request, SamplingParams
from heron.errors import ConfigError, ModelError
from heron.models import load_policy
from heron.models.loading import find_device
from heron.models.locating import locate
from heron.training.optimizer import make_optimizer

Folder = Callable[[str], Path]


def model_folder(path: Path) -> None:
    """A folder that looks like a model's."""
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")


class TestDtypes:
    """What is stored in which precision."""

    def test_checkpoint_dtype_is_kept(self, tmp_path: Path) -> None:
        """Prevents: 16-bit checkpoints that silently take twice the memory."""
        assert load_tiny(save_tiny("qwen3", tmp_path, dtype=torch.bfloat16)).dtype is torch.bfloat16

    def test_float16_is_not_trained(self, tmp_path: Path) -> None:
        """Prevents: gradients that underflow unseen, since nothing scales the loss."""
        policy = load_tiny(save_tiny("qwen3", tmp_path, dtype=torch.float16), method="lora")
        with pytest.raises(ConfigError, match=r"float16.*--model\.dtype=bfloat16"):
            make_optimizer(policy.trainable(), TrainConfig(), activations=policy.dtype)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_asked_dtype_is_loaded(self, tiny_folder: Folder, dtype: str) -> None:
        assert load_tiny(tiny_folder("qwen3"), dtype=dtype).dtype is getattr(torch, dtype)

    @pytest.mark.parametrize("saved_first", [False, True])
    def test_adapter_is_float32_on_a_16_bit_base(self, tmp_path: Path, saved_first: bool) -> None:
        """Prevents: bfloat16 adapters, in which an update of 1e-5 is lost; also after they were saved and loaded."""
        folder = save_tiny("qwen3", tmp_path / "base", dtype=torch.bfloat16)
        policy = load_tiny(folder, method="lora")
        if saved_first:
            policy.save(tmp_path / "adapter")
            config = ModelConfig(name=str(folder), method="lora", device="cpu")
            policy = load_policy(config, TAGS, adapter=tmp_path / "adapter")
        trained = policy.trainable()
        assert trained
        assert {weight.dtype for _, weight in trained} == {torch.float32}
        assert all("lora_" in name for name, _ in trained)
        assert {w.dtype for name, w in policy.model.named_parameters() if "lora_" not in name} == {torch.bfloat16}

    def test_float32_adapter_on_16_bit_base_samples_and_trains(self, tmp_path: Path) -> None:
        """Prevents: two dtypes that meet in one matrix product."""
        policy = load_tiny(save_tiny("qwen3", tmp_path, dtype=torch.bfloat16), method="lora", lora_rank=4)
        stir_adapter(policy, scale=0.05)
        answers = NativeEngine(policy).generate([Request(prompt_ids=(1, 2, 3), seeds=(0, 1))], SamplingParams(max_tokens=5))
        assert [len(answer.token_ids) for answer in answers[0]] == [5, 5]
        gradient, stats, _ = heron_gradient(policy, ragged_groups(3), ObjectiveConfig(beta=0.1))
        assert all(torch.isfinite(grad).all() for grad in gradient.values())
        assert {grad.dtype for grad in gradient.values()} == {torch.float32}
        assert stats.metrics()["ratio/max"] == 1.0

    def test_full_training_in_16_bit_is_refused_with_a_way_out(self, tmp_path: Path) -> None:
        """AdamW on bfloat16 weights loses most updates; nobody is told by the loss curve."""
        policy = load_tiny(save_tiny("qwen3", tmp_path, dtype=torch.bfloat16))
        with pytest.raises(ConfigError, match=r"bfloat16.*--model\.dtype=float32"):
            make_optimizer(policy.trainable(), TrainConfig())


class TestRefusals:
    """Bad sources, found before anything else happens."""

    @pytest.mark.parametrize("name", ["/nonexistent/model", "./nonexistent", "../nope", "~/nonexistent-model", "a/b/c"])
    def test_missing_folder_makes_no_request(self, no_network: list[str], name: str) -> None:
        """Prevents: a typing error in a path that is sent to the hub, and fails there after a timeout."""
        with pytest.raises(ModelError, match="no model folder"):
            load_policy(ModelConfig(name=name, device="cpu"), TAGS)
        assert no_network == []

    @pytest.mark.parametrize(
        ("name", "suggestion"),
        [("tinny", "tiny"), ("./tinny", "tiny"), ("tinny/", "tiny"), ("{folder}/tinny", "tiny"), ("embeded", "embedded")],
    )
    def test_misspelt_folder_makes_no_request(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str], name: str, suggestion: str
    ) -> None:
        """Prevents: a minute of retries at the hub for the name of a folder with a letter too many."""
        model_folder(tmp_path / "tiny")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ModelError, match=f'Did you mean "{suggestion}"'):
            load_policy(ModelConfig(name=name.format(folder=tmp_path), device="cpu"), TAGS)
        assert no_network == []

    def test_hub_ids_are_left_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a model of the hub that cannot be named beside a folder that is called alike."""
        model_folder(tmp_path / "owner" / "tiny")
        (tmp_path / "gtp2").mkdir()
        monkeypatch.chdir(tmp_path)
        assert [locate(name) for name in ("owner/tinny", "gpt2", "embedded")] == ["owner/tinny", "gpt2", "embedded"]
        assert locate("owner/tiny") == str(tmp_path / "owner" / "tiny")

    def test_what_the_hub_refuses_may_have_been_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: an error about the hub alone, where a folder was meant."""
        import transformers

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError("no such repository")

        model_folder(tmp_path / "models" / "tiny")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
        with pytest.raises(ModelError, match=r"no such repository\nThere is no folder 'models/tinny' here either\. Did you mean \"tiny\""):
            load_policy(ModelConfig(name="models/tinny", device="cpu"), TAGS)

    @pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda:x", "", "meta", "CPU"])
    def test_device_that_is_not_there(self, tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
        """Prevents: torch's own error, after the weights of a large model were loaded."""
        import transformers

        monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
        with pytest.raises(ConfigError, match=rf"model\.device is '{device}', but the devices here are cpu"):
            load_policy(ModelConfig(name=str(tiny_folder("qwen3")), device=device), TAGS)

    def test_devices_that_are_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: `cuda:1` of two refused, and the third one of two accepted."""
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
        assert [str(find_device(name)) for name in ("cpu", "cuda", "cuda:0", "cuda:1")] == ["cpu", "cuda", "cuda:0", "cuda:1"]
        with pytest.raises(ConfigError, match=r"the devices here are cpu, cuda, cuda:0, cuda:1\. "):
            find_device("cuda:2")

    def test_home_folder_is_expanded(
        self, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str]
    ) -> None:
        """Prevents: `~/models/x` that exists, is checked, and is then asked of the hub by that name."""
        shutil.copytree(tiny_folder("qwen3"), tmp_path / "model")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert load_policy(ModelConfig(name="~/model", device="cpu"), TAGS).num_parameters() > 0
        assert no_network == []

    def test_empty_folder(self, tmp_path: Path, no_network: list[str]) -> None:
        with pytest.raises(ModelError, match=str(tmp_path)):
            load_policy(ModelConfig(name=str(tmp_path), device="cpu"), TAGS)
        assert no_network == []

    def test_folder_without_weights(self, tiny_folder: Folder, tmp_path: Path) -> None:
        shutil.copytree(tiny_folder("qwen3"), tmp_path / "model")
        (tmp_path / "model" / "model.safetensors").unlink()
        with pytest.raises(ModelError, match="could be loaded"):
            load_tiny(tmp_path / "model")

    def test_attention_that_would_be_computed_wrongly(self, tmp_path: Path) -> None:
        """Dropout inside attention would make the trainer's log-probs another policy's."""
        with pytest.raises(ModelError, match="attention_dropout"):
            load_tiny(save_tiny("llama", tmp_path, attention_dropout=0.1))

    def test_lora_modules_that_do_not_exist(self, tiny_folder: Folder) -> None:
        with pytest.raises(ConfigError, match="qproj"):
            load_tiny(tiny_folder("qwen3"), method="lora", lora_target_modules=("qproj",))

    def test_adapter_on_the_head_is_refused(self, tiny_folder: Folder) -> None:
        """Prevents: an adapter that neither sampler nor trainer applies, and that never learns."""
        with pytest.raises(ConfigError, match="head"):
            load_tiny(tiny_folder("untied"), method="lora", lora_target_modules=("lm_head", "q_proj"))

    def test_adapter_on_the_embedding_is_trained(self, tiny_folder: Folder) -> None:
        policy = load_tiny(tiny_folder("untied"), method="lora", lora_rank=4, lora_target_modules=("embed_tokens",))
        gradient, _, _ = heron_gradient(policy, ragged_groups(3), ObjectiveConfig())
        assert any(grad.abs().max() > 0 for grad in gradient.values())


class TestRoundTrip:
    """What is saved is what is loaded."""

    @pytest.mark.parametrize("kind", ["qwen3", "untied"])
    def test_full(self, tiny_folder: Folder, tmp_path: Path, kind: str) -> None:
        policy = load_tiny(tiny_folder(kind))
        with torch.no_grad():
            for _, weight in policy.trainable():
                weight.add_(0.01)
        policy.save(tmp_path)
        again = load_tiny(tmp_path)
        saved, loaded = dict(policy.model.named_parameters()), dict(again.model.named_parameters())
        assert saved.keys() == loaded.keys()
        assert all(torch.equal(saved[name], loaded[name]) for name in saved)
        assert again.render([{"role": "user", "content": "é"}]) == policy.render([{"role": "user", "content": "é"}])
        assert again.end_ids == policy.end_ids

    def test_saved_model_loads_in_plain_transformers(self, tiny_folder: Folder, tmp_path: Path) -> None:
        """The result is the user's: no Heron needed, and its attention name must not be left in config.json."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        policy = load_tiny(tiny_folder("qwen3"))
        policy.save(tmp_path)
        assert "heron" not in (tmp_path / "config.json").read_text()
        model = AutoModelForCausalLM.from_pretrained(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        messages = [{"role": "user", "content": "Q"}]
        inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        assert model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] > inputs["input_ids"].shape[1]

    def test_adapter(self, tiny_folder: Folder, tmp_path: Path) -> None:
        policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
        stir_adapter(policy)
        policy.save(tmp_path)
        again = load_policy(ModelConfig(name=str(tiny_folder("qwen3")), device="cpu", method="lora", lora_rank=4), TAGS, adapter=tmp_path)
        assert [name for name, _ in again.trainable()] == [name for name, _ in policy.trainable()]
        for (_, saved), (_, loaded) in zip(policy.trainable(), again.trainable(), strict=True):
            assert torch.equal(saved, loaded)

    def test_bare_base_of_a_lora_run(self, tiny_folder: Folder) -> None:
        config = ModelConfig(name=str(tiny_folder("qwen3")), device="cpu", method="lora")
        assert not load_policy(config, TAGS, without_adapter=True).is_lora


class TestFamilies:
    """What families do to their logits is done by both paths."""

    @pytest.mark.parametrize(
        ("family", "settings"),
        [
            ("Cohere", {"logit_scale": 0.37}), ("Granite", {"logits_scaling": 2.5}),
            ("Gemma2", {"final_logit_softcapping": 3.0, "attn_logit_softcapping": None}),
        ],
    )
    def test_scaled_and_capped_logits(self, tmp_path: Path, family: str, settings: dict[str, Any]) -> None:
        """Prevents: log-probs of a distribution that the family never samples from."""
        import transformers

        from heron.kernels.attention import packed_plan
        from heron.models.embedded import build_tokenizer

        tokenizer = build_tokenizer(TAGS)
        sizes = {
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.15, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 256,
            "bos_token_id": None,
        }
        torch.manual_seed(0)
        model = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**sizes | settings))
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        policy = load_tiny(tmp_path)
        ids = torch.tensor([[5, 7, 100, 31, 2, 9]])
        plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
        with torch.no_grad():
            expected = plain(input_ids=ids).logits[0]
            hidden = policy.hidden(ids, torch.arange(6)[None], packed_plan([range(6)], device=policy.device))[0]
            torch.testing.assert_close(policy.logits(hidden), expected, rtol=1e-4, atol=1e-5)
            logp, _ = policy.logprobs(hidden[:-1], ids[0, 1:], temperature=0.7)
        wanted = (expected[:-1] / 0.7).log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        torch.testing.assert_close(logp, wanted, rtol=1e-4, atol=1e-5)
