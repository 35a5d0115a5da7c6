"""The prompts of a run against what they will meet: the verifier, the environment, the tokenizer, the model's context.

The hard idea: whatever a row could do wrong in the middle of a run, it does here, before anything is spent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from heron import data
from heron.config import Config
from heron.environments import Environment, make_environment
from heron.errors import ConfigError, DataError, ModelError
from heron.models import Policy
from heron.rewards import check_reference, resolve_verifier
from heron.types import Prompt


def environment_of(config: Config) -> Environment:
    """What answers the model's turns."""
    return make_environment(config.environment, config.tags, verifier=resolve_verifier(config.evaluation.verifier))


def check_rows(config: Config, dataset: data.Dataset, environment: Environment) -> None:
    """The environment can start from every row; where it does not judge by itself, the evaluation's verifier reads every reference."""
    for prompt in (*dataset.train, *dataset.heldout):
        environment.start(prompt)
    verifier = resolve_verifier(config.evaluation.verifier)
    for prompt in dataset.heldout:
        if prompt.answer is None or not environment.uses_verifier:
            continue
        try:
            check_reference(verifier, prompt)
        except DataError as error:
            raise DataError(f"{error} The held-out problems are judged by evaluation.verifier={config.evaluation.verifier!r}: choose "
                            f"another one, such as {prompt.columns.get('verifier', 'exact')}, or evaluation.size=0 for none.") from error


def give_tools(policy: Policy, tools: tuple[Mapping[str, Any], ...]) -> None:
    """Let the chat template write the tools into every prompt. An error if it knows none."""
    if not tools:
        return
    asked = ({"role": "user", "content": "?"},)
    policy.tools = ()  # it may have been told of them before
    without = policy.render_text(asked)
    policy.tools = tools
    if policy.render_text(asked) == without:
        raise ConfigError(f"The chat template of {policy.source} does not tell a model of tools. Choose a model whose template does; or "
                          "write it into the template yourself (processing_class.chat_template in a script), or, in a recipe, set "
                          "environment.tool_format = \"plain\", which tells it in the prompt's text.")


def without_longest(
    dataset: data.Dataset, policy: Policy, environment: Environment, quantile: float
) -> tuple[data.Dataset, str | None]:
    """The dataset without the training prompts that are longer than this quantile of them, and what to say of it."""
    if quantile == 1:
        return dataset, None
    lengths = [len(policy.render(environment.start(prompt))) for prompt in dataset.train]
    place = max(1, math.ceil(round(quantile * len(lengths), 6)))  # the shortest stays, however small the quantile
    most = sorted(lengths)[place - 1]
    kept = tuple(prompt for prompt, length in zip(dataset.train, lengths, strict=True) if length <= most)
    if len(kept) == len(lengths):
        return dataset, (f"None of {len(lengths)} training prompts is left out: none has more than {most} tokens, the "
                         f"{quantile:g} quantile (data.prompt_quantile).")
    sentence = (f"{len(lengths) - len(kept)} of {len(lengths)} training prompts are left out: they have more than {most} tokens, the "
                f"{quantile:g} quantile (data.prompt_quantile). The longest has {max(lengths)}.")
    return dataclasses.replace(dataset, train=kept), sentence


def longest_prompt(prompts: Sequence[Prompt], policy: Policy, environment: Environment, max_completion_length: int) -> int:
    """Tokens of the longest prompt. Every prompt and a whole completion must fit into the context."""
    measured = ((len(_tokens(prompt, policy, environment)), prompt) for prompt in prompts)
    longest, prompt = max(measured, key=lambda pair: pair[0])
    if policy.context_length is not None and longest + max_completion_length > policy.context_length:
        raise DataError(
            f"The prompt {prompt.id} has {longest} tokens; with rollout.max_completion_length={max_completion_length} it exceeds the "
            f"model's context of {policy.context_length}. Shorten or remove the row, or lower rollout.max_completion_length."
        )
    return longest


def fingerprint(dataset: data.Dataset) -> str:
    """Changes with any row's id, conversation or columns, and with their order."""
    digest = hashlib.sha256()
    for prompt in (*dataset.train, *dataset.heldout):
        digest.update(repr((prompt.id, prompt.messages, sorted(prompt.columns.items(), key=lambda item: item[0]))).encode())
    return digest.hexdigest()[:16]


def _tokens(prompt: Prompt, policy: Policy, environment: Environment) -> tuple[int, ...]:
    """The prompt's tokens; the model must know them all."""
    ids = policy.render(environment.start(prompt))
    if max(ids) >= policy.vocabulary_size:
        raise ModelError(f"The prompt {prompt.id} holds the token {max(ids)}, but the vocabulary of {policy.source} has "
                         f"{policy.vocabulary_size} entries. Its tokenizer belongs to another model, or has tokens that were added without "
                         "resizing the embedding.")
    return ids
