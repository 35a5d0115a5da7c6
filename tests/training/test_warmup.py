"""The embedded model's supervised start: built once, whole or not at all, and on nothing that is held out."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from heron import data
from heron.config import Config, load_config
from heron.data.arithmetic import is_heldout
from heron.folders import cache_folder
from heron.kernels import attention
from heron.models import load_policy
from heron.models.embedded import build_model, build_tokenizer
from heron.models.policy import Policy
from heron.training import warmup
from heron.training.batch import pack
from heron.training.demonstrations import sample_of, samples_of
from heron.training.optimizer import make_optimizer
from heron.training.supervised import Course, fit
from heron.types import Tags

DEFAULT = {
    "steps": 750, "demonstrations": 6000, "batch_size": 16, "learning_rate": 1.2e-3, "forget_carry": 0.68, "skip_working": 0.1,
    "break_format": 0.16, "seed": 0,
}
SMALL = {"steps": 3, "demonstrations": 24, "batch_size": 6}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prevents: tests that find, or leave, a model in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def config(**sections: Mapping[str, Any]) -> Config:
    return load_config("arithmetic", {"warmup": SMALL}, sections)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def pair(question: str) -> tuple[int, int]:
    """The two numbers of an addition, smaller first: `a + b` and `b + a` are one problem."""
    low, high = sorted(int(number) for number in re.findall(r"\d+", question))
    return low, high


@pytest.mark.parametrize("digits", [2, 3])
def test_heldout_problems_are_in_no_training_set_and_no_demonstration(digits: int) -> None:
    """The promise of the before/after table: of the problems that are measured, none has been seen, in either order of its numbers."""
    for seed in range(5):
        settings = load_config("arithmetic", {"data": {"digits": digits}, "train": {"seed": seed}, "warmup": {"seed": seed}})
        rows = data.load(settings.data, settings.tags, seed=seed, eval_size=settings.evaluation.size)
        heldout = {pair(prompt.question) for prompt in rows.heldout}
        assert len(rows.heldout) == settings.evaluation.size > 0
        assert not heldout & {pair(prompt.question) for prompt in rows.train}
        lessons = warmup.teach(settings.warmup, digits=digits, difficulty=settings.data.difficulty, tags=settings.tags)
        taught = {pair(lesson.prompt.question) for lesson in lessons}
        assert len(taught) > 1000
        assert not heldout & taught
        assert all(is_heldout(*numbers) for numbers in heldout)
        assert not any(is_heldout(*numbers) for numbers in taught)


def test_problems_of_other_seeds_and_sizes_are_apart_too() -> None:
    """Held out by the problem itself: no seed, limit or size of one run can reach the held-out problems of another."""
    seen: set[tuple[int, int]] = set()
    measured: set[tuple[int, int]] = set()
    for seed, limit, size in ((0, 500, 50), (1, 2000, 400), (7, None, 256)):
        settings = load_config("arithmetic", {"data": {"limit": limit} if limit else {}})
        rows = data.load(settings.data, settings.tags, seed=seed, eval_size=size)
        seen |= {pair(prompt.question) for prompt in rows.train}
        measured |= {pair(prompt.question) for prompt in rows.heldout}
    assert not seen & measured


def test_demonstrations_are_partly_wrong_and_partly_out_of_format() -> None:
    """If every demonstration were right, there would be nothing left to learn by reward."""
    settings = load_config("arithmetic")
    lessons = warmup.teach(settings.warmup, digits=3, difficulty=settings.data.difficulty, tags=settings.tags)
    whole = re.compile(r"<start_working_out>.*<end_working_out><SOLUTION>(\d+)</SOLUTION>")
    matches = [(whole.fullmatch(lesson.completion), lesson.prompt.answer) for lesson in lessons]
    formed = sum(match is not None for match, _ in matches) / len(matches)
    right = sum(match is not None and match[1] == answer for match, answer in matches) / len(matches)
    assert 0.6 < formed < 0.95
    assert 0.1 < right < 0.6


def test_start_is_built_once(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    """Prevents: a minute of warm-up in front of every run."""
    steps: list[tuple[int, int]] = []
    folder = warmup.warm_start(config(), on_progress=lambda done, total: steps.append((done, total)))
    assert folder.is_relative_to(own_cache / "heron")
    assert steps == [(1, 3), (2, 3), (3, 3)]
    monkeypatch.setattr(warmup, "fit", lambda *_: pytest.fail("built again"))
    assert warmup.warm_start(config()) == folder
    assert warmup.warm_start(config(train={"seed": 5}, rollout={"num_generations": 3})) == folder, "the start is the same for every run"


def test_settings_of_a_second_warm_up_are_no_other_start() -> None:
    """Prevents: the embedded model being built anew, with the steps and rate that were meant for a dataset's demonstrations."""
    second = load_config("arithmetic", {"warmup": {"dataset": "arithmetic", "steps": 2, "learning_rate": 1e-5, "demonstrations": 9}})
    assert warmup._key(second) == warmup._key(load_config("arithmetic"))


def test_key_of_the_default_has_not_changed() -> None:
    """Prevents: everybody's cached start being built again, by a new setting that has nothing to do with it."""
    with_torch = {"version": 1, "warmup": DEFAULT, "digits": 3, "tags": list(Tags()), "torch": torch.__version__.split("+")[0]}
    expected = hashlib.sha256(json.dumps(with_torch, sort_keys=True).encode()).hexdigest()[:16]
    written_out = load_config("arithmetic", {"warmup": {"steps": 750, "learning_rate": 1.2e-3}})
    assert warmup._key(load_config("arithmetic")) == warmup._key(written_out) == expected


