"""`GRPOTrainer` and `GRPOConfig` with TRL's arguments: what they are given, what they hand on, and what they refuse."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from small_trl import SMALL, questions, sayings, small_args, variety
from transformers.trainer_utils import get_last_checkpoint

from heron.compat.notes import Kind
from heron.compat.trl import GRPOConfig, GRPOTrainer
from heron.compat.trl.config import OF_TRAINER, defaults, notes_on
from heron.compat.trl.fields import ABSENT, DIRECT
from heron.compat.trl.reporting import metric_lines
from heron.compat.trl.translating import KNOWN
from heron.config import load_config
from heron.errors import ConfigError, DataError, ModelError, RewardError, RunError
from heron.run import Run
from heron.training.held_out import evaluator_of_run
from tests.compat.migrating_page import TRIED

Tiny = Callable[[str], Path]
NAMES = json.loads((Path(__file__).parent / "trl_1_16_metrics.json").read_text())
RECORDED = json.loads((Path(__file__).parent / "trl_1_16_grpo_config.json").read_text())


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def model(tiny_folder: Tiny) -> str:
    return str(tiny_folder("qwen3"))


def module_at(folder: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


class TestOptions:
    def test_the_defaults_are_trls(self) -> None:
        """Prevents: a default of Heron's where TRL has another one."""
        assert dict(defaults()) == RECORDED
        args = GRPOConfig()
        assert {name: getattr(args, name) for name in RECORDED if name != "output_dir"} == {
            name: value for name, value in RECORDED.items() if name != "output_dir"}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            GRPOConfig(**SMALL)

    def test_the_run_has_trls_defaults_and_denominators(self, model: str, tmp_path: Path) -> None:
        """Prevents: a run with the learning rate, the moments or the denominators of Heron's own defaults."""
        trainer = GRPOTrainer(model, variety, small_args(tmp_path, beta=0.1, gradient_accumulation_steps=2), sayings())
        trainer.train()
        config = load_config(trainer.run_dir / "config.toml")
        assert (config.train.adam_beta2, config.train.seed, config.train.lr_scheduler_type) == (0.999, 42, "linear")
        assert (config.objective.token_weights, config.objective.rows_per_micro_batch) == ("trl", 4)
        assert (config.objective.loss_type, config.objective.beta, config.objective.use_bias_correction_kl) == ("dapo", 0.1, True)
        assert config.train.prompts_per_step == 2 and config.model.dtype == "float32" and config.evaluation.size == 0
        assert config.rollout.temperature == 1.0 and config.model.gradient_checkpointing

    def test_an_unknown_option_is_an_error_with_a_suggestion(self) -> None:
        """Prevents: a typo that changes nothing."""
        with pytest.raises(ConfigError, match='Did you mean "num_generations"'):
            GRPOConfig(num_generation=4)

    @pytest.mark.parametrize("options", [{"top_k": 50}, {"min_p": 0.1}, {"sync_ref_model": True}, {"loss_type": "nothing"},
                                         {"model_init_kwargs": {"trust_remote_code": True}}, {"load_best_model_at_end": True}])
    def test_what_cannot_be_honoured_is_refused_by_name(self, options: dict[str, Any]) -> None:
        """Prevents: an option that is accepted and ignored."""
        with pytest.raises(ConfigError, match=next(iter(options))):
            GRPOConfig(**options)

    @pytest.mark.parametrize("name", sorted(name for name in {*RECORDED, *KNOWN} - set(OF_TRAINER) if name not in DIRECT))
    def test_what_is_refused_says_what_to_do_in_words_of_the_script(self, name: str) -> None:
        """Prevents: "Not there." with nothing to do about it, and advice to set what a script has no name for."""
        values = TRIED.get(name, ("anything",)) if name not in ABSENT else ("anything",)
        for made in (made for value in values for made in notes_on({name: value}) if made.field == name):
            if name in ABSENT or made.kind is Kind.UNSUPPORTED:
                assert not re.search(r"\b(train|rollout|model|data|evaluation|environment|objective)\.[a-z]|--[a-z]", made.text), made.text
            if made.kind is Kind.UNSUPPORTED:
                assert re.search(r"\b(Leave|Choose|Give|give|Import|Make)\b", made.text), made.text

    @pytest.mark.parametrize("options", [
        {"data_seed": 42, "seed": 42}, {"data_seed": 42}, {"ddp_find_unused_parameters": False}, {"router_aux_loss_coef": 0.0},
    ])
    def test_what_makes_no_difference_is_taken(self, options: dict[str, Any]) -> None:
        """Prevents: an option refused for a value that means what is done anyway."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            GRPOConfig(**options)
        with pytest.raises(ConfigError, match="data_seed"):
            GRPOConfig(data_seed=7, seed=42)

    def test_what_differs_is_said(self) -> None:
        """Prevents: a difference that nobody hears of."""
        with pytest.warns(UserWarning, match="use_vllm=True: The trained model samples by itself"):
            GRPOConfig(use_vllm=True)

    def test_bnpo_is_counted_as_trl_counts_it(self) -> None:
        """Prevents: a warning about denominators that are TRL's own here."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            args = GRPOConfig(loss_type="bnpo", gradient_accumulation_steps=4)
        objective = args.settings(max_steps=1)["objective"]
        assert (objective["loss_type"], objective["token_weights"], objective["rows_per_micro_batch"]) == ("bnpo", "trl", 8)

    @pytest.mark.parametrize(("options", "said"), [
        ({"num_iterations": 2}, "every 2 optimizer steps"), ({"num_iterations": 2, "max_steps": 5}, "6 steps"),
        ({"warmup_ratio": 0.1}, "Counted from the epochs"), ({"fp16": True}, "Nothing is autocast"),
        ({"model_init_kwargs": {"attn_implementation": "sdpa"}}, "attn_implementation: without effect"),
    ])
    def test_what_counts_otherwise_is_said(self, options: dict[str, Any], said: str) -> None:
        """Prevents: a difference that the page names and the program does not; a warm-up of 1 step that is said where there are more."""
        with pytest.warns(UserWarning, match=said):
            GRPOConfig(**options)

    @pytest.mark.parametrize(("options", "size", "prompts"), [
        ({"per_device_train_batch_size": 1, "num_generations": 4}, 4, 1), ({"num_generations": 6}, 6, 1),
        ({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}, 8, 4),
    ])
    def test_a_batch_that_would_split_a_group_is_raised_as_in_unsloth(self, options: dict[str, Any], size: int, prompts: int) -> None:
        """Prevents: the options of every notebook of Unsloth's being refused; and a batch that is raised without a word."""
        with pytest.warns(UserWarning, match=f"so it becomes {size}"):
            args = GRPOConfig(**options)
        assert args.per_device_train_batch_size == size and args.prompts_per_batch == prompts
        assert args.settings(max_steps=1)["train"]["prompts_per_step"] == prompts
        with pytest.raises(ConfigError, match="not a multiple"):
            GRPOConfig(**options, steps_per_generation=5)

    def test_a_change_does_not_repeat_what_was_said(self) -> None:
        """Prevents: the warnings of all options again at each `args.x = ...`, told of a line of this library."""
        with pytest.warns(UserWarning) as first:
            args = GRPOConfig(use_vllm=True)
        with pytest.warns(UserWarning, match="log_completions") as second:
            args.log_completions = True
        assert "use_vllm" not in str(second[0].message) and {first[0].filename, second[0].filename} == {__file__}

    def test_an_option_can_be_set_later(self) -> None:
        """Prevents: `args.max_steps = 5` that is ignored, and a typo in it that is not seen."""
        args = GRPOConfig(max_steps=3)
        args.max_steps = 5
        assert args.steps_of(100) == 5
        with pytest.raises(ConfigError, match="max_steps"):
            args.max_step = 5

    @pytest.mark.parametrize(("options", "prompts", "steps"), [
        ({"num_train_epochs": 2, "per_device_train_batch_size": 8}, 10, 20),
        ({"num_train_epochs": 1, "per_device_train_batch_size": 16}, 11, 5),
        ({"num_train_epochs": 1, "per_device_train_batch_size": 8, "num_iterations": 3}, 4, 12),
        ({"num_train_epochs": 1, "per_device_train_batch_size": 8, "steps_per_generation": 4}, 8, 8),
    ])
    @pytest.mark.filterwarnings("ignore:Some options")
    def test_epochs_are_counted_as_trl_counts_them(self, options: dict[str, Any], prompts: int, steps: int) -> None:
        """Prevents: a run of another length than in TRL."""
        assert GRPOConfig(**options).steps_of(prompts) == steps


