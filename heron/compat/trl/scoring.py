"""TRL's reward functions and reward models as reward functions of Heron's.

The one hard idea: TRL gives every function everything (prompts, completions, their ids, all columns, `trainer_state`, `log_extra`,
`log_metric`, `environments`), and Heron gives what is asked for. So each function gets a wrapper that asks for the number of the row, and
is handed the row's own values, JSON or not. A function that takes fewer arguments is given only those, where TRL would raise a TypeError.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heron.errors import ConfigError
from heron.rewards.calling import name_of

if TYPE_CHECKING:
    from heron.compat.trl.episodes import Episodes

Pair = tuple[Callable[..., Any], float]
ITSELF = ("prompt", "completion", "completion_ids")
"""Columns that TRL does not hand to reward functions."""
TRUTHS = ("bool", "bool_")
"""Types of truth values, Python's and NumPy's."""


def reward_pairs(
    functions: Any, weights: Sequence[float] | None, tokenizers: Any, *, rows: Sequence[Mapping[str, Any]], state: Any,
    arguments: Mapping[str, Any], device: str, episodes: Episodes | None = None,
) -> list[Pair]:
    """The functions that TRL's `reward_funcs` means, with their weights; and those of environments that score themselves.

    Args:
        functions: a function, a reward model (a module, a folder or a hub id), or a list of them.
        weights: one for each, or None.
        tokenizers: `reward_processing_classes`.
        rows: of the dataset, by number.
        state: what functions get as `trainer_state`.
        arguments: for `from_pretrained` of a reward model.
        device: of reward models that are loaded here.
        episodes: environments of rollouts, where there are any.
    """
    listed = [] if functions is None else list(functions) if isinstance(functions, list | tuple) else [functions]
    if weights is not None and len(weights) != len(listed):
        raise ConfigError(f"There are {len(weights)} reward_weights for {len(listed)} reward_funcs. Give one each.")
    beside = _tokenizers(tokenizers, len(listed))
    made = [
        scored(_function(each, beside[number], arguments, device), rows=rows, state=state, episodes=episodes)
        for number, each in enumerate(listed)
    ]
    if episodes is not None:
        made += episodes.own_rewards()
    if not made:
        raise ConfigError("Nothing is rewarded. Give reward_funcs, or an environment_factory whose environment has get_reward().")
    return list(zip(made, [*(weights or [1.0] * len(listed)), *[1.0] * (len(made) - len(listed))], strict=True))


def scored(
    function: Callable[..., Any], *, rows: Sequence[Mapping[str, Any]], state: Any, episodes: Episodes | None
) -> Callable[..., Any]:
    """The function as Heron calls it: once for a batch, with what TRL would give it."""
    named, takes_all = _parameters(function)

    def called(
        prompts: list[Any], completions: list[Any], completion_ids: list[Any], trl_row: list[int], log_extra: Any, log_metric: Any
    ) -> Any:
        of_rows = [rows[number] for number in trl_row]
        columns = dict.fromkeys(name for row in of_rows for name in row if name not in ITSELF)
        given = {
            **{name: [row.get(name) for row in of_rows] for name in columns},
            "prompts": prompts, "completions": completions, "completion_ids": completion_ids, "trainer_state": state,
            "log_extra": log_extra, "log_metric": log_metric,
        }
        if episodes is not None and (environments := episodes.of_batch(trl_row, completions)) is not None:
            given["environments"] = environments
        return _numbers(function(**{name: value for name, value in given.items() if takes_all or name in named}))

    called.__name__ = name_of(function)
    return called


def _numbers(scores: Any) -> Any:
    """As TRL takes them: a truth value is 1 or 0, a generator a list, a coroutine what it gives once it is awaited."""
    if inspect.isawaitable(scores):
        return _numbers_later(scores)
    if not isinstance(scores, list | tuple | Iterator):
        return scores
    return [float(each) if type(each).__name__ in TRUTHS else each for each in scores]


async def _numbers_later(scores: Awaitable[Any]) -> Any:
    return _numbers(await scores)


def _parameters(function: Callable[..., Any]) -> tuple[set[str], bool]:
    """Names of the parameters, and whether it takes any besides."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{function!r} is no reward: give a function, a reward model, its folder or its hub id.") from error
    return {each.name for each in parameters}, any(each.kind is each.VAR_KEYWORD for each in parameters)


def _tokenizers(given: Any, count: int) -> list[Any]:
    listed = [None] * count if given is None else list(given) if isinstance(given, list | tuple) else [given]
    if len(listed) != count:
        raise ConfigError(f"There are {len(listed)} reward_processing_classes for {count} reward_funcs. Give one each, None for a "
                          "function.")
    return listed


def _function(given: Any, tokenizer: Any, arguments: Mapping[str, Any], device: str) -> Callable[..., Any]:
    """A reward function; of a reward model that which asks it."""
    import torch

    if isinstance(given, str | Path):
        from transformers import AutoModelForSequenceClassification

        known = {name: value for name, value in arguments.items() if name != "quantization_config"}
        given = AutoModelForSequenceClassification.from_pretrained(str(given), num_labels=1, **known).to(device)
    return _asked(given, tokenizer) if isinstance(given, torch.nn.Module) else given


def _asked(model: Any, tokenizer: Any) -> Callable[..., Any]:
    """What asks a sequence classifier: the first logit of each prompt with its completion."""
    import torch

    reader = _reader(model, tokenizer)
    model.config.pad_token_id = reader.pad_token_id  # the last token that is none of these is where its score is read
    model.eval()

    def ask(prompts: list[Any], completions: list[Any]) -> list[float]:
        texts = [_text(prompt, completion, reader) for prompt, completion in zip(prompts, completions, strict=True)]
        read = reader(text=texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
        with torch.inference_mode():
            scores: list[float] = model(**read.to(model.device)).logits[:, 0].float().tolist()
        return scores

    ask.__name__ = str(model.config._name_or_path).rstrip("/").split("/")[-1] or type(model).__name__
    return ask


def _reader(model: Any, tokenizer: Any) -> Any:
    """The reward model's tokenizer, which must be able to pad."""
    from transformers import AutoTokenizer

    if tokenizer is None and not model.config._name_or_path:
        raise ConfigError(f"The reward model {type(model).__name__} was not loaded from a folder or the hub, so its tokenizer is not "
                          "known. Give it in reward_processing_classes.")
    reader = AutoTokenizer.from_pretrained(model.config._name_or_path) if tokenizer is None else tokenizer
    if reader.pad_token_id is None:
        reader.pad_token = reader.eos_token
    return reader


def _text(prompt: Any, completion: Any, reader: Any) -> str:
    """What is scored: a text, or a conversation as the reward model's own template writes it."""
    if isinstance(prompt, str):
        return prompt + str(completion)
    return str(reader.apply_chat_template([*prompt, *completion], tokenize=False))
