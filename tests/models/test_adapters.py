"""Adapters: what kind, in which type, and what a KL is measured from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import heron_gradient, nudge
from tinymodels import TAGS, load_tiny, ragged_groups, save_tiny, stir_adapter
from torch import Tensor

from heron.config.model import ModelConfig
from heron.config.schema import ObjectiveConfig
from heron.engine import NativeEngine, Request, SamplingParams
from heron.errors import ConfigError, ModelError
from heron.kernels.attention import packed_plan
from heron.kernels.host.build import built
from heron.models import Policy, load_policy
from heron.models.recording import state_of

Folder = Callable[[str], Path]
ROW = (5, 17, 33, 60, 8, 100, 41)
VARIANTS: list[dict[str, Any]] = [{"use_rslora": True}, {"use_dora": True}, {"use_rslora": True, "use_dora": True}]
METHODS = ["lora", pytest.param("qlora", marks=pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="no bitsandbytes"))]


def packed(policy: Policy) -> tuple[Tensor, Tensor, Any]:
    return torch.tensor([ROW]), torch.arange(len(ROW))[None], packed_plan([range(len(ROW))], device=policy.device)


def hidden_of(policy: Policy) -> Tensor:
    with policy.sampling():
        return policy.forward(*packed(policy)).clone()


def logprobs_of(policy: Policy) -> Tensor:
    """Of each token behind the first, under the policy."""
    hidden = policy.hidden(*packed(policy))[0, :-1]
    return policy.logprobs(hidden, torch.tensor(ROW[1:]), temperature=0.8)[0].detach()


def reference_of(policy: Policy) -> Tensor:
    """The same under what a KL is measured from."""
    where = torch.arange(len(ROW) - 1)
    return policy.reference_logprobs(*packed(policy), where, torch.tensor(ROW[1:]), temperature=0.8)


class TestVariants:
    """rsLoRA and DoRA."""

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_a_new_dora_adapter_changes_nothing(self, tiny_folder: Folder, method: str, dtype: str) -> None:
        """Prevents: lengths that were measured in 16 bits, so that training begins from another model than the checkpoint's."""
        policy = load_tiny(tiny_folder("qwen3"), method=method, dtype=dtype, use_dora=True)
        with policy.model.disable_adapter():
            bare = hidden_of(policy)
        assert torch.equal(hidden_of(policy), bare)
        assert torch.equal(logprobs_of(policy), reference_of(policy))

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("variant", VARIANTS, ids=str)
    def test_everything_trained_is_float32_and_gets_a_gradient(self, tmp_path: Path, method: str, variant: dict[str, bool]) -> None:
        """Prevents: lengths in bfloat16, or outside of what the optimizer is given."""
        folder = save_tiny("qwen3", tmp_path, dtype=torch.bfloat16)
        policy = load_tiny(folder, method=method, lora_rank=4, **variant)
        stir_adapter(policy, scale=0.05)
        gradient, measures, _ = heron_gradient(policy, ragged_groups(3), ObjectiveConfig(beta=0.1))
        assert {weight.dtype for _, weight in policy.trainable()} == {torch.float32}
        assert len([name for name in gradient if "magnitude" in name]) == (14 if variant.get("use_dora") else 0)
        assert all(torch.isfinite(each).all() and each.abs().max() > 0 for each in gradient.values())
        assert measures.metrics()["ratio/max"] == 1.0

    def test_rslora_scales_by_the_root_of_the_rank(self, tiny_folder: Folder) -> None:
        """Prevents: a setting that is read and not handed on."""
        policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=16, lora_alpha=8, use_rslora=True)
        layer = policy.model.get_base_model().model.layers[0].mlp.up_proj
        assert layer.scaling["default"] == pytest.approx(8 / math.sqrt(16))

    @pytest.mark.parametrize("variant", VARIANTS, ids=str)
    def test_saved_in_the_layout_of_peft(self, tiny_folder: Folder, tmp_path: Path, variant: dict[str, bool]) -> None:
        """Prevents: an adapter that another program scales otherwise."""
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4, **variant)
        stir_adapter(policy)
        nudge(policy, 0.01)
        policy.save(tmp_path)
        base = AutoModelForCausalLM.from_pretrained(tiny_folder("qwen3"), attn_implementation="eager")
        theirs = PeftModel.from_pretrained(base, str(tmp_path)).eval()
        with torch.no_grad():
            logits = theirs(input_ids=torch.tensor([ROW])).logits[0, :-1]
        expected = torch.log_softmax(logits / 0.8, -1).gather(1, torch.tensor(ROW[1:])[:, None])[:, 0]
        torch.testing.assert_close(logprobs_of(policy), expected, atol=2e-5, rtol=0)

    @pytest.mark.skipif(built().code is None, reason=f"no compiled kernels: {built().reason}")
    @pytest.mark.filterwarnings("error:.* runs module by module")
    def test_a_recording_says_what_the_modules_say(self, tiny_folder: Folder) -> None:
        """Prevents: lengths as they were when the recording was made."""
        policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4, use_rslora=True, use_dora=True)
        before = policy.recorder.replay()
        for seed in (1, 2):
            stir_adapter(policy, seed=seed)
            nudge(policy, 0.01, seed=seed)
            replay = policy.recorder.replay()
            assert replay is before is not None
            with policy.sampling():
                torch.testing.assert_close(replay(*packed(policy)), hidden_of(policy), atol=1e-4, rtol=1e-4)

    def test_an_engine_samples_with_a_dora_adapter(self, tiny_folder: Folder) -> None:
        """Prevents: log-probs of the sampler that are not the trainer's."""
        policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4, use_dora=True)
        stir_adapter(policy)
        nudge(policy, 0.01)
        ((answer,),) = NativeEngine(policy).generate([Request(prompt_ids=ROW[:1], seeds=(0,))], SamplingParams(max_tokens=6))
        row = torch.tensor([[*ROW[:1], *answer.token_ids]])
        hidden = policy.hidden(row, torch.arange(row.shape[1])[None], packed_plan([range(row.shape[1])], device=policy.device))
        trained, _ = policy.logprobs(hidden[0, :-1], row[0, 1:], temperature=1.0)
        torch.testing.assert_close(torch.tensor(answer.logprobs), trained.detach(), atol=1e-5, rtol=0)