class TestHistory:
    def test_metrics_have_trls_names(self, model: str, tmp_path: Path) -> None:
        """Prevents: a notebook that plots `reward` and finds nothing."""
        trainer = GRPOTrainer(model, variety, small_args(tmp_path, beta=0.1), sayings())
        output = trainer.train()
        first, second, last = trainer.state.log_history
        wanted = {
            "loss", "grad_norm", "learning_rate", "num_tokens", "completions/mean_length", "completions/min_length", "step_time", "reward",
            "completions/max_length", "completions/clipped_ratio", "rewards/variety/mean", "rewards/variety/std", "reward_std", "kl",
            "frac_reward_zero_std", "entropy", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "epoch", "step",
        }
        assert wanted <= first.keys() and (first["step"], second["step"]) == (1, 2) and first["epoch"] == 1 / 8
        assert output.global_step == 2 == trainer.state.global_step and last["train_loss"] == pytest.approx(output.training_loss)
        assert first["reward"] == Run(trainer.run_dir).metrics()[0]["reward"]

    def test_an_entry_is_the_mean_of_its_steps(self, model: str, tmp_path: Path) -> None:
        """Prevents: the last step's numbers in the place of a mean, and steps that are counted as Heron counts them."""
        trainer = GRPOTrainer(model, variety, small_args(tmp_path, max_steps=8, num_iterations=2, logging_steps=4), sayings())
        trainer.train()
        rewards = [record["reward"] for record in Run(trainer.run_dir).metrics()]
        entries = [entry for entry in trainer.state.log_history if "reward" in entry]
        assert [entry["step"] for entry in entries] == [4, 8] and len(rewards) == 4
        assert [entry["reward"] for entry in entries] == pytest.approx([sum(rewards[:2]) / 2, sum(rewards[2:]) / 2])

    @pytest.mark.parametrize(("steps", "every"), [(4, 10), (5, 3), (2, 1)])
    def test_the_training_loss_is_the_mean_of_all_steps(self, steps: int, every: int, model: str, tmp_path: Path) -> None:
        """Prevents: NaN where the training is shorter than `logging_steps`, and steps behind the last entry that are left out."""
        trainer = GRPOTrainer(model, variety, small_args(tmp_path, max_steps=steps, logging_steps=every), sayings())
        output = trainer.train()
        losses = [record["loss"] for record in Run(trainer.run_dir).metrics()]
        assert len(losses) == steps and output.training_loss == pytest.approx(sum(losses) / steps)
        assert trainer.state.log_history[-1]["train_loss"] == output.training_loss == output.metrics["train_loss"]

    def test_a_step_without_signal_has_the_numbers_that_trl_has(self, model: str, tmp_path: Path) -> None:
        """Prevents: `entry["loss"]` that is a KeyError where all rewards are equal or none is given, and a mean without those steps."""
        rewards = [lambda completions, **_: [1.0] * len(completions), lambda completions, **_: [None] * len(completions)]
        rewards[0].__name__, rewards[1].__name__ = "same", "silent"
        trainer = GRPOTrainer(model, rewards, small_args(tmp_path), sayings())
        output = trainer.train()
        first = trainer.state.log_history[0]
        assert (first["loss"], first["grad_norm"], first["clip_ratio/region_mean"], output.training_loss) == (0, 0, 0, 0)
        assert first["rewards/silent/mean"] is None is first["rewards/silent/std"] and first["rewards/same/mean"] == 1

    def test_every_name_of_trls_is_there_or_said_to_differ(self, model: str, tmp_path: Path) -> None:
        """Prevents: a metric that a notebook plots and that is neither in the history nor on the page."""
        page = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text(encoding="utf-8")
        said = re.findall(r"`([^`\n]+)`", page.split("## What differs")[1].split("\n## ")[0])
        for number, case in enumerate(NAMES):
            found: set[str] = set()
            if case["options"] is not None:
                args = small_args(tmp_path / str(number), max_steps=1, **case["options"])
                trainer = GRPOTrainer(model, variety, args, sayings(), eval_dataset=sayings(1))
                trainer.train()
                trainer.evaluate()
                found = {name for entry in trainer.state.log_history for name in entry}
            missing = [name for name in case["names"] if name not in found and not any(fnmatch(name, each) for each in said)]
            assert not missing, case["when"]

    def test_evaluation_is_of_the_eval_dataset(self, model: str, tmp_path: Path) -> None:
        """Prevents: numbers of training prompts, or none, under `eval_reward`."""
        seen: list[int] = []

        def watch(completions: list[str], number: list[int], **kwargs: Any) -> list[float]:
            seen.extend(number)
            return variety(completions)

        args = small_args(tmp_path, eval_strategy="steps", eval_steps=2, num_generations_eval=3)
        trainer = GRPOTrainer(model, watch, args, sayings(), eval_dataset=[{"prompt": "Number 99 is", "number": 99}])
        trainer.train()
        (entry,) = [entry for entry in trainer.state.log_history if "eval_reward" in entry]
        assert entry["step"] == 2 and seen.count(99) == 3 and "eval_rewards/watch/mean" in entry
        assert trainer.evaluate()["eval_reward"] == entry["eval_reward"], "the same weights and the same seed"


    def test_heron_eval_says_where_such_a_run_is_measured(self, model: str, tmp_path: Path) -> None:
        """Prevents: "only 0 problems, not 0", and advice to set what a script has no name for."""
        rows = [{"prompt": "Number 99 is", "number": 99}]
        trainer = GRPOTrainer(model, variety, small_args(tmp_path), sayings(), eval_dataset=rows)
        trainer.train()
        for size in (None, 4):
            with pytest.raises(DataError, match=r"no problems that it was not trained on.*trainer\.evaluate\(\)"):
                evaluator_of_run(Run(trainer.run_dir), start=False, size=size, samples=None)


