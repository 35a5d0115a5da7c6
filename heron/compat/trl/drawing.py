"""`vllm_sampling_params`, which Unsloth's notebooks give to `GRPOConfig`: what of it holds while training, and what is said of the rest.

The hard idea: the loss is computed of the distribution that answers are drawn from, so a trainer draws from the model's own, tempered.
A filter in these params is therefore not applied, and a warning says so; what would end answers elsewhere is an error, once the tokenizer
is known.
"""

from __future__ import annotations

from typing import Any

from heron.compat.notes import Kind, Note, Options, note
from heron.compat.unsloth.sampling import SamplingParams
from heron.errors import ConfigError

FIELD = "vllm_sampling_params"
BY_CONFIG = {"temperature": "temperature", "max_tokens": "max_completion_length", "n": "num_generations"}
"""What `GRPOConfig` says itself, and its name there."""


def drawn(params: Any, options: Options) -> Note:
    """What becomes of the params, beside all options."""
    if params is None:
        return note(FIELD, params, Kind.SAME, "Not set.")
    if not isinstance(params, SamplingParams):
        text = "Import SamplingParams from heron.compat.unsloth, and say in GRPOConfig how to draw: temperature, max_completion_length."
        return note(FIELD, params, Kind.UNSUPPORTED, text)
    idle = {name: value for name, value in params.idle_in_training.items() if value != options.get(BY_CONFIG.get(name, ""))}
    if not idle:
        return note(FIELD, params, Kind.SAME, "As GRPOConfig says itself.")
    said = ", ".join(f"{name}={value!r}" for name, value in idle.items())
    text = (f"Not applied while training: {said}. Answers are drawn from the model's own distribution, which is the one in the loss, with "
            "the temperature, max_completion_length and num_generations of GRPOConfig. fast_generate applies all of it.")
    return note(FIELD, params, Kind.DIFFERS, text)


def check_endings(params: Any, tokenizer: Any, end_ids: frozenset[int]) -> None:
    """An answer ends at the model's own end tokens, so these params may name no others."""
    if params is None:
        return
    others = [stop for stop in params.stops if tokenizer.convert_tokens_to_ids(stop) not in end_ids]
    others += [token for token in params.stop_token_ids or () if token not in end_ids]
    if others:
        ends = ", ".join(repr(tokenizer.convert_ids_to_tokens(token)) for token in sorted(end_ids))
        raise ConfigError(f"GRPOConfig({FIELD}=...) ends answers at {others!r}, which is not done while training: they end at the model's "
                          f"end tokens ({ends}) alone. Leave it out, and let a reward look at what stands before it.")