@pytest.fixture
def start(tiny_folder: Folder, tmp_path: Path) -> Path:
    """A trained adapter, as a warm-up leaves it."""
    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    stir_adapter(policy)
    policy.save(tmp_path / "start")
    return tmp_path / "start"


class TestStart:
    """`model.adapter`: a run that begins from an adapter."""

    def begun(self, tiny_folder: Folder, start: Path) -> Policy:
        return load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4, adapter=str(start))

    def test_a_kl_is_measured_from_it(self, tiny_folder: Folder, start: Path) -> None:
        """Prevents: the bare base as the reference of a warmed-up start, from which a KL pulls the warm-up out again."""
        policy = self.begun(tiny_folder, start)
        began = logprobs_of(policy)
        assert torch.equal(reference_of(policy), began)
        with policy.model.disable_adapter():
            assert (logprobs_of(policy) - began).abs().max() > 0.1
        nudge(policy, 0.05)
        assert torch.equal(reference_of(policy), began)
        assert (logprobs_of(policy) - began).abs().max() > 1e-3

    def test_after_a_resume_too(self, tiny_folder: Folder, start: Path, tmp_path: Path) -> None:
        """Prevents: a resumed run whose KL begins at 0 again, or is measured from the base."""
        policy = self.begun(tiny_folder, start)
        began = reference_of(policy)
        nudge(policy, 0.05)
        policy.save(tmp_path / "saved")
        config = ModelConfig(name=str(tiny_folder("qwen3")), device="cpu", method="lora", lora_rank=4, adapter=str(start))
        again = load_policy(config, TAGS, adapter=tmp_path / "saved")
        assert torch.equal(logprobs_of(again), logprobs_of(policy))
        assert torch.equal(reference_of(again), began)

    def test_it_is_neither_trained_nor_counted_nor_saved(self, tiny_folder: Folder, start: Path, tmp_path: Path) -> None:
        """Prevents: an optimizer that moves the reference, and checkpoints of twice the size."""
        policy, plain = self.begun(tiny_folder, start), load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
        names = [name for name, _ in plain.trainable()]
        for _ in range(2):  # before it was switched to, and after
            assert [name for name, _ in policy.trainable()] == names
            assert policy.num_parameters() == plain.num_parameters()
            assert policy.num_parameters(trainable=True) == plain.num_parameters(trainable=True)
            reference_of(policy)
        policy.save(tmp_path / "saved")
        plain.save(tmp_path / "plain")
        assert {path.name for path in (tmp_path / "saved").rglob("*")} == {path.name for path in (tmp_path / "plain").rglob("*")}

    def test_the_gradient_is_that_of_the_trained_adapter(self, tiny_folder: Folder, start: Path) -> None:
        """Prevents: a backward pass that stops, since the reference was looked at between forward and backward."""
        policy = self.begun(tiny_folder, start)
        groups = ragged_groups(3)
        with_kl, measures, _ = heron_gradient(policy, groups, ObjectiveConfig(beta=0.5))
        without, *_ = heron_gradient(policy, groups, ObjectiveConfig(beta=0.0))
        assert measures.metrics()["kl"] == 0.0
        assert with_kl.keys() == without.keys() and with_kl
        for name in with_kl:
            torch.testing.assert_close(with_kl[name], without[name], atol=1e-6, rtol=1e-4)

    def test_recordings_are_kept_apart(self, tiny_folder: Folder, start: Path) -> None:
        """Prevents: the trained adapter's recording replayed for the reference."""
        from heron.models.adapters import as_at_start

        policy = self.begun(tiny_folder, start)
        trained = state_of(policy)
        with as_at_start(policy.model):
            assert state_of(policy) != trained
        assert state_of(policy) == trained

    def test_nothing_to_measure_from_costs_nothing(self, tiny_folder: Folder, start: Path) -> None:
        config = ModelConfig(name=str(tiny_folder("qwen3")), device="cpu", method="lora", lora_rank=4, adapter=str(start))
        policy = load_policy(config, TAGS, reference=False)
        assert torch.equal(logprobs_of(policy), logprobs_of(self.begun(tiny_folder, start)))
        assert not [name for name, _ in policy.model.named_parameters() if "reference" in name]