class TestCallbacks:
    def test_they_hear_and_can_stop(self, model: str, tmp_path: Path) -> None:
        """Prevents: a callback that is never called, and a stop that is ignored."""
        heard: list[Any] = []

        class Watcher:
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                heard.append("begin")

            def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
                control.should_training_stop = state.global_step >= 2

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                heard.append(logs.get("reward"))

            def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                heard.append("end")

        trainer = GRPOTrainer(model, variety, small_args(tmp_path, max_steps=5), sayings(), callbacks=[Watcher])
        assert trainer.train().global_step == 2
        assert heard[0] == "begin" and heard[-1] == "end" and isinstance(heard[1], float)

    def test_what_one_raises_ends_the_training(self, model: str, tmp_path: Path) -> None:
        """Prevents: an assertion in a callback that becomes a warning."""

        class Wrong:
            def on_log(self, *_: Any, **__: Any) -> None:
                raise LookupError("no reward")

        trainer = GRPOTrainer(model, variety, small_args(tmp_path, max_steps=5), sayings(), callbacks=[Wrong()])
        with pytest.raises(LookupError, match="no reward"):
            trainer.train()
        assert trainer.state.global_step == 1 and Run(trainer.run_dir).status == "interrupted"

    def test_transformers_own_are_taken_and_what_is_never_called_is_refused(self, model: str, tmp_path: Path) -> None:
        """Prevents: a hook that somebody relies on and that never runs."""
        from transformers import TrainerCallback

        class Later(TrainerCallback):
            def on_optimizer_step(self, *_: Any, **__: Any) -> None:
                pass

        GRPOTrainer(model, variety, small_args(tmp_path), sayings(), callbacks=[TrainerCallback()])
        with pytest.raises(ConfigError, match="on_optimizer_step"):
            GRPOTrainer(model, variety, small_args(tmp_path), sayings(), callbacks=[Later()])


