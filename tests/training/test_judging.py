"""Judges in this process, and who is asked in a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from judgeserver import FakeJudge, reply_in, running, says, scores
from tinymodels import stir_adapter

import heron
from heron.config import ModelConfig, load_config
from heron.config.judge import JudgeConfig
from heron.errors import ConfigError, RewardError, RewardStop
from heron.models import Policy, load_policy
from heron.rewards import Rubric, load_functions
from heron.run import Run
from heron.training.judging import ModelJudge, appoint_judge, judge_of, lend_start, start_of
from heron.types import Tags

CLAIM = 'judge.claim(ask="It sounds like a robot.", deduct=3)'
CONVERSATIONS = [[{"role": "user", "content": text}] for text in ("2 + 2?", "And 3 + 3?")]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "enum": [0, 1]}}, "required": ["a"], "additionalProperties": False}
SMALL: dict[str, Any] = {
    "train": {"max_steps": 1, "prompts_per_step": 2, "save_steps": 0}, "rollout": {"num_generations": 2, "max_completion_length": 8},
    "evaluation": {"size": 2, "samples": 0},
}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    with running(says(lambda body: scores(genuine_attempt=1, claim=len(reply_in(body)) % 2))) as fake:
        yield fake


@pytest.fixture
def folder(tiny_folder: Callable[[str], Path]) -> Path:
    return tiny_folder("qwen3")


def stirred(folder: Path) -> Policy:
    """A policy whose adapter has learnt something."""
    policy = load_policy(ModelConfig(name=str(folder), method="lora"), Tags())
    with torch.no_grad():
        for name, weight in policy.trainable():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    return policy


def answers(judge: Any) -> list[Any]:
    found = dict(judge.ask(CONVERSATIONS, SCHEMA))
    return [found[number] for number in range(len(CONVERSATIONS))]


def test_model_folder_judges_within_the_schema(folder: Path) -> None:
    """Prevents: a local judge that says anything but the object that was asked for."""
    judge = judge_of(JudgeConfig(name=str(folder), max_answer_tokens=40))
    said = ["".join(answer.split()) for answer in answers(judge)]  # a random model loves blanks
    assert all(text and ('{"a":0}'.startswith(text) or '{"a":1}'.startswith(text)) for text in said)


def test_half_of_a_character_is_that_conversations_failure(folder: Path) -> None:
    """Prevents: a column with a lone surrogate in it, shown by a grader's template, that ends in a traceback of the tokenizer."""
    judge = judge_of(JudgeConfig(name=str(folder), max_answer_tokens=4, structured=False))
    asked = [[{"role": "user", "content": text}] for text in ("cut \ud83d", "whole")]
    found = dict(judge.ask(asked, SCHEMA))
    assert isinstance(found[0], RewardError) and "half a character" in str(found[0]) and isinstance(found[1], str)


def test_start_judges_without_the_adapter_and_gives_it_back(folder: Path) -> None:
    """Prevents: a policy that judges itself, and one that is trained without its adapter afterwards."""
    config = JudgeConfig(name="start", max_answer_tokens=12, structured=False)
    policy = stirred(folder)
    lent, alone = ModelJudge(config, None), ModelJudge(JudgeConfig(name=str(folder), max_answer_tokens=12, structured=False), None)
    lent.borrow(policy)
    alone.borrow(load_policy(ModelConfig(name=str(folder), method="lora"), Tags(), without_adapter=True))
    alone._is_borrowed = False
    trained = ModelJudge(config, lambda: policy)
    before = answers(trained)
    assert answers(lent) == answers(alone) != before
    assert answers(trained) == before and all(weight.requires_grad for _, weight in policy.trainable()) and policy.trainable()


def test_reference_of_full_training_judges(folder: Path) -> None:
    """Prevents: a judge that drifts with the policy."""
    policy = load_policy(ModelConfig(name=str(folder)), Tags())
    policy.set_reference(load_policy(ModelConfig(name=str(folder)), Tags()).model)
    judge = ModelJudge(JudgeConfig(name="start", max_answer_tokens=12, structured=False), None)
    judge.borrow(policy)
    before = answers(judge)
    with torch.no_grad():
        for _, weight in policy.trainable():
            weight.normal_(std=0.3)
    assert answers(judge) == before


