"""vLLM's `SamplingParams`, by its names and defaults, for `fast_generate`; no vLLM is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, fields
from typing import Any

from heron.errors import ConfigError

ENDINGS = ("stop", "stop_token_ids", "include_stop_str_in_output")
"""What ends an answer."""
SHOWN = "tokenizer.decode(answer.outputs[0].token_ids) shows an answer as you like it."
STRUCTURE = "heron.load(FOLDER) answers with heron.engine.SamplingParams(structure=...), a regex or a JSON schema."
LACKING: Mapping[str, str] = {
    "logprobs": "Leave it out: answer.outputs[0].logprobs has those of the answer's own tokens. Those of others are not kept.",
    "prompt_logprobs": "Leave it out: log-probs of a prompt are not computed.",
    "flat_logprobs": "Leave it out: answer.outputs[0].logprobs has one number a token.",
    "min_tokens": "An answer ends where the model ends it. ignore_eos=True with max_tokens makes all of one length.",
    "skip_special_tokens": SHOWN, "spaces_between_special_tokens": SHOWN, "detokenize": SHOWN,
    "logit_bias": "Leave it out: logits are changed by temperature, top_k, top_p, min_p and repetition_penalty alone.",
    "bad_words": "No word is forbidden. An answer can be ended there: stop=[...].",
    "allowed_token_ids": STRUCTURE, "structured_outputs": STRUCTURE, "guided_decoding": STRUCTURE,
    "truncate_prompt_tokens": "No prompt is cut. Cut the text yourself.", "best_of": "Give n, and choose among the answers yourself.",
    "logits_processors": "Leave it out: logits are changed by temperature, top_k, top_p, min_p and repetition_penalty alone.",
}
"""What vLLM has and is not here, and what to do; in the order of the fields."""
OFF: Mapping[str, tuple[Any, ...]] = {"top_k": (-1, 0)}
"""Values that set nothing, where there are others than the default."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SamplingParams:
    """How to draw. An unknown name is a TypeError; what vLLM has and is not here is a ConfigError, unless it is off."""

    n: int = 1
    """Answers to each prompt."""
    temperature: float = 1.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    top_k: int = -1
    """-1 or 0: all tokens."""
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 16
    """vLLM's own default."""
    stop: str | Sequence[str] | None = None
    include_stop_str_in_output: bool = False
    stop_token_ids: Sequence[int] | None = None
    ignore_eos: bool = False
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: InitVar[int | None] = None
    prompt_logprobs: InitVar[int | None] = None
    flat_logprobs: InitVar[bool] = False
    min_tokens: InitVar[int] = 0
    skip_special_tokens: InitVar[bool] = True
    spaces_between_special_tokens: InitVar[bool] = True
    detokenize: InitVar[bool] = True
    logit_bias: InitVar[Mapping[int, float] | None] = None
    bad_words: InitVar[Sequence[str] | None] = None
    allowed_token_ids: InitVar[Sequence[int] | None] = None
    structured_outputs: InitVar[Any] = None
    guided_decoding: InitVar[Any] = None
    truncate_prompt_tokens: InitVar[int | None] = None
    best_of: InitVar[int | None] = None
    logits_processors: InitVar[Sequence[Any] | None] = None

    def __post_init__(self, *lacking: Any) -> None:
        for name in ("presence_penalty", "frequency_penalty"):
            if getattr(self, name):
                raise ConfigError(f"SamplingParams({name}={getattr(self, name)}) cannot be honoured: there is repetition_penalty.")
        for (name, advice), value in zip(LACKING.items(), lacking, strict=True):
            if value != getattr(type(self), name):
                raise ConfigError(f"SamplingParams({name}={value!r}) cannot be honoured. {advice}")

    def __repr__(self) -> str:
        return f"SamplingParams({', '.join(f'{name}={value!r}' for name, value in self._set().items())})"

    def _set(self) -> dict[str, Any]:
        """What is not off."""
        values = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        return {name: value for name, (value, default) in values.items() if value not in OFF.get(name, (default,))}

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def idle_in_training(self) -> dict[str, Any]:
        """What was set and a trainer does not draw by: filters, which the loss would not see, and what `GRPOConfig` says itself."""
        return {name: value for name, value in self._set().items() if name not in (*ENDINGS, "seed")}

    def cut(self, text: str) -> str:
        """The text without what stopped it."""
        if self.include_stop_str_in_output:
            return text
        ends = [text.find(stop) for stop in self.stops if stop in text]
        return text[: min(ends)] if ends else text
