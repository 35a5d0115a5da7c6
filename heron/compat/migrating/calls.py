"""The calls of a script: which of their arguments carry over. Values that are literals are judged as they are, of others only the name."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from heron.compat.migrating.finding import Finding, of_note
from heron.compat.notes import Kind
from heron.compat.trl.config import OF_TRAINER, defaults, notes_on
from heron.compat.trl.translating import KNOWN
from heron.compat.unsloth.arguments import IDLE, REFUSED, TAKEN
from heron.compat.unsloth.sampling import SamplingParams
from heron.errors import ConfigError, did_you_mean

ARGUMENTS = (
    "model", "reward_funcs", "args", "train_dataset", "eval_dataset", "processing_class", "reward_processing_classes", "callbacks",
    "quantization_config", "peft_config", "tools", "environment_factory",
)
"""Arguments of GRPOTrainer that are the same here."""
TRAINER = {
    "optimizers": "The optimizer is made for the run: choose it in GRPOConfig.",
    "compute_loss_func": "Name a loss: GRPOConfig(loss_type=...).",
    "rollout_func": "Answers are sampled by the weights that are trained: use an environment_factory or tools.",
    "tokenizer": "Its name is processing_class, also in TRL.", "config": "Its name is args, also in TRL.",
    "compute_metrics": "Use a reward function with the weight 0, or log_metric in one.", "data_collator": "Rows need no collator.",
}
"""Arguments of GRPOTrainer that are errors here."""
METHODS = {
    "push_to_hub": "Nothing is uploaded: `heron export RUN --out DIR`, then `hf upload NAME DIR`.",
    "push_to_hub_merged": "Nothing is uploaded: save_pretrained_merged, then `hf upload NAME DIR`.",
    "push_to_hub_gguf": "Nothing is uploaded: save_pretrained_gguf, then `hf upload NAME DIR`.",
}
"""Methods that are refused."""
OWNERS = ("trl", "FastLanguageModel", "FastModel")
"""Whose attributes are judged."""
UNSLOTHS = {"beta": 0.001, "loss_type": "bnpo", "learning_rate": 5e-5, "warmup_ratio": 0.1, "optim": "adamw_8bit", "seed": 3407}
"""Defaults that Unsloth puts in the place of TRL's (its sources of mid-2026)."""
COMPUTED = object()
"""A value that is known only when the script runs."""


def judged_calls(tree: ast.AST, names: Mapping[str, str]) -> Iterator[Finding]:
    """Of everything that is called; `names` says what names of the file stand for."""
    is_unsloths = any(name.partition(".")[0] == "unsloth" for name in names.values())
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _called(node.func, names)
        if called == "GRPOConfig":
            yield from _options(node)
            yield from _left_out(node) if is_unsloths else ()
        elif called == "GRPOTrainer":
            yield from _arguments(node)
        elif called == "SamplingParams":
            yield from _sampling(node)
        elif called in TAKEN:
            yield from _of_model(node, called)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            yield Finding(line=node.lineno, what=f".{node.func.attr}()", kind=Kind.UNSUPPORTED, text=METHODS[node.func.attr])


def _called(function: ast.expr, names: Mapping[str, str]) -> str:
    """The last part of what is called, if it is theirs: `GRPOConfig` of `trl.GRPOConfig(...)`."""
    if isinstance(function, ast.Name):
        return names.get(function.id, "").rpartition(".")[2]
    owner = function.value if isinstance(function, ast.Attribute) else None
    is_of_package = isinstance(owner, ast.Name) and owner.id in names and names[owner.id].rpartition(".")[2] in OWNERS
    return function.attr if isinstance(function, ast.Attribute) and is_of_package else ""


