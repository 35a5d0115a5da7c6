"""Talking to a run's model: one question, one answer, with the run's own template, system prompt and tags."""

from __future__ import annotations

from dataclasses import dataclass

from heron.config import load_config
from heron.data.rows import fill_tags
from heron.engine import NativeEngine, Request, SamplingParams
from heron.models.of_run import policy_of_run
from heron.models.policy import Policy
from heron.run import Run
from heron.types import Message


@dataclass(slots=True, kw_only=True)
class Conversation:
    """A loaded model that answers questions one by one; every question stands alone, as in training."""

    policy: Policy
    """Answers."""
    opening: tuple[Message, ...]
    """The system message, if the run had one."""
    params: SamplingParams
    """How to draw."""
    asked: int = 0
    """Questions so far; seeds the next answer."""

    @classmethod
    def of_run(cls, run: Run, *, start: bool = False, temperature: float = 0.0, max_tokens: int | None = None) -> Conversation:
        """Load the run's trained model, or the one it started from."""
        config = load_config(run.path / "config.toml")
        system = config.data.system_prompt
        opening = () if system is None else ({"role": "system", "content": fill_tags(system, config.tags)},)
        params = SamplingParams(max_tokens=max_tokens or config.rollout.max_completion_length, temperature=temperature)
        return cls(policy=policy_of_run(run, start=start), opening=opening, params=params)

    def ask(self, question: str) -> str:
        """The answer as text, a pre-filled opening tag included."""
        messages = [*self.opening, {"role": "user", "content": question}]
        text = self.policy.render_text(messages)
        request = Request(prompt_ids=self.policy.encode(text), seeds=(self.asked,))
        self.asked += 1
        ((completion,),) = NativeEngine(self.policy).generate([request], self.params)
        return self.policy.prefilled(text) + self.policy.decode(completion.token_ids)
