"""A judge's verdicts as a reward function in batch form.

The hard idea: a failure is neither 0 nor None. None would let the other functions decide alone, so a reply at which the judge failed would
escape a deduction; 0 would be trained on. A RewardError in place of the score leaves that reply out of its group, and it is counted. When
more than `max_failures` of the last replies failed, the run stops: what is left is no longer the data that was meant.

A reply with nothing to judge (no answer between its tags) gets the lowest total, without asking.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heron.errors import ConfigError, RewardError, RewardStop
from heron.folders import cache_folder
from heron.rewards.answers import said
from heron.rewards.judge.asking import ask_all
from heron.rewards.judge.cache import Cache
from heron.rewards.judge.client import HttpJudge, check_url, read_key
from heron.rewards.judge.criteria import Criterion, Sheet
from heron.rewards.judge.prompt import conversation, transcript
from heron.rewards.judge.seat import Seat
from heron.types import Tags

WINDOW, FEW = 200, 2
"""Replies over which failures are counted; so many failures are never too many."""


def judge_reward(
    ask: str, *, url: str, model: str, deduct: float = 0.0, award: float = 0.0, name: str = "judge", reference: bool = False,
    key_file: str | None = None, cache: bool = True, **limits: Any,
) -> JudgeReward:
    """A reward function that asks a server for one claim: `judge_reward("It sounds like a robot.", deduct=3, url=..., model=...)`.

    Args:
        ask: a claim about the reply.
        url, model: whom to ask; an OpenAI-compatible address that ends in `/v1`.
        deduct, award: points taken or given if the claim holds; exactly one of them.
        name: under which it is logged.
        reference: show the judge the row's answer.
        key_file: a file with the server's key.
        cache: keep answers in the user's cache folder.
        limits: `max_concurrent`, `max_rpm`, `max_spend_tokens`, `timeout`, ... of `HttpJudge`.
    """
    check_url(url)
    judge = HttpJudge(url=url, model=model, cache=answers_cache(cache), key=read_key(key_file), **limits)
    return JudgeReward(one_criterion(ask, deduct=deduct, award=award, name=name, reference=reference), Seat(judge))


def claim(ask: str, deduct: float = 0.0, award: float = 0.0, name: str = "judge", reference: bool = False) -> JudgeReward:
    """As `judge_reward`, of the judge that the config names: `judge.claim(ask="The answer sounds like a robot.", deduct=3)`."""
    return JudgeReward(one_criterion(ask, deduct=deduct, award=award, name=name, reference=reference), Seat())


def one_criterion(ask: str, *, deduct: float = 0.0, award: float = 0.0, name: str = "judge", reference: bool = False) -> Sheet:
    """A sheet that takes or gives points if a claim holds."""
    if (deduct > 0) == (award > 0) or min(deduct, award) < 0:
        raise ConfigError(f"Give either deduct or award, points above 0, but they are {deduct!r} and {award!r}.")
    return Sheet(name=name, criteria=(Criterion(name="claim", ask=ask, points=award - deduct),), reference=reference)


def answers_cache(on: bool = True) -> Cache:
    """In the user's cache folder, or none."""
    return Cache(cache_folder() / "judge" if on else None)


class JudgeReward:
    """Scores replies by a sheet; on the seat sits who is asked."""

    def __init__(self, sheet: Sheet, seat: Seat) -> None:
        self.__name__ = sheet.name
        self.sheet, self.heron_seat = sheet, seat
        self.heron_check = _has_reference if sheet.reference else None
        self._failures = Failures()

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], tags: Tags, prefilled: Sequence[str],
        log_metric: Callable[[str, float], None] | None = None, **columns: Sequence[Any],
    ) -> list[Any]:
        """A total for each completion, or the RewardError that says why there is none."""
        replies = [self._reply(completion, tags, opening) for completion, opening in zip(completions, prefilled, strict=True)]
        references: Sequence[Any] = columns["answer"] if self.sheet.reference else [None] * len(replies)
        shown = [row for row, reply in enumerate(replies) if reply]
        asked = ask_all(self.heron_seat.judge, [self._conversation(prompts[row], replies[row], references[row]) for row in shown],
                        self.sheet.schema(), self.sheet.read)
        totals: list[Any] = [self.sheet.lowest] * len(replies)
        for row, answer in zip(shown, asked.answers, strict=True):
            totals[row] = answer if isinstance(answer, RewardError) else self.sheet.total(answer)
        if log_metric is not None:
            log_metric(f"{self.__name__}_cached", asked.cached)
            log_metric(f"{self.__name__}_failed", sum(isinstance(total, RewardError) for total in totals))
            used = self.heron_seat.judge.budget_used
            if used is not None:
                log_metric(f"{self.__name__}_budget_used", used)
        self._failures.add(totals, self.heron_seat.max_failures)
        return totals

    def _reply(self, completion: Any, tags: Tags, opening: str) -> str:
        text = completion if isinstance(completion, str) else str(completion[-1]["content"])
        return (opening + text).strip() if self.sheet.show_reasoning else said(text, tags, opening).strip()

    def _conversation(self, prompt: Any, reply: str, reference: Any) -> list[dict[str, Any]]:
        question = prompt if isinstance(prompt, str) else transcript(prompt)
        return conversation(self.sheet, question, reply, None if reference is None else str(reference))


class Failures:
    """Counts failures among the last replies, and stops the run when they are too many."""

    def __init__(self) -> None:
        self._recent: deque[bool] = deque(maxlen=WINDOW)

    def add(self, outcomes: Sequence[Any], most: float) -> None:
        """Of one batch. Raises RewardStop if failures are more than this share."""
        self._recent.extend(isinstance(outcome, RewardError) for outcome in outcomes)
        failed = sum(self._recent)
        if failed > FEW and failed > most * len(self._recent):
            last = next((outcome for outcome in reversed(outcomes) if isinstance(outcome, RewardError)), None)
            raise RewardStop(f"the judge failed at {failed} of the last {len(self._recent)} replies, and judge.max_failures is "
                             f"{most:g}; at last: {last or 'see the warnings above'}. Mend it and resume the run")


def _has_reference(columns: Mapping[str, Any]) -> None:
    if columns.get("answer") is None:
        raise RewardError("The judge is to be shown the row's answer, and the row has none. Set reference = false, or give it one.")