def test_conversation_beyond_the_context_is_that_replys_failure(folder: Path) -> None:
    """Prevents: one long reply that ends the run."""
    judge = judge_of(JudgeConfig(name=str(folder), max_answer_tokens=12, structured=False))
    found = dict(judge.ask([*CONVERSATIONS, [{"role": "user", "content": "x" * 600}]], SCHEMA))
    assert isinstance(found[2], RewardError) and "context of 512" in str(found[2]) and isinstance(found[0], str)


def test_name_changes_with_the_weights(tmp_path: Path) -> None:
    """Prevents: verdicts of the cache for a model that was replaced in its folder."""
    from tinymodels import save_tiny

    def name() -> str:
        return judge_of(JudgeConfig(name=str(tmp_path / "m"))).name

    save_tiny("qwen3", tmp_path / "m")
    first = name()
    assert name() == first
    save_tiny("qwen3", tmp_path / "m", seed=1)
    assert name() != first


def test_name_is_of_the_content_not_of_its_date(tmp_path: Path) -> None:
    """Prevents: verdicts of one model for another that was written to the same place with the same size and date, as archives do."""
    from tinymodels import save_tiny

    def name() -> str:
        return judge_of(JudgeConfig(name=str(tmp_path / "m"))).name

    weights = save_tiny("qwen3", tmp_path / "m") / "model.safetensors"
    first, date = name(), weights.stat().st_mtime_ns
    os.utime(weights, ns=(date + 10**9, date + 10**9))
    assert name() == first
    save_tiny("qwen3", tmp_path / "m", seed=1)
    os.utime(weights, ns=(date, date))
    assert name() != first
    save_tiny("qwen3", tmp_path / "m")
    assert name() == first
    (tmp_path / "m" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert name() != first


def test_start_with_another_adapter_is_another_judge(folder: Path, tmp_path: Path) -> None:
    """Prevents: cached verdicts of a run's start for another run's, whose adapter began elsewhere on the same base."""
    adapters = []
    for seed in (0, 1):
        policy = load_policy(ModelConfig(name=str(folder), method="lora"), Tags())
        stir_adapter(policy, seed=seed)
        policy.model.save_pretrained(tmp_path / str(seed))
        adapters.append(str(tmp_path / str(seed)))
    sections = [{"model": {"name": str(folder), "method": "lora", "adapter": adapter, "lora_rank": 16, "lora_alpha": 32},
                 "objective": {"beta": 0.1},
                 "judge": {"name": "start"}} for adapter in adapters]
    first, second = (load_config("gsm8k", each) for each in sections)
    lent = []
    for config in (first, second):
        judge = ModelJudge(config.judge, None)
        judge.borrow(load_policy(config.model, config.tags))
        lent.append(judge.name)
    bare = judge_of(JudgeConfig(name=str(folder))).name
    assert len({*lent, bare}) == 3
    assert judge_of(first.judge, start=lambda: start_of(first)).name == lent[0]


def test_what_is_trained_does_not_rename_its_start(folder: Path) -> None:
    """Prevents: a resumed run that pays for all verdicts again, since its adapter has learnt something."""
    names = []
    for policy in (load_policy(ModelConfig(name=str(folder), method="lora"), Tags()), stirred(folder)):
        judge = ModelJudge(JudgeConfig(name="start"), None)
        judge.borrow(policy)
        names.append(judge.name)
    assert names[0] == names[1] == judge_of(JudgeConfig(name=str(folder))).name
    policy.quantization_kept = ("down_proj",)
    judge.borrow(policy)
    assert judge.name != names[0]


def test_start_judges_where_there_is_no_run(folder: Path) -> None:
    """Prevents: a recipe whose judge cannot be attacked before it is trained, or one asked for that a warm-up will change."""
    sections: dict[str, Any] = {"model": {"name": str(folder), "method": "lora"}, "judge": {"name": "start", "structured": False}}
    start, loaded = (JudgeConfig(name=name, max_answer_tokens=12, structured=False) for name in ("start", str(folder)))
    assert answers(judge_of(start, start=lambda: start_of(load_config("gsm8k", sections)))) == answers(judge_of(loaded))
    with pytest.raises(RewardStop, match="heron warmup"):
        start_of(load_config("gsm8k", sections | {"warmup": {"dataset": "rows.jsonl"}}))


def test_function_that_asks_needs_a_judge_before_anything_is_loaded() -> None:
    """Prevents: a forgotten judge that is found out in the first step."""
    rubric = Rubric(load_functions(CLAIM), tags=Tags())
    with pytest.raises(ConfigError, match="Set judge"):
        appoint_judge(rubric, load_config("arithmetic"))


def test_start_is_lent_to_every_seat_that_wants_it(folder: Path) -> None:
    """Prevents: a judge without weights in a run of several functions."""
    rubric = Rubric([*load_functions(CLAIM), *load_functions(CLAIM.replace("robot.\"", "bot.\", name=\"other\""))], tags=Tags())
    config = load_config("arithmetic", {"model": {"name": str(folder), "method": "lora"}, "judge": {"name": "start"}})
    appoint_judge(rubric, config)
    lend_start(rubric, load_policy(config.model, config.tags))
    assert {str(folder.resolve())} == {function.function.heron_seat.judge.name.partition("@")[0] for function in rubric.functions}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"judge": {"url": "http://a/v1"}}, "judge.name must be set"), ({"judge": {"name": "start"}}, "needs the start's weights"),
        ({"judge": {"name": "start"}, "model": {"method": "lora"}, "rewards": {"overlap": True}}, "overlap must be"),
        ({"judge": {"name": "m", "max_rpm": 3}}, "judge.max_rpm is of use"), ({"judge": {"max_failures": 1}}, "max_failures must lie"),
        ({"judge": {"name": "m", "url": "http://a/v1", "timeout": 0}}, "timeout must be above 0"),
        ({"judge": {"max_concurrent": 0}}, "max_concurrent must be at least 1"), ({"judge": {"nmae": "m"}}, 'Did you mean "name"'),
    ],
)
def test_section_that_cannot_work_is_refused(sections: dict[str, Any], message: str) -> None:
    """Prevents: a setting that does nothing."""
    with pytest.raises(ConfigError, match=message):
        load_config("arithmetic", sections)