class TestData:
    def test_a_text_is_continued_as_it_is(self, model: str, tmp_path: Path) -> None:
        """Prevents: a chat template around prompts that TRL continues without one."""
        trainer = GRPOTrainer(model, variety, small_args(tmp_path), sayings())
        trainer.train()
        prompt = trainer._trainer.prompts[0]
        assert trainer._trainer.policy.render_text(prompt.messages) == prompt.messages[0]["content"]

    def test_a_conversation_goes_through_the_template(self, model: str, tmp_path: Path) -> None:
        """Prevents: the template of plain texts for conversations; and values of a template that are dropped."""
        trainer = GRPOTrainer(model, variety, small_args(tmp_path, chat_template_kwargs={"mood": "good"}), questions())
        tokenizer = trainer.processing_class
        assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True) == (
            "<|user|>x<|end|><|assistant|>")
        assert 'set mood = "good"' in tokenizer.chat_template

    def test_a_stream_is_read_as_far_as_it_is_trained_on(self, model: str, tmp_path: Path) -> None:
        """Prevents: a stream that is read to its end, which may never come; and one that is shuffled."""

        class Stream:
            read = 0

            def __iter__(self) -> Iterator[dict[str, Any]]:
                while True:
                    self.read += 1
                    yield {"prompt": f"Say {self.read}"}

        stream, asked = Stream(), []

        def watch(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
            asked.extend(dict.fromkeys(prompts))
            return variety(completions)

        GRPOTrainer(model, watch, small_args(tmp_path, max_steps=3), stream).train()
        assert asked == ["Say 1", "Say 2", "Say 3"] and stream.read == 3
        with pytest.raises(ConfigError, match="max_steps"):
            GRPOTrainer(model, variety, small_args(tmp_path, max_steps=-1), stream)

    def test_columns_reach_rewards_as_they_are(self, model: str, tmp_path: Path) -> None:
        """Prevents: a GSM8K answer that arrives cut, and an object that arrives as text or not at all."""
        thing, seen = object(), []

        def watch(completions: list[str], answer: list[str], thing: list[Any], trainer_state: Any, **kwargs: Any) -> list[float]:
            seen.append((answer[0], thing[0], trainer_state.max_steps, sorted(kwargs)))
            return variety(completions)

        rows = [{"prompt": f"Say {n}", "answer": "2 and 2\n#### 4", "thing": thing} for n in range(4)]
        GRPOTrainer(model, watch, small_args(tmp_path), rows).train()
        answer, given, steps, others = seen[0]
        assert answer == "2 and 2\n#### 4" and given is thing and steps == 2
        assert others == ["completion_ids", "log_extra", "log_metric", "prompts"]

    @pytest.mark.parametrize(("rows", "said"), [
        ([{"question": "2 + 2?"}], "rename_column"),
        ([{"prompt": "a"}, {"prompt": [{"role": "user", "content": "b"}]}], "in one way"),
        ([{"prompt": [{"role": "assistant", "content": "I"}]}], "last is the user's"),
        ({"train": [{"prompt": "a"}]}, "Choose a split"),
        ([], "empty"), ([{"prompt": "a", "image": object()}], "read text alone"),
    ])
    def test_rows_that_cannot_be_used_are_refused(self, rows: Any, said: str, model: str, tmp_path: Path) -> None:
        """Prevents: a traceback out of the middle of a run."""
        with pytest.raises((ConfigError, DataError), match=said):
            GRPOTrainer(model, variety, small_args(tmp_path), rows)

    def test_a_prompt_that_trl_would_cut_is_refused(self, model: str, tmp_path: Path) -> None:
        """Prevents: max_prompt_length that is ignored."""
        trainer = GRPOTrainer(model, variety, small_args(tmp_path, max_prompt_length=5), sayings())
        with pytest.raises(DataError, match="more than max_prompt_length=5"):
            trainer.train()


class TestModels:
    def test_a_module_is_trained_itself(self, model: str, tmp_path: Path) -> None:
        """Prevents: a model in memory that is the same after its training."""
        from transformers import AutoTokenizer

        module = module_at(model)
        before = {name: weight.clone() for name, weight in module.named_parameters()}
        trainer = GRPOTrainer(module, variety, small_args(tmp_path), sayings(), processing_class=AutoTokenizer.from_pretrained(model))
        trainer.train()
        assert trainer.model is module
        assert any(not torch.equal(before[name], weight) for name, weight in module.named_parameters())
        trainer.save_model(tmp_path / "saved")
        saved = dict(module_at(str(tmp_path / "saved")).named_parameters())
        assert all(torch.equal(saved[name], weight.cpu()) for name, weight in module.named_parameters())
        assert module(torch.tensor([[1, 2, 3]])).logits.shape[:2] == (1, 3)

    def test_a_lora_config_is_honoured(self, model: str, tmp_path: Path) -> None:
        """Prevents: an adapter of another rank, or on other modules, than the one that was asked for."""
        from peft import LoraConfig

        trainer = GRPOTrainer(model, variety, small_args(tmp_path), sayings(), peft_config=LoraConfig(r=3, lora_alpha=6))
        trainer.train()
        names = [name for name, _ in trainer._trainer.policy.trainable()]
        assert names and all("q_proj" in name or "v_proj" in name for name in names), "PEFT's own choice for this family"
        assert trainer.model.peft_config["default"].r == 3
        trainer.save_model(tmp_path / "adapter")
        assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["lora_alpha"] == 6

    @pytest.mark.parametrize(("fields", "said"), [
        ({"lora_dropout": 0.1}, "lora_dropout=0"), ({"bias": "all"}, "bias"), ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"target_modules": ".*_proj"}, "pattern"),
    ])
    def test_what_an_adapter_lacks_here_is_named(self, fields: dict[str, Any], said: str, model: str, tmp_path: Path) -> None:
        """Prevents: a field of LoraConfig that is dropped."""
        from peft import LoraConfig

        with pytest.raises(ConfigError, match=said):
            GRPOTrainer(model, variety, small_args(tmp_path), sayings(), peft_config=LoraConfig(**fields))

    def test_a_model_that_was_named_can_be_asked_by_transformers(self, model: str, tmp_path: Path) -> None:
        """Prevents: `trainer.model.generate` after a training that fails without a word of what to do, or says something else."""
        trainer = GRPOTrainer(model, variety, small_args(tmp_path / "out"), sayings())
        trainer.train()
        tokens = torch.tensor([[1, 2, 3]])
        with pytest.raises(ModelError, match=r"model\.set_attn_implementation"):
            trainer.model.generate(tokens, max_new_tokens=5)
        trainer.model.eval()
        trainer.model.set_attn_implementation("sdpa")
        trainer.save_model(tmp_path / "saved")
        wanted = module_at(str(tmp_path / "saved")).generate(tokens, max_new_tokens=5, do_sample=False)
        assert trainer.model.generate(tokens, max_new_tokens=5, do_sample=False).tolist() == wanted.tolist()

    def test_an_adapter_in_memory_goes_on(self, model: str, tmp_path: Path) -> None:
        """Prevents: an adapter that was trained before and begins anew."""
        from peft import LoraConfig, get_peft_model
        from transformers import AutoTokenizer

        adapted = get_peft_model(module_at(model), LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "lora_B" in name:
                    weight.fill_(0.25)
        begun = {name: weight.clone() for name, weight in adapted.named_parameters() if "lora_" in name}
        trainer = GRPOTrainer(
            adapted, variety, small_args(tmp_path, learning_rate=1e-6), sayings(), processing_class=AutoTokenizer.from_pretrained(model))
        trainer.train()
        trained = dict(trainer._trainer.policy.trainable())
        assert trained.keys() == begun.keys()
        assert all(torch.allclose(trained[name], weight, atol=1e-4) for name, weight in begun.items())
        assert any(not torch.equal(dict(adapted.named_parameters())[name], weight) for name, weight in begun.items())


class TestRewards:
    def test_async_and_none_and_weights(self, model: str, tmp_path: Path) -> None:
        """Prevents: a coroutine that is never awaited, None that counts as 0, and weights that are lost."""

        async def waits(completions: list[str], **kwargs: Any) -> list[float]:
            return [2.0] * len(completions)

        def sometimes(completions: list[str], number: list[int], **kwargs: Any) -> list[float | None]:
            return [None if each % 2 else 1.0 for each in number]

        args = small_args(tmp_path, reward_weights=[0.5, 10.0, 1.0], max_steps=8)
        trainer = GRPOTrainer(model, [waits, sometimes, variety], args, sayings())
        trainer.train()
        for record in Run(trainer.run_dir).metrics():
            paid = 10 * record.get("rewards/sometimes/mean", 0.0)
            assert record["reward"] == pytest.approx(1.0 + paid + record["rewards/variety/mean"])
        assert {record.get("rewards/sometimes/none") for record in Run(trainer.run_dir).metrics()} == {0.0, 1.0}

    def test_truth_values_and_generators_count_as_in_trl(self, model: str, tmp_path: Path) -> None:
        """Prevents: `return [a == b for ...]` that is refused, and a truth value that is not 1 or 0."""

        def truths(completions: list[str], number: list[int], **kwargs: Any) -> list[bool]:
            return [each % 2 == 0 for each in number]

        async def later(completions: list[str], **kwargs: Any) -> Iterator[Any]:
            return (numpy.bool_(True) for _ in completions)

        trainer = GRPOTrainer(model, [truths, later, variety], small_args(tmp_path, max_steps=4), sayings())
        trainer.train()
        records = list(Run(trainer.run_dir).metrics())
        assert {record["rewards/truths/mean"] for record in records} == {0.0, 1.0}
        assert all(record["rewards/later/mean"] == 1.0 for record in records)

    def test_extras_and_metrics_are_logged(self, model: str, tmp_path: Path) -> None:
        """Prevents: `log_extra` and `log_metric` that go nowhere."""

        def talks(completions: list[str], log_extra: Any = None, log_metric: Any = None, **kwargs: Any) -> list[float]:
            log_extra("first", [text[:1] for text in completions])
            log_metric("share", 0.25)
            return variety(completions)

        trainer = GRPOTrainer(model, talks, small_args(tmp_path), sayings())
        trainer.train()
        assert trainer.state.log_history[0]["share"] == 0.25
        assert "first" in Run(trainer.run_dir).rollouts(1)[0]["extras"]

    @pytest.mark.parametrize("form", ["folder", "module"])
    def test_a_reward_model_scores(self, form: str, model: str, tmp_path: Path) -> None:
        """Prevents: a sequence classifier that is taken for a function, or reads padding."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        scorer = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
        tokenizer = AutoTokenizer.from_pretrained(model)
        scorer.config.pad_token_id = tokenizer.pad_token_id
        scorer.save_pretrained(tmp_path / "judge")
        tokenizer.save_pretrained(tmp_path / "judge")
        given = str(tmp_path / "judge") if form == "folder" else AutoModelForSequenceClassification.from_pretrained(tmp_path / "judge")
        trainer = GRPOTrainer(model, given, small_args(tmp_path / "out"), questions())
        trainer.train()
        row = Run(trainer.run_dir).rollouts(1)[0]
        said = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["text"]}]
        read = tokenizer(tokenizer.apply_chat_template(said, tokenize=False), return_tensors="pt", add_special_tokens=False)
        with torch.no_grad():
            assert row["rewards"]["judge"] == pytest.approx(float(scorer(**read).logits[0, 0]), abs=1e-4)

    def test_what_one_raises_names_it(self, model: str, tmp_path: Path) -> None:
        """Prevents: an error in a reward that is hidden behind the wrapper."""

        def broken(completions: list[str], **kwargs: Any) -> list[float]:
            raise ZeroDivisionError("no")

        with pytest.raises(RewardError, match="broken raised ZeroDivisionError"):
            GRPOTrainer(model, broken, small_args(tmp_path), sayings()).train()


class TestWhatScriptsDoAfterwards:
    def test_metrics_and_the_history_are_written_as_transformers_does(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Prevents: the last lines of TRL's own example that end in an AttributeError when the training is over."""
        rows = sayings()
        trainer = GRPOTrainer(model, variety, small_args(tmp_path / "out"), rows, eval_dataset=sayings(1))
        metrics = trainer.train().metrics
        metrics["train_samples"] = len(trainer.train_dataset)
        trainer.log_metrics("train", metrics)
        trainer.save_metrics("train", metrics)
        trainer.save_metrics("eval", trainer.evaluate())
        trainer.save_state()
        printed, out = capsys.readouterr().out, tmp_path / "out"
        assert "***** train metrics *****" in printed and re.search(r"train_runtime += +0:00:0\d\.\d\d\n", printed)
        assert json.loads((out / "train_results.json").read_text()) == metrics
        assert json.loads((out / "all_results.json").read_text()).keys() > metrics.keys()
        history = json.loads((out / "trainer_state.json").read_text())["log_history"]
        assert history == trainer.state.log_history and trainer.train_dataset is rows and trainer.is_world_process_zero()

    @pytest.mark.parametrize(("seconds", "shown"), [(5, "0:00:05.00"), (61.999, "0:01:01.99"), (90_000.5, "1 day, 1:00:00.50")])
    def test_a_time_is_shown_whole(self, seconds: float, shown: str) -> None:
        """Prevents: `0:0` where the hundredths of a second are 0, one training in a hundred."""
        assert metric_lines("train", {"train_runtime": seconds})[1] == f"  train_runtime = {shown}"

    def test_a_callback_can_be_taken_away(self, model: str, tmp_path: Path) -> None:
        """Prevents: a callback that hears on; and one that was never there, taken away without a word."""
        stop = Stop()
        trainer = GRPOTrainer(model, variety, small_args(tmp_path, max_steps=3), sayings(), callbacks=[stop])
        assert trainer.pop_callback(Stop) is stop
        trainer.add_callback(stop)
        trainer.remove_callback(stop)
        assert trainer.train().global_step == 3
        with pytest.warns(UserWarning, match="disable_tqdm"):
            assert trainer.pop_callback(Stop) is None

    @pytest.mark.parametrize(("name", "said"), [
        ("accelerator", "One process"), ("optimizer", "optim="), ("lr_scheduler", "lr_scheduler_type"),
        ("create_model_card", "heron export"), ("anything", "run_dir"),
    ])
    def test_what_a_trainer_lacks_says_what_to_use(self, name: str, said: str, model: str, tmp_path: Path) -> None:
        """Prevents: a bare AttributeError after hours of training."""
        trainer = GRPOTrainer(model, variety, small_args(tmp_path), sayings())
        with pytest.raises(AttributeError, match=f"GRPOTrainer has no '{name}'.*{said}"):
            getattr(trainer, name)
        assert not hasattr(trainer, name)


class TestRefusals:
    @pytest.mark.parametrize("name", ["compute_loss", "_compute_loss", "_calculate_rewards", "log", "get_train_dataloader"])
    def test_a_class_may_not_override_what_is_never_called(self, name: str) -> None:
        """Prevents: a loss, rewards or data of the script's own that are dropped without a word, since this loop calls no such method."""
        with pytest.raises(ConfigError, match=f"Mine overrides {name}, which is never called"):
            type("Mine", (GRPOTrainer,), {name: lambda self, *_: None})

    def test_a_class_may_add_to_the_trainer(self, model: str, tmp_path: Path) -> None:
        """Prevents: every class made from the trainer refused, for what it overrides and Heron calls, or adds."""

        class Mine(GRPOTrainer):
            def train(self, *more: Any, **others: Any) -> Any:
                return super().train(*more, **others), self.told()

            def told(self) -> str:
                return "mine"

        assert Mine(model, variety, small_args(tmp_path), sayings()).train()[1] == "mine"

    def test_what_there_is_nothing_for_is_refused(self, model: str, tmp_path: Path) -> None:
        """Prevents: an argument that is taken and dropped."""
        args = small_args(tmp_path)
        with pytest.raises(ConfigError, match="optimizers"):
            GRPOTrainer(model, variety, args, sayings(), optimizers=(object(), None))
        with pytest.raises(ConfigError, match="rollout_func"):
            GRPOTrainer(model, variety, args, sayings(), rollout_func=print)
        with pytest.raises(ConfigError, match=r"heron\.compat\.trl\.GRPOConfig"):
            GRPOTrainer(model, variety, {"max_steps": 1}, sayings())
        with pytest.raises(ConfigError, match="heron export"):
            GRPOTrainer(model, variety, args, sayings()).push_to_hub()
        with pytest.raises(ConfigError, match="3 reward_weights for 1"):
            GRPOTrainer(model, variety, small_args(tmp_path, reward_weights=[1, 2, 3]), sayings()).train()


class Stop:
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == 2


class TestResume:
    def test_a_run_goes_on_to_the_same_weights(self, model: str, tmp_path: Path) -> None:
        """Prevents: `resume_from_checkpoint` that begins anew, or goes on with something else."""

        def trainer(folder: str, **more: Any) -> GRPOTrainer:
            return GRPOTrainer(model, variety, small_args(tmp_path / folder, max_steps=4), sayings(), **more)

        whole = trainer("whole")
        whole.train()
        trainer("cut", callbacks=[Stop()]).train()
        resumed = trainer("cut")
        assert resumed.train(resume_from_checkpoint=True).global_step == 4
        assert [entry.get("reward") for entry in resumed.state.log_history[:4]] == [
            entry.get("reward") for entry in whole.state.log_history[:4]]
        weights = dict(whole._trainer.policy.model.named_parameters())
        assert all(torch.equal(weights[name], weight) for name, weight in resumed._trainer.policy.model.named_parameters())

    @pytest.mark.parametrize("again", [True, "out/run-1", "out/run-1/checkpoints/step-000002"])
    def test_a_relative_output_dir_is_the_same_folder_when_it_goes_on(
        self, again: bool | str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Prevents: a run in `outputs`, as every notebook names it, that has "other settings" than itself when it goes on."""
        from peft import LoraConfig, get_peft_model
        from transformers import AutoTokenizer

        def trainer(**more: Any) -> GRPOTrainer:
            adapted = get_peft_model(module_at(model), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
            tokenizer = AutoTokenizer.from_pretrained(model)
            return GRPOTrainer(adapted, variety, small_args(Path("out"), max_steps=3), sayings(), processing_class=tokenizer, **more)

        (tmp_path / "there").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "there")
        monkeypatch.chdir(tmp_path / "link")
        begun = trainer(callbacks=[Stop()])
        begun.train()
        resumed = trainer()
        assert resumed.train(resume_from_checkpoint=again).global_step == 3
        assert begun.args.output_dir == "out" and begun.run_dir == resumed.run_dir and begun.run_dir.is_absolute()

    def test_a_new_run_beside_an_unfinished_one_is_said(self, model: str, tmp_path: Path) -> None:
        """Prevents: the usual `get_last_checkpoint(output_dir)` finding nothing, and hours of training begun anew without a word."""
        begun = GRPOTrainer(model, variety, small_args(tmp_path, max_steps=3), sayings(), callbacks=[Stop()])
        begun.train()
        assert get_last_checkpoint(tmp_path) is None
        with pytest.warns(UserWarning, match=r"run-1 was not finished.*resume_from_checkpoint=True"):
            GRPOTrainer(model, variety, small_args(tmp_path), sayings()).train(resume_from_checkpoint=None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            GRPOTrainer(model, variety, small_args(tmp_path), sayings()).train()

    def test_a_finished_run_is_given_more_steps(self, model: str, tmp_path: Path) -> None:
        """Prevents: a longer training or other checkpoints refused, which transformers takes, and advice to set what is then refused."""
        GRPOTrainer(model, variety, small_args(tmp_path, lr_scheduler_type="constant"), sayings()).train()
        longer = GRPOTrainer(model, variety, small_args(tmp_path, max_steps=3, save_steps=1, lr_scheduler_type="constant"), sayings())
        with pytest.raises(RunError, match=r"nothing to resume.*max_steps in a script"):
            GRPOTrainer(model, variety, small_args(tmp_path, lr_scheduler_type="constant"), sayings()).train(resume_from_checkpoint=True)
        assert longer.train(resume_from_checkpoint=True).global_step == 3
        assert [entry["step"] for entry in longer.state.log_history] == [1, 2, 3, 3] and longer.run_dir == tmp_path / "run-1"
        written = load_config(longer.run_dir / "config.toml").train
        assert (written.max_steps, written.save_steps) == (3, 1)

    def test_other_settings_or_rows_are_refused(self, model: str, tmp_path: Path) -> None:
        """Prevents: a run that goes on with other options than it is given."""
        GRPOTrainer(model, variety, small_args(tmp_path), sayings()).train()
        with pytest.raises(ConfigError, match=r"other settings: learning_rate was 0\.001"):
            GRPOTrainer(model, variety, small_args(tmp_path, learning_rate=1e-4), sayings()).train(resume_from_checkpoint=True)
        with pytest.raises(DataError, match="another one"):
            GRPOTrainer(model, variety, small_args(tmp_path), sayings(7)).train(resume_from_checkpoint=True)
        with pytest.raises(RunError, match="no run"):
            GRPOTrainer(model, variety, small_args(tmp_path / "none"), sayings()).train(resume_from_checkpoint=True)
