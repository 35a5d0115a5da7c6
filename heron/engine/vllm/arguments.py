"""From Heron's sampling parameters to vLLM's: the same words for its Python interface and its HTTP interface.

The one hard idea: everything is said, nothing is left to defaults. A server fills what a request leaves out from the checkpoint's
generation config, so neutral values are sent too, and end tokens are the policy's. What vLLM would do otherwise is refused by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from heron.engine.params import SamplingParams
from heron.engine.vllm.answers import Answer
from heron.errors import EngineError
from heron.models.policy import Policy

SAME = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""Parameters that have the same name and meaning on both sides."""
HONOURED = {*SAME, "max_tokens", "pause_after", "stop", "stop_token_ids", "ignore_end"}
COLDEST = 0.01
"""vLLM takes a lower temperature than this for this one, without an error."""


def sampling_arguments(answer: Answer, params: SamplingParams, policy: Policy) -> dict[str, Any]:
    """Keywords of vLLM's `SamplingParams`, which are also fields of an HTTP request, for one answer (or the rest of it)."""
    own_ends = () if params.ignore_end else policy.end_ids
    arguments: dict[str, Any] = {name: getattr(params, name) for name in SAME}
    arguments |= {
        "max_tokens": answer.most, "logprobs": 0,
        "seed": seed_of(answer.seed, answer.num_said), "ignore_eos": True,  # of the checkpoint; the policy knows more of them
        "stop_token_ids": sorted({*own_ends, *params.stop_token_ids}),
    }
    if params.stop:
        arguments |= {"stop": list(params.stop), "skip_special_tokens": False, "include_stop_str_in_output": True}
    return arguments


def seed_of(seed: int, num_said: int) -> int:
    """The seed that vLLM gets. It draws from the seed's beginning each time, so what is continued needs another one."""
    if num_said == 0:
        return seed
    digest = hashlib.blake2b(repr((seed, num_said)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def refuse(params: SamplingParams, answers: Sequence[Answer]) -> None:
    """An EngineError for whatever vLLM would do otherwise than asked."""
    for field in fields(params):
        value, default = getattr(params, field.name), field.default
        if field.name not in HONOURED and default is not MISSING and value != default:
            raise EngineError(f"The vllm engine cannot sample with {field.name} = {value!r}. Leave it out, or use the native engine.")
    if 0 < params.temperature < COLDEST:
        raise EngineError(f"temperature is {params.temperature}, but vLLM knows none between 0 and {COLDEST}. Use 0 (greedy) or at least "
                          f"{COLDEST}.")
    if params.min_p > 0 and params.top_p < 1:
        raise EngineError(f"min_p = {params.min_p} and top_p = {params.top_p} are both set, but vLLM filters by min_p first and Heron by "
                          "top_p first, so the answers would come from another distribution. Set one of them.")
    if params.stop and any(answer.num_said for answer in answers):
        raise EngineError("Stop strings and completions that are to be continued do not go together in vLLM: a string that begins before "
                          "the pause would be missed. Leave out stop, or use the native engine.")
    if any(not 0 <= answer.seed < 2**63 for answer in answers):
        raise EngineError("A request has a seed that vLLM cannot take. Seeds are integers from 0 to 2^63 - 1.")