def test_a_run_with_a_judge_and_its_evaluation(folder: Path, server: FakeJudge, tmp_path: Path) -> None:
    """Prevents: a judge that is forgotten on the way from config to rubric, and a key or an answer that a run repeats or leaks."""
    (tmp_path / "key").write_text("secret-key")
    run = heron.train(
        model=str(folder), rewards=["arithmetic.number_found", CLAIM], run_dir=tmp_path / "run", quiet=True,
        judge={"url": server.url, "name": "m", "key_file": str(tmp_path / "key")}, **SMALL,
    )
    assert isinstance(run, Run) and run.status == "finished" and server.bodies
    assert server.headers[0]["Authorization"] == "Bearer secret-key"
    texts = [path for path in (tmp_path / "run").rglob("*.*") if path.suffix in (".toml", ".json", ".jsonl")]
    written = "".join(path.read_text(errors="replace") for path in texts)
    assert "secret-key" not in written and "logged/judge_failed" in written
    heron.evaluate(tmp_path / "run", size=2, samples=0)


def test_a_lora_run_judged_by_its_start(folder: Path, tmp_path: Path) -> None:
    """Prevents: a start that is asked before it is lent. The tiny model's context is too short to judge, so that stops the run, by name."""
    with pytest.raises(RewardStop, match="exceeds the judge's context of 512"):
        heron.train(
            model={"name": str(folder), "method": "lora"}, rewards=["arithmetic.number_found", CLAIM], run_dir=tmp_path / "run", quiet=True,
            judge={"name": "start", "max_answer_tokens": 16}, **SMALL,
        )
