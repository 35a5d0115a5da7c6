"""The model that is served: it writes prompts as training did, and reads answers.

The one hard idea: what the server says is what training saw. Prompts are rendered by the policy and sampled by the engine that trained it.
What it leaves out: the run's system prompt; clients send their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heron.engine import NativeEngine
from heron.errors import RunError, TemplateError
from heron.inference import policy_at
from heron.models import Policy
from heron.models.of_run import config_of
from heron.run import Run
from heron.serving.fields import Refusal
from heron.serving.requests import ChatRequest, TextRequest, Wanted
from heron.serving.speech import Splitter, opened_by

MAX_TOKENS = 512
"""Longest answer of a model folder where the request names none; a run uses its own `rollout.max_completion_length`."""
CHARACTERS = 8
"""For each token of the context; of a longer text the beginning is encoded first."""
MARGIN = 16
"""Tokens that a text's beginning may have more than the text: where it was cut, letters may stand alone."""
MAX_CONCURRENT = 64
"""Completions in the making at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prompt that is ready to be sampled from."""

    prompt_ids: tuple[int, ...]
    """Its tokens."""
    opened: str = ""
    """The tag with which it opens the reasoning, if it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One model and its engine."""

    name: str
    """What clients call it."""
    policy: Policy
    """Renders and decodes."""
    engine: NativeEngine
    """Samples, in one thread."""
    max_tokens: int
    """Longest answer where the request names none."""

    def question(self, request: ChatRequest) -> Question:
        """The conversation as its template writes it."""
        try:
            text = self.policy.render_text(request.messages, tools=request.tools)
            ignores_tools = bool(request.tools) and text == self.policy.render_text(request.messages)
        except TemplateError as error:
            raise Refusal(str(error), field="messages") from error
        if ignores_tools:
            raise Refusal("The chat template of this model tells it of no tools. Leave them out, or tell of them in a message.",
                          field="tools", code="unsupported_value")
        self._check_size(text)
        return Question(prompt_ids=self.policy.encode(text), opened=opened_by(text, self.policy.tags))

    def beginnings(self, request: TextRequest) -> list[Question]:
        """Texts and tokens as they are. A tokenizer that begins every text with a special token does so here."""
        return [Question(prompt_ids=self._encoded(prompt) if isinstance(prompt, str) else prompt) for prompt in request.prompts]

    def splitter(self, request: ChatRequest, question: Question) -> Splitter:
        """Tells apart what one answer to it says. What was asked to match a format is the answer, all of it."""
        names = frozenset(tool["function"]["name"] for tool in request.tools)
        is_plain = request.wanted.params.structure is not None
        return Splitter(self.policy.tags, opened=question.opened, tools=names, is_plain=is_plain)

    def longest(self, wanted: Wanted, questions: Sequence[Question]) -> int:
        """Tokens of an answer: as asked for; else the default, or what the context has room for."""
        if wanted.max_tokens is not None:
            return wanted.max_tokens
        limit, longest = self.policy.context_length, max(len(question.prompt_ids) for question in questions)
        return self.max_tokens if limit is None else max(1, min(self.max_tokens, limit - longest))

    def _check_size(self, text: str) -> None:
        """Refuse what is far too long by its beginning. To encode megabytes takes long, and others wait for it."""
        limit = self.policy.context_length
        if limit is None or len(text) <= CHARACTERS * limit:
            return
        begun = len(self.policy.encode(text[: CHARACTERS * limit]))
        if begun > limit + MARGIN:
            raise Refusal(f"A prompt of {len(text)} characters, whose first {CHARACTERS * limit} are {begun} tokens, leaves no room "
                          f"for an answer in the model's context of {limit}. Shorten the prompt.", code="context_length_exceeded")

    def _encoded(self, text: str) -> tuple[int, ...]:
        self._check_size(text)
        tokenizer = self.policy.tokenizer
        begun = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
        return tuple(tokenizer(text, add_special_tokens=not begun)["input_ids"])


def open_model(source: str | Path, *, max_concurrent: int = MAX_CONCURRENT, cache_gib: float | None = None) -> ServedModel:
    """Load a run's trained model, or a model folder (whole, or an adapter whose base its adapter_config.json names)."""
    path = Path(source)
    if not any((path / name).is_file() for name in ("run.json", "adapter_config.json", "config.json")):
        raise RunError(f"{path} is neither a run (run.json) nor a model folder (config.json). Name a folder that `heron train` or "
                       "`heron export` wrote.")
    is_run = (path / "run.json").is_file()
    longest = config_of(Run(path)).rollout.max_completion_length if is_run else MAX_TOKENS
    policy = policy_at(path, str(path), {})
    engine = NativeEngine(policy, max_concurrent=max_concurrent, cache_bytes=None if cache_gib is None else int(cache_gib * 2**30))
    return ServedModel(name=path.resolve().name, policy=policy, engine=engine, max_tokens=longest)