def test_other_settings_are_another_start() -> None:
    """Prevents: a cached model that was built with other tags, digits or demonstrations."""
    folders = {
        warmup._key(config(**sections)) for sections in (
            {}, {"warmup": {"seed": 1}}, {"warmup": {"steps": 4}}, {"warmup": {"forget_carry": 0.1}}, {"data": {"digits": 4}},
            {"tags": {"reasoning_start": "<think>"}},
        )
    }
    assert len(folders) == 6


def test_start_is_the_same_wherever_it_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a start that depends on what was drawn before it."""
    folders = []
    for name in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        torch.manual_seed(len(folders))
        folders.append(warmup.warm_start(config()))
    assert files(folders[0]) == files(folders[1])
    assert all((folders[0] / file).read_bytes() == (folders[1] / file).read_bytes() for file in files(folders[0]))


def test_start_is_bit_for_bit_that_of_a_plain_loop() -> None:
    """Prevents: a start that changes with the loop which other warm-ups share, although its cached copies keep their name."""
    settings = config(warmup=SMALL | {"steps": 9})
    attention.register()
    tokenizer = build_tokenizer(settings.tags)
    model = build_model(tokenizer, seed=0)
    model.set_attn_implementation(attention.NAME)
    policy = Policy(model, tokenizer, tags=settings.tags, source="embedded")
    lessons = warmup.teach(settings.warmup, digits=3, difficulty=settings.data.difficulty, tags=settings.tags)
    samples = [sample_of(policy, lesson) for lesson in lessons]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.2e-3, total_steps=9, pct_start=0.1, div_factor=25.0, final_div_factor=20.0
    )
    draw = random.Random(0)
    order = [row for _ in range(3) for row in draw.sample(range(24), 24)]
    model.train()
    for step in range(9):
        batch = [samples[row] for row in order[step * 6 : step * 6 + 6]]
        (micro,) = pack([batch], budget=1 << 30, device=policy.device)
        hidden = policy.hidden(micro.token_ids, micro.positions, micro.plan)
        logprobs, _ = policy.logprobs(hidden[0].index_select(0, micro.where), micro.targets, temperature=1.0)
        (-logprobs.sum() / len(logprobs)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
    made = load_policy(settings.model, settings.tags, source=warmup.warm_start(settings))
    for (name, expected), (_, found) in zip(model.named_parameters(), made.model.named_parameters(), strict=True):
        assert torch.equal(expected, found), name


def test_interrupted_warm_up_leaves_nothing(own_cache: Path) -> None:
    """Prevents: a half-trained start that every later run takes for the real one."""

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warmup.warm_start(config(), on_progress=stop)
    assert files(own_cache) == []
    assert (warmup.warm_start(config()) / "config.json").is_file()


def test_failure_while_saving_leaves_nothing(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle of writing: the weights are there, the tokenizer is not, and nothing counts."""
    save = Policy.save

    def half(self: Policy, folder: Path) -> None:
        save(self, folder)
        (folder / "tokenizer.json").unlink()
        raise OSError("No space left on device")

    monkeypatch.setattr(Policy, "save", half)
    with pytest.raises(OSError, match="No space"):
        warmup.warm_start(config())
    assert files(own_cache) == []


def test_two_processes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finishes the same start first: its folder is taken, ours is dropped, nobody fails."""
    save = Policy.save
    final = cache_folder() / "embedded" / warmup._key(config())

    def late(self: Policy, folder: Path) -> None:
        save(self, folder)
        if not final.exists():
            save(self, final)
            (final / "first").touch()

    monkeypatch.setattr(Policy, "save", late)
    assert (warmup.warm_start(config()) / "first").exists()
    assert [path.name for path in final.parent.iterdir()] == [final.name]


def test_start_loads_and_knows_its_tags() -> None:
    settings = config(tags={"reasoning_start": "<think>", "reasoning_end": "</think>"})
    policy = load_policy(settings.model, settings.tags, source=warmup.warm_start(settings))
    assert policy.encode("<think></think>") == tuple(policy.tokenizer.convert_tokens_to_ids(tag) for tag in ("<think>", "</think>"))


def test_fit_lowers_the_loss() -> None:
    """The supervised loss is the mean over completion tokens, end token included; the prompt is not learnt."""
    settings = config(warmup=SMALL | {"steps": 12, "demonstrations": 6, "learning_rate": 3e-3})
    lessons = warmup.teach(settings.warmup, digits=3, difficulty=settings.data.difficulty, tags=settings.tags)
    seen: list[float] = []
    start = warmup.warm_start(settings)
    policy = load_policy(settings.model, settings.tags, source=start)

    def mean_logprob(candidate: Policy) -> float:
        samples = [[sample_of(candidate, lesson)] for lesson in lessons]
        assert all(sample.token_ids[-1] == candidate.tokenizer.eos_token_id for (sample,) in samples)
        (batch,) = pack(samples, budget=1 << 30, device=candidate.device)
        with torch.no_grad():
            hidden = candidate.hidden(batch.token_ids, batch.positions, batch.plan)
            return float(candidate.logprobs(hidden[0, batch.where], batch.targets, temperature=1.0)[0].mean())

    seen.append(mean_logprob(policy))
    course = Course(steps=12, batch_size=6, learning_rate=3e-3, seed=0)
    samples, _ = samples_of(policy, lessons)
    optimizer = make_optimizer(policy.trainable(), settings.train)
    fit(policy, samples, optimizer, course, lambda done, total: None)
    seen.append(mean_logprob(policy))
    assert seen[1] > seen[0] + 0.1
