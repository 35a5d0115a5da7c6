"""The judge that a config names: a server, a model folder, or the start of the run.

The hard idea: the start of a run is in memory already, beneath the adapter that is trained (or as the reference of a KL).
So it can judge what has become of it, without a second model, and it does not drift with the policy. It samples greedily, in the trainer's
thread, between sampling and training. What an answer depends on is in the judge's name, by content: a base with another adapter, or
quantised otherwise, is another judge.

Left out: a place for a judge's own weights in the memory plan (`heron plan` says so of a folder that judges). Not run on a GPU yet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heron.config import Config
from heron.config.judge import START, JudgeConfig
from heron.config.model import ModelConfig
from heron.engine import NativeEngine, Request, SamplingParams
from heron.engine.structure import Structure
from heron.errors import RewardError, RewardStop, TemplateError
from heron.models import Policy, load_policy
from heron.models.adapters import REFERENCE, TRAINED, as_at_start
from heron.models.identity import identity
from heron.models.locating import locate
from heron.rewards import Rubric
from heron.rewards.judge import HttpJudge, Judge
from heron.rewards.judge.client import check_url, read_key
from heron.rewards.judge.scoring import answers_cache
from heron.rewards.judge.seat import appoint, seats
from heron.training.start import begin
from heron.types import Message, Tags

Opened = Callable[[], Policy]


def appoint_judge(rubric: Rubric, config: Config, *, start: Opened | None = None) -> None:
    """Who `config.judge` names sits in judgement wherever a function of the rubric asks; nothing to do where none does.

    `start` loads the weights that `judge.name = "start"` means, where no trainer lends its own (`lend_start`).
    """
    functions = [function.function for function in rubric.functions]
    vacant = [seat for seat in seats(functions) if seat.is_empty]
    if vacant and config.judge.name is None:
        _ = vacant[0].judge  # says what to do
    if vacant:
        appoint(functions, judge_of(config.judge, start=start), max_failures=config.judge.max_failures)


def lend_start(rubric: Rubric, policy: Policy) -> None:
    """The trainer's own policy to a judge that is the start of the run."""
    for seat in seats(function.function for function in rubric.functions):
        if not seat.is_empty and isinstance(seat.judge, ModelJudge) and seat.judge.model == START:
            seat.judge.borrow(policy)


def start_of(config: Config) -> Policy:
    """What a run of this config begins with, where there is no run: to judge alone."""
    if config.warmup.dataset is not None:
        raise RewardStop("judge.name = 'start' judges with the weights that a run begins with, and those of this recipe are made by a "
                         "warm-up. `heron warmup` makes them and prints the settings that begin from there: give them here.")
    source = begin(config, Path(), (), measured=()).source
    return load_policy(config.model, config.tags, source=source, without_adapter=config.model.adapter is None, reference=False)


def judge_of(config: JudgeConfig, *, start: Opened | None = None) -> Judge:
    """The judge of a config's section, which names one."""
    assert config.name is not None, "asked for where there is one"
    cache = answers_cache(config.cache)
    if config.url is not None:
        check_url(config.url)
        return HttpJudge(
            url=config.url, model=config.name, cache=cache, key=read_key(config.key_file), max_concurrent=config.max_concurrent,
            max_rpm=config.max_rpm, max_spend_tokens=config.max_spend_tokens, timeout=config.timeout, patience=config.patience,
            max_answer_tokens=config.max_answer_tokens, structured=config.structured,
        )
    if config.name == START:
        return ModelJudge(config, start)
    locate(config.name)
    bare = ModelConfig(name=config.name, method="lora")  # nothing is trained, so weights of 4 bits are welcome
    return ModelJudge(config, lambda: load_policy(bare, Tags(), without_adapter=True))


class ModelJudge:
    """A policy of this process as a judge; loaded when it is first asked."""

    def __init__(self, config: JudgeConfig, load: Opened | None) -> None:
        assert config.name is not None, "asked for where there is one"
        self.model = config.name
        self.cache, self.max_concurrent = answers_cache(config.cache), config.max_concurrent
        self.budget_used = None  # it costs nothing but time
        self._config = config
        self._load = load
        self._policy: Policy | None = None
        self._is_borrowed = False
        self._name: str | None = None
        self._lock = threading.Lock()

    def borrow(self, policy: Policy) -> None:
        """Judge with the start of this policy, which goes on to be trained."""
        self._policy, self._is_borrowed, self._name = policy, True, None

    @property
    def name(self) -> str:
        """The weights that judge and what they are asked through: where they lie, and a hash of what they are."""
        if self._name is None:
            self._name = identity(self._opened(), adapter=self._adapter())
        return self._name

    def ask(self, conversations: Sequence[Sequence[Message]], schema: Mapping[str, Any]) -> Iterator[tuple[int, str | RewardError]]:
        """Answers, all at once."""
        with self._lock, self._as_judge() as policy:
            most = self._config.max_answer_tokens
            asked = {number: _prompt(policy, messages, most) for number, messages in enumerate(conversations)}
            prompts = {number: ids for number, ids in asked.items() if not isinstance(ids, RewardError)}
            params = SamplingParams(
                max_tokens=most, temperature=0.0, structure=Structure.of_schema(schema) if self._config.structured else None,
            )
            engine = NativeEngine(policy, max_concurrent=self.max_concurrent)
            said = engine.generate([Request(prompt_ids=ids, seeds=(0,)) for ids in prompts.values()], params) if prompts else []
            answers = dict(zip(prompts, (policy.decode(siblings[0].token_ids) for siblings in said), strict=True))
        for number, refused in asked.items():
            yield number, refused if isinstance(refused, RewardError) else answers[number]

    def _opened(self) -> Policy:
        if self._policy is None:
            assert self._load is not None, "a trainer lends its own before it asks"
            self._policy = self._load()
            self._policy.model.eval()
        return self._policy

    def _adapter(self) -> str | None:
        """The name of the adapter that judges."""
        policy = self._opened()
        if not policy.is_lora:
            return None
        if not self._is_borrowed:
            return TRAINED
        return REFERENCE if REFERENCE in policy.model.peft_config else None

    @contextmanager
    def _as_judge(self) -> Iterator[Policy]:
        """The weights that judge, for a while: those of the policy, or of a borrowed one its start."""
        policy = self._opened()
        if not self._is_borrowed or policy.reference is not None:
            yield policy.reference or policy
            return
        with as_at_start(policy.model):
            yield policy


def _prompt(policy: Policy, messages: Sequence[Message], most: int) -> tuple[int, ...] | RewardError:
    """The conversation's tokens, or why the model cannot be asked."""
    half = next((each for message in messages for each in str(message["content"]) if "\ud800" <= each <= "\udfff"), None)
    if half is not None:
        return RewardError(f"the conversation holds half a character ({half!r}, a lone surrogate), which no tokenizer knows: mend the row")
    try:
        ids = policy.render(messages)
    except TemplateError as error:
        raise RewardStop(f"The judge's chat template cannot show it a conversation: {error}") from error
    if policy.context_length is not None and len(ids) + most > policy.context_length:
        return RewardError(f"the conversation of {len(ids)} tokens, with {most} for an answer, exceeds the judge's context of "
                           f"{policy.context_length}: lower most_characters or judge.max_answer_tokens")
    return ids
