"""What TRL's documentation shows of GRPO, with the import changed and tiny models: quick start, rewards, PEFT, tools, environments."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trl import SMALL, questions, sayings, small_args, variety

from heron.compat.trl import GRPOConfig, GRPOTrainer
from heron.compat.trl.rewards import (
    accuracy_reward,
    get_cosine_scaled_reward,
    get_repetition_penalty_reward,
    get_soft_overlong_punishment,
    reasoning_accuracy_reward,
    think_format_reward,
)
from heron.engine.scripted import ScriptedEngine
from heron.errors import ConfigError
from heron.run import Run

TOOLS = """\
{%- for tool in tools or [] %}{{ tool.function.name }} {% endfor %}
{%- for message in messages %}<|{{ "user" if message.role == "tool" else message.role }}|>{{ message.content }}<|end|>{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def model(tiny_folder: Callable[[str], Path]) -> str:
    return str(tiny_folder("qwen3"))


def with_tools(folder: str) -> Any:
    """The tiny tokenizer with a template that tells of tools."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TOOLS
    return tokenizer


def says(trainer: GRPOTrainer, script: Callable[[str, int], str]) -> None:
    """Put words into the model's mouth: `script(prompt, sibling)`."""
    inner = trainer._assembled()
    policy = inner.policy

    def tokens(prompt_ids: tuple[int, ...], sibling: int) -> tuple[int, ...]:
        said = script(policy.tokenizer.decode(prompt_ids), sibling)
        return (*policy.encode(said), min(policy.end_ids))

    engine = ScriptedEngine(tokens)
    inner.collector = replace(inner.collector, engine=engine)
    inner.updater = replace(inner.updater, engine_is_exact=False)
    inner.config = replace(inner.config, train=replace(inner.config.train, check_identities=False))  # a script has no log-probs


def call(name: str, **arguments: Any) -> str:
    return f'<tool_call>{json.dumps({"name": name, "arguments": arguments})}</tool_call>'


def test_quick_start(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: the first script of TRL's documentation that does not run: a dataset of `datasets`, a reward of TRL's, no options but."""
    from datasets import Dataset

    monkeypatch.chdir(tmp_path)
    dataset = Dataset.from_list([
        {"prompt": [{"role": "user", "content": f"What is {number} + 1?"}], "solution": f"\\boxed{{{number + 1}}}"} for number in range(8)
    ])
    trainer = GRPOTrainer(model=model, reward_funcs=accuracy_reward, args=GRPOConfig(**SMALL), train_dataset=dataset)
    trainer.train()
    assert Run(tmp_path / "trainer_output" / "run-1").status == "finished"
    assert trainer.state.log_history[0]["rewards/accuracy_reward/mean"] == 0.0


def test_a_reward_that_reads_only_token_ids(model: str, tmp_path: Path) -> None:
    """Prevents: a function that does not name `completions`, taken for one that scores a single row."""

    def reward_func(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        return [float(len(ids)) for ids in completion_ids]

    trainer = GRPOTrainer(model, reward_func, small_args(tmp_path), sayings())
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["reward"] == first["completions/mean_length"] == first["rewards/reward_func/mean"]


def test_a_format_and_a_reference(model: str, tmp_path: Path) -> None:
    """Prevents: conversations that arrive as text, and columns that arrive under another name."""

    def format_reward_func(completions: list[Any], **kwargs: Any) -> list[float]:
        contents = [completion[0]["content"] for completion in completions]
        return [1.0 if re.match(r"^<think>.*?</think><answer>.*?</answer>$", content) else 0.0 for content in contents]

    def reward_func(completions: list[Any], ground_truth: list[str], **kwargs: Any) -> list[float]:
        found = [re.search(r"\\boxed\{(.*?)\}", completion[0]["content"]) for completion in completions]
        return [1.0 if match and match[1] == truth else 0.0 for match, truth in zip(found, ground_truth, strict=True)]

    rows = [{**row, "ground_truth": row["answer"]} for row in questions()]
    trainer = GRPOTrainer(model, [format_reward_func, reward_func], small_args(tmp_path, max_completion_length=60), rows)
    says(trainer, lambda prompt, sibling: "<think>a</think><answer>b</answer>" if sibling else "\\boxed{5}")
    trainer.train()
    rewards = [(row["rewards"]["format_reward_func"], row["rewards"]["reward_func"]) for row in Run(trainer.run_dir).rollouts(1)]
    truth = 1.0 if Run(trainer.run_dir).rollouts(1)[0]["question"] == "What is 4 + 1?" else 0.0
    assert rewards == [(0.0, truth), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)]


def test_several_tasks_and_async(model: str, tmp_path: Path) -> None:
    """Prevents: None of a function for another task that counts as 0, and an async function beside a plain one."""

    def math_reward_func(prompts: Any, completions: Any, task: list[str], **kwargs: Any) -> list[float | None]:
        return [0.5 if each == "math" else None for each in task]

    async def coding_reward_func(prompts: Any, completions: Any, task: list[str], **kwargs: Any) -> list[float | None]:
        await asyncio.sleep(0)
        return [3.0 if each == "code" else None for each in task]

    rows = [{"prompt": f"Number {number} is", "task": ("math", "code")[number % 2]} for number in range(8)]
    trainer = GRPOTrainer(model, [math_reward_func, coding_reward_func, variety], small_args(tmp_path, max_steps=8), rows)
    trainer.train()
    totals = {record["reward"] - record["rewards/variety/mean"] for record in Run(trainer.run_dir).metrics()}
    assert {round(total, 6) for total in totals} == {0.5, 3.0}


def test_peft(model: str, tmp_path: Path) -> None:
    """Prevents: the PEFT example, on a model in memory, that trains the base or nothing."""
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(model)
    before = {name: weight.clone() for name, weight in base.named_parameters()}
    trainer = GRPOTrainer(
        model=base, reward_funcs=variety, args=small_args(tmp_path), train_dataset=sayings(),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", target_modules="all-linear"),
    )
    trainer.train()
    trained = {name: weight for name, weight in trainer.model.named_parameters() if "lora_B" in name}
    assert trained and all(bool(weight.abs().max() > 0) for weight in trained.values())
    assert all(torch.equal(before[name], weight) for name, weight in base.named_parameters())


def multiply(a: int, b: int) -> int:
    """
    Multiplies two integers.

    Args:
        a: The first integer.
        b: The second integer.

    Returns:
        The product of the two integers.
    """
    return a * b


async def async_add(a: int, b: int) -> int:
    """
    Adds two integers.

    Args:
        a: The first integer.
        b: The second integer.
    """
    return a + b


def test_tools(model: str, tmp_path: Path) -> None:
    """Prevents: tools that the model is not told of, that are not called, or whose results it does not see."""
    args = small_args(tmp_path, max_completion_length=120, max_tool_calling_iterations=3)
    with pytest.warns(UserWarning, match="limits each answer of a rollout"):
        trainer = GRPOTrainer(model, variety, args, questions(), processing_class=with_tools(model), tools=[multiply, async_add])
    prompts: list[str] = []

    def script(prompt: str, sibling: int) -> str:
        prompts.append(prompt)
        if "42" in prompt:
            return "It is 42."
        if "13" in prompt:
            return call("multiply", a=6, b=7)
        return call("async_add", a=6, b=7)

    says(trainer, script)
    trainer.train()
    assert prompts[0].startswith("multiply async_add <|user|>")
    row = Run(trainer.run_dir).rollouts(1)[0]
    assert [message["content"] for message in row["conversation"] if message["role"] == "tool"] == ["13", "42"]
    assert row["text"] == "It is 42."


class IncrementEnv:
    """As in TRL's documentation, with targets that fit into the tiny context."""

    def reset(self, **kwargs: Any) -> str | None:
        self.counter = 0
        self.target = kwargs.get("target") or random.randint(1, 3)
        return None if "target" in kwargs else f"Increment the counter by {self.target}."

    def get_reward(self) -> float:
        return float(self.counter == self.target)

    def increment(self, step: int) -> int:
        """
        Increment the internal counter.

        Args:
            step: Value to add to the counter.

        Returns:
            The updated counter value.
        """
        self.counter += step
        return self.counter

    def _hidden(self) -> None:
        raise AssertionError("no tool")


def counts(prompt: str, sibling: int) -> str:
    """The first two siblings count to the target one by one, the third counts once, the last does not."""
    wanted = int(re.search(r"(?:by|to) (\d)", prompt)[1])  # type: ignore[index]
    done = prompt.count("<|user|>") - 1
    if sibling == 3 or done >= (1 if "third" in prompt else wanted):
        return "done"
    return ("third" if sibling == 2 else "") + call("increment", step=1)


def test_an_environment_that_asks_by_itself(model: str, tmp_path: Path) -> None:
    """Prevents: siblings that share one counter, or begin with other targets; a reward of another rollout's environment."""
    args = small_args(tmp_path, max_completion_length=120, max_steps=3)
    trainer = GRPOTrainer(model=model, args=args, processing_class=with_tools(model), environment_factory=IncrementEnv)
    says(trainer, counts)
    trainer.train()
    for step in (1, 2, 3):
        rows = Run(trainer.run_dir).rollouts(step)
        targets = {len([each for each in row["conversation"] if each["role"] == "tool"]) for row in rows[:2]}
        assert len(targets) == 1
        rewards = [row["rewards"]["IncrementEnv"] for row in rows]
        assert rewards[:2] == [1.0, 1.0] and rewards[2] == float(targets == {1}) and rewards[3] == 0.0


def test_an_environment_over_a_dataset_with_another_reward(model: str, tmp_path: Path) -> None:
    """Prevents: columns that do not reach `reset`, and functions that cannot see the environments."""
    rows = [{"prompt": [{"role": "user", "content": f"Increment the counter to {n}."}], "target": n} for n in range(2, 4)]
    seen: list[tuple[int, int]] = []

    def watches(completions: list[Any], environments: list[Any], target: list[int], **kwargs: Any) -> list[float]:
        seen.extend(zip((each.counter for each in environments), target, strict=True))
        return [0.25] * len(completions)

    args = small_args(tmp_path, max_completion_length=120, max_steps=1, num_generations=4)
    trainer = GRPOTrainer(model, watches, args, rows, processing_class=with_tools(model), environment_factory={"only": IncrementEnv})
    says(trainer, counts)
    trainer.train()
    target = seen[0][1]
    assert seen == [(target, target), (target, target), (1, target), (0, target)]
    assert [row["reward"] for row in Run(trainer.run_dir).rollouts(1)] == [1.25, 1.25, 0.25, 0.25]


def test_what_environments_cannot_be_is_refused(model: str, tmp_path: Path) -> None:
    """Prevents: several environments of which one is used, and tools in a prompt that has no template."""
    two = {"a": IncrementEnv, "b": IncrementEnv}
    with pytest.raises(ConfigError, match="2 environments"):
        GRPOTrainer(model, variety, small_args(tmp_path), questions(), environment_factory=two)
    with pytest.raises(ConfigError, match="conversations"):
        GRPOTrainer(model, variety, small_args(tmp_path), sayings(), tools=[multiply])
    with pytest.raises(ConfigError, match="max_steps"):
        GRPOTrainer(model, args=small_args(tmp_path, max_steps=-1), environment_factory=IncrementEnv)
    with pytest.raises(ConfigError, match="Nothing is rewarded"):
        tokenizer = with_tools(model)
        GRPOTrainer(model, args=small_args(tmp_path), train_dataset=questions(), tools=[multiply], processing_class=tokenizer).train()


class TestRewardsOfTrl:
    """The examples of TRL's own docstrings."""

    def test_accuracy(self) -> None:
        """Prevents: an answer that TRL accepts and this does not."""
        third = [[{"role": "assistant", "content": "My answer is \\boxed{\\frac{1}{3}}"}],
                 [{"role": "assistant", "content": "My answer is \\boxed{\\frac{1}{2}}"}]]
        assert accuracy_reward(third, ["\\frac{1}{3}", "\\frac{1}{3}"]) == [1.0, 0.0]
        assert accuracy_reward(third, ["", "nothing that is mathematics"]) == [None, None]

    def test_accuracy_after_reasoning(self) -> None:
        """Prevents: an answer within the reasoning that is paid."""
        texts = ["<think> x </think> It is \\boxed{2}", "<think> x </think> It is \\boxed{3}", "<think> \\boxed{2}"]
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        assert reasoning_accuracy_reward(completions, ["2"] * 3, reasoning_delimiters=["</think>"]) == [1.0, 0.0, 0.0]

    def test_shaping(self) -> None:
        """Prevents: other numbers than TRL's."""
        assert get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)([[1] * n for n in (80, 90, 101)]) == [0, -0.5, -1]
        assert get_repetition_penalty_reward(ngram_size=2, max_penalty=-1.0)([[1, 2, 3, 4], [5, 5, 5, 5, 5], [1]]) == [0.0, -0.75, 0.0]
        texts = [[{"content": "\\boxed{1}"}], [{"content": "\\boxed{2}"}]]
        assert get_cosine_scaled_reward(max_len=100)(texts, ["1", "1"], [[1] * 50] * 2) == pytest.approx([0.75, -0.75])
        thought = [[{"content": "<think>\nso\n</think>\nthen"}], [{"content": "<think>\nso\nthen"}]]
        assert think_format_reward(thought) == [1.0, 0.0]


def test_a_run_with_an_environment_of_a_program_says_that_it_needs_it(model: str, tmp_path: Path) -> None:
    """Prevents: `heron resume` of such a run that goes on without its environment."""
    from heron.training.assemble import reassemble

    args = small_args(tmp_path, max_completion_length=20)
    trainer = GRPOTrainer(model, variety, args, questions(), processing_class=with_tools(model), tools=[multiply])
    run = trainer._assembled().run
    run.close()
    with pytest.raises(ConfigError, match="handed over by a program"):
        reassemble(run.path, rewards=[(variety, 1.0)])
