"""The words of the house as plain values: no torch, no behaviour beyond what the value itself knows.

A `Prompt` is a row to solve. The engine answers it with `Completion`s, an environment may reply, and the turns make a
`Rollout`. The rollouts of one prompt are a `Group`, the unit of advantage. `Tags` says how a format marks its parts.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
"""A chat message: `{"role": "user", "content": "What is 2 + 2?"}`."""

LEAST_TEMPERATURE = 1e-6
"""Below it, float32 logits that are divided by the temperature could overflow."""


class FinishReason(enum.StrEnum):
    """Why the engine stopped a completion."""

    STOP = "stop"
    """An end token was sampled, or a stop string was written: its last token is the last token of the completion."""
    LENGTH = "length"
    """The token limit was reached first: the completion is truncated."""
    PAUSED = "paused"
    """It was taken out before it ended, to be continued later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """How a completion marks its reasoning and its answer. Example: `<think>2+2=4</think><answer>4</answer>`."""

    reasoning_start: str = "<start_working_out>"
    """Opens the reasoning."""
    reasoning_end: str = "<end_working_out>"
    """Closes the reasoning."""
    solution_start: str = "<SOLUTION>"
    """Opens the answer."""
    solution_end: str = "</SOLUTION>"
    """Closes the answer."""

    def __iter__(self) -> Any:
        """The four tags in the order in which they must appear."""
        return iter((self.reasoning_start, self.reasoning_end, self.solution_start, self.solution_end))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A row to solve."""

    id: str
    """Stable name of the row within its dataset, such as `train.jsonl:17`."""
    messages: tuple[Message, ...]
    """The conversation so far, ending with a user message."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Every column of the row; reward functions ask for them by name. `answer` is the reference, where there is one."""
    plain: bool = False
    """True if the row's prompt was a bare string; batch reward functions then get strings, not message lists."""

    @property
    def answer(self) -> str | None:
        """The reference answer as text, or None."""
        value = self.columns.get("answer")
        return None if value is None else str(value)

    @property
    def question(self) -> str:
        """The last user message."""
        return str(self.messages[-1]["content"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Tokens exactly as the engine sampled them; text is always derived from them, never the other way round."""

    token_ids: tuple[int, ...]
    """Sampled tokens, the end token included when there is one."""
    logprobs: tuple[float, ...]
    """Log-probability of each token under the distribution that was sampled (tempered), in nats."""
    finish_reason: FinishReason
    policy_version: int
    """Number of optimizer steps that the weights had seen which said the first token."""
    entropies: tuple[float, ...] = ()
    """Entropy of the distribution that each token was sampled from, in nats (0 for greedy decoding); empty if the engine has none."""
    versions: tuple[tuple[int, int], ...] = ()
    """`(policy version, tokens)` in order, where an engine counts them: more than one if the completion was continued by newer weights."""

    @property
    def truncated(self) -> bool:
        return self.finish_reason is FinishReason.LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One exchange: what the model was given *in addition to the turns before*, and what it answered."""

    prompt_ids: tuple[int, ...]
    """Tokens that are new in this turn: the whole prompt in the first one, the environment's reply later."""
    completion: Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One attempt at a prompt, scored."""

    prompt: Prompt
    turns: tuple[Turn, ...]
    text: str
    """The last completion as text, without special end tokens. A pre-filled opening tag is not part of it."""
    prefilled: str = ""
    """The opening tag that the prompt already ends with, or an empty string."""
    messages: tuple[Message, ...] = ()
    """The whole conversation, prompt and answers."""
    cut: bool = False
    """The conversation was ended because another answer might not have fitted into the model's context."""
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    """Raw score of each reward function by name; None where it did not apply."""
    reward: float | None = None
    """The rubric's weighted total; None if no reward function applied."""
    error: str | None = None
    """Why a reward function could not score it, where the run goes on without it; None if all could."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """What reward functions recorded of it with `log_extra`."""
    logged: Mapping[str, float] = field(default_factory=dict)
    """What reward functions recorded of its batch with `log_metric`."""
    advantage: float = 0.0
    """Filled in once the whole group is scored."""
    verdict: str | None = None
    """`right`, `wrong` or `unreadable`, whatever it was paid; None where that cannot be known, and until it is asked."""
    extracted: str | None = None
    """What stands between the answer tags; None if there is no answer."""
    follows_format: bool | None = None
    """Whether it is in the asked format; None until that is asked."""

    @property
    def completion_ids(self) -> tuple[int, ...]:
        """All sampled tokens of all turns."""
        return tuple(token for turn in self.turns for token in turn.completion.token_ids)

    @property
    def length(self) -> int:
        """Number of them."""
        return sum(len(turn.completion.token_ids) for turn in self.turns)

    @property
    def truncated(self) -> bool:
        """It ended for want of room, not of its own accord."""
        return self.cut or self.turns[-1].completion.truncated

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended: that of its last answer, or `LENGTH` if there was no room for another one."""
        return FinishReason.LENGTH if self.truncated else self.turns[-1].completion.finish_reason

    def asked(self) -> list[Message]:
        """What the first answer was sampled for: as many messages as the row has, in the environment's words."""
        return list(self.messages[: len(self.prompt.messages)])

    def said(self) -> list[Message]:
        """The answers, and what an environment replied to them."""
        return list(self.messages[len(self.prompt.messages) :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One prompt and its sibling rollouts: the unit of advantage."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]

    @property
    def has_signal(self) -> bool:
        """True if the siblings' advantages differ from zero, so that training on them changes the weights."""
        return any(rollout.advantage != 0.0 for rollout in self.rollouts)