class TestRefusedStarts:
    """Folders that `model.adapter` cannot mean."""

    def test_no_adapter(self, tiny_folder: Folder) -> None:
        with pytest.raises(ModelError, match=r"adapter_config\.json is missing"):
            load_tiny(tiny_folder("qwen3"), method="lora", adapter=str(tiny_folder("qwen3")))

    def test_made_with_other_settings(self, tiny_folder: Folder, start: Path) -> None:
        """Prevents: a rank in the config that the run does not have."""
        with pytest.raises(ConfigError, match=r"--model\.lora_rank=4"):
            load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=8, adapter=str(start))

    def test_on_other_modules(self, tiny_folder: Folder, start: Path) -> None:
        with pytest.raises(ConfigError, match="lora_target_modules"):
            load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4, lora_target_modules=("q_proj",), adapter=str(start))

    def test_of_another_model(self, tmp_path: Path, start: Path) -> None:
        wide = save_tiny("qwen3", tmp_path / "wide", hidden_size=64)
        with pytest.raises(ModelError, match="Was it made for another one"):
            load_tiny(wide, method="lora", lora_rank=4, adapter=str(start))

    def test_without_a_weight_of_a_layer(self, tiny_folder: Folder, start: Path) -> None:
        """Prevents: an adapter of which half is silently left at its random beginning."""
        from safetensors.torch import load_file, save_file

        weights = load_file(start / "adapter_model.safetensors")
        save_file(dict(list(weights.items())[:-2]), start / "adapter_model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match="misses"):
            load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4, adapter=str(start))

    def test_settings_of_before_rslora(self, tiny_folder: Folder, start: Path) -> None:
        """Prevents: a KeyError for an adapter of an old release of PEFT."""
        path = start / "adapter_config.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k not in ("use_rslora", "use_dora")}))
        assert load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4, adapter=str(start)).is_lora


@pytest.mark.parametrize("change", [
    {"bias": "all"}, {"lora_bias": True}, {"modules_to_save": ["norm"]}, {"peft_type": "PREFIX_TUNING"}, {"r": None},
    {"target_modules": None},
])
def test_an_adapter_of_another_kind_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Prevents: a bias that is silently left out, biases and norms of the frozen base that are trained, and errors of PEFT or of JSON."""
    folder = save_tiny("qwen3", tmp_path / "base")
    policy = load_tiny(folder, method="lora", lora_rank=4)
    policy.save(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelError, match="adapter"):
        load_tiny(folder, method="lora", lora_rank=4, adapter=str(tmp_path / "adapter"))
    with pytest.raises(ModelError, match="adapter"):
        load_policy(ModelConfig(name=str(folder), method="lora", lora_rank=4, device="cpu"), TAGS, adapter=tmp_path / "adapter")


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_broken_adapter_config_is_named(tmp_path: Path, text: str) -> None:
    """Prevents: a traceback of the JSON reader."""
    folder = save_tiny("qwen3", tmp_path / "base")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match="adapter_config"):
        load_tiny(folder, method="lora", lora_rank=4, adapter=str(tmp_path / "adapter"))