def _options(node: ast.Call) -> Iterator[Finding]:
    given, lines = _given(node), _lines(node)
    known = {name for name in given if name in defaults() or name in KNOWN or name in OF_TRAINER}
    for name in given:
        if name not in known:
            yield Finding(line=lines[name], what=f"GRPOConfig.{name}", kind=Kind.UNSUPPORTED,
                          text=f"There is no such option.{did_you_mean(name, defaults())}")
    literal = {name: value for name, value in given.items() if name in known and value is not COMPUTED}
    try:
        notes = notes_on(literal)
    except ConfigError as error:
        yield Finding(line=node.lineno, what="GRPOConfig", kind=Kind.UNSUPPORTED, text=str(error))
        notes = []
    yield from (of_note(made, lines.get(made.field, node.lineno), "GRPOConfig.") for made in notes)
    for name in known - literal.keys():
        yield _computed(lines[name], f"GRPOConfig.{name}")
    yield from (_computed(keyword.value.lineno, "GRPOConfig.**") for keyword in node.keywords if keyword.arg is None)


def _computed(line: int, what: str) -> Finding:
    return Finding(line=line, what=what, kind=Kind.SAME, text="Its value is computed, so it is looked at when the script runs.")


def _left_out(node: ast.Call) -> Iterator[Finding]:
    """Options that Unsloth would set otherwise than TRL, and so than Heron."""
    given = _lines(node)
    said_otherwise = {"warmup_ratio"} if "warmup_steps" in given else set()
    left = {name: value for name, value in UNSLOTHS.items() if name not in {*given, *said_otherwise}}
    if left and all(keyword.arg is not None for keyword in node.keywords):
        said = ", ".join(f"{name}={value!r}" for name, value in left.items())
        yield Finding(line=node.lineno, what="GRPOConfig", kind=Kind.DIFFERS,
                      text=f"What is left out has TRL's default, where Unsloth sets {said}. Write down what you want to keep.")


def _arguments(node: ast.Call) -> Iterator[Finding]:
    for name, line in _lines(node).items():
        if name not in ARGUMENTS:
            text = TRAINER.get(name) or f"There is no such argument.{did_you_mean(name, ARGUMENTS)}"
            yield Finding(line=line, what=f"GRPOTrainer.{name}", kind=Kind.UNSUPPORTED, text=text)


def _sampling(node: ast.Call) -> Iterator[Finding]:
    """vLLM's params, which answer questions and may be given to a trainer."""
    given, lines = _given(node), _lines(node)
    known = [each.name for each in dataclasses.fields(SamplingParams)]
    for name in given.keys() - known:
        yield Finding(line=lines[name], what=f"SamplingParams.{name}", kind=Kind.UNSUPPORTED,
                      text=f"There is no such argument.{did_you_mean(name, known)}")
    try:
        made = SamplingParams(**{name: value for name, value in given.items() if name in known and value is not COMPUTED})
    except ConfigError as error:
        yield Finding(line=node.lineno, what="SamplingParams", kind=Kind.UNSUPPORTED, text=str(error))
        return
    for name, value in made.idle_in_training.items():
        yield Finding(line=lines[name], what=f"SamplingParams.{name}", kind=Kind.DIFFERS,
                      text=f"fast_generate draws with {value!r}; GRPOConfig(vllm_sampling_params=...) leaves it out, with a warning.")


def _of_model(node: ast.Call, called: str) -> Iterator[Finding]:
    """Unsloth's arguments."""
    given, lines = _given(node), _lines(node)
    for name, value in given.items():
        what = f"FastLanguageModel.{called}.{name}"
        if name in IDLE:
            yield Finding(line=lines[name], what=what, kind=Kind.DIFFERS, text=IDLE[name])
        elif name in REFUSED and value not in (REFUSED[name][0], None, COMPUTED):
            yield Finding(line=lines[name], what=what, kind=Kind.UNSUPPORTED, text=REFUSED[name][1])
        elif name not in REFUSED and name not in TAKEN[called]:
            yield Finding(line=lines[name], what=what, kind=Kind.UNSUPPORTED,
                          text=f"There is no such argument.{did_you_mean(name, (*TAKEN[called], *IDLE, *REFUSED))}")


def _given(node: ast.Call) -> dict[str, Any]:
    """Arguments by name, with their values."""
    return {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg is not None}


def _lines(node: ast.Call) -> dict[str, int]:
    """Where they stand."""
    return {keyword.arg: keyword.value.lineno for keyword in node.keywords if keyword.arg is not None}


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return COMPUTED
