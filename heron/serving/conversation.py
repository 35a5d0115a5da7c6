"""Talking to a run's model without a server, with the run's own template, system prompt and tags.

The one hard idea: `ask` is training's question, which stands alone; `say` is a turn of a conversation, said token by token. All turns go
through one open session, which finds the conversation's beginning in its cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from heron.data.rows import fill_tags
from heron.engine import NativeEngine, Request, SamplingParams
from heron.engine.native.open import OpenSession
from heron.models.of_run import config_of, policy_of_run
from heron.models.policy import Policy
from heron.run import Run
from heron.serving.speech import Piece, Speech, Splitter, opened_by
from heron.types import Message


@dataclass(slots=True, kw_only=True)
class Conversation:
    """A loaded model that answers."""

    policy: Policy
    """Answers."""
    opening: tuple[Message, ...]
    """The system message, if the run had one."""
    params: SamplingParams
    """How to draw."""
    asked: int = 0
    """Questions so far; seeds the next answer."""
    turns: list[Message] = field(default_factory=list)
    """Of the conversation, since it began anew."""
    thought: str = ""
    """What was thought before the last answer of the conversation."""
    thought_tokens: int = 0
    """How many tokens that took."""
    _session: OpenSession | None = None

    @classmethod
    def of_run(cls, run: Run, *, start: bool = False, temperature: float = 0.0, max_tokens: int | None = None) -> Conversation:
        """Load the run's trained model, or the one it started from."""
        config = config_of(run)
        system = config.data.system_prompt
        opening = () if system is None else ({"role": "system", "content": fill_tags(system, config.tags)},)
        params = SamplingParams(max_tokens=max_tokens or config.rollout.max_completion_length, temperature=temperature)
        return cls(policy=policy_of_run(run, start=start), opening=opening, params=params)

    def ask(self, question: str) -> str:
        """The answer to a question that stands alone, as in training; a pre-filled opening tag is part of it."""
        messages = [*self.opening, {"role": "user", "content": question}]
        text = self.policy.render_text(messages)
        ((completion,),) = NativeEngine(self.policy).generate([self._request(text)], self.params)
        return self.policy.prefilled(text) + self.policy.decode(completion.token_ids)

    def say(self, question: str) -> Iterator[Piece]:
        """The answer to the conversation's next question, as it is said. If nobody wants the rest, what was said is the answer."""
        messages = [*self.opening, *self.turns, {"role": "user", "content": question}]
        text = self.policy.render_text(messages)
        opened = opened_by(text, self.policy.tags)
        splitter = Splitter(self.policy.tags, opened=opened)
        speech = Speech(self.policy, self.params.stop, splitter)
        self._session = session = self._session or NativeEngine(self.policy, max_concurrent=1).open()
        request = self._request(text)
        (said,) = session.add(request, replace(self.params, max_tokens=self._room(len(request.prompt_ids))))
        self.thought, self.thought_tokens = "", 0
        try:
            while not speech.has_ended:
                self.thought_tokens += splitter.is_thinking
                session.step()
                for piece in speech.read(said):
                    self.thought += piece.text if piece.is_reasoning else ""
                    yield piece
        except (KeyboardInterrupt, Exception):  # boundary: perhaps amid a step, after which a session may be in any state
            self._session = None
            raise
        finally:
            session.drop([said] if self._session is session else [])
            answer = opened + self.policy.decode(said.token_ids)
            self.turns += [messages[-1], {"role": "assistant", "content": answer}]

    def reset(self) -> None:
        """Begin the conversation anew."""
        self.turns.clear()

    def _room(self, prompt_tokens: int) -> int:
        """Tokens of an answer: all that were asked for, or what the context has left of them."""
        limit = self.policy.context_length
        return self.params.max_tokens if limit is None else max(1, min(self.params.max_tokens, limit - prompt_tokens))

    def _request(self, text: str) -> Request:
        self.asked += 1
        return Request(prompt_ids=self.policy.encode(text), seeds=(self.asked - 1,))
