"""The calls of a script: which of their arguments carry over.

A value that is written in the file is judged as it is. Of one that is computed only the name is, and where not every value is taken, it is
said not to be judged.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from heron.compat.migrating.finding import Finding, of_note
from heron.compat.migrating.objects import class_of
from heron.compat.migrating.scope import COMPUTED, Arguments, Scope
from heron.compat.notes import Kind
from heron.compat.trl.adapting import HARMLESS as LORA_HARMLESS
from heron.compat.trl.adapting import TAKEN as LORA_TAKEN
from heron.compat.trl.adapting import check_lora
from heron.compat.trl.config import BY_HAND, OF_TRAINER, defaults, notes_on
from heron.compat.trl.drawing import FIELD
from heron.compat.trl.fields import ABSENT, DIRECT
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
UNSLOTHS = {"beta": 0.001, "loss_type": "bnpo", "learning_rate": 5e-5, "warmup_ratio": 0.1, "optim": "adamw_8bit", "seed": 3407}
"""Defaults that Unsloth puts in the place of TRL's (its sources of mid-2026)."""
ANY_VALUE = frozenset({*DIRECT, *OF_TRAINER} - {*BY_HAND, "num_generations"})
"""Options of which every value is taken, so that one which is computed is, too; the others depend on their value or on other options."""
SEEN_LATER = "Its value is known only when the script runs, and not every one is taken: the run says so."


def judged_calls(tree: ast.AST, scope: Scope) -> Iterator[Finding]:
    """Of everything that is called, and of options that are set on a config afterwards."""
    is_unsloths = any(name.partition(".")[0] == "unsloth" for name in scope.imported.values())
    draws = FIELD in ast.dump(tree)  # in whatever way it is given
    trains = any(name.rpartition(".")[2] == "GRPOTrainer" for name in scope.imported.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield from _set_options(node, scope)
        if not isinstance(node, ast.Call):
            continue
        called, given = scope.called(node.func), scope.arguments(node)
        judge = OF_CALLS.get(called)
        if called == "GRPOConfig":
            yield from _options(node, given, scope)
            yield from _left_out(node, given) if is_unsloths else ()
        elif called in TAKEN:
            yield from _of_model(given, called)
        elif called == "SamplingParams":
            yield from (found for found in _sampling(node, given) if draws or found.kind is Kind.UNSUPPORTED)
        elif judge is not None and (trains or called != "LoraConfig"):
            yield from judge(node, given)
        else:
            continue
        yield from (_unseen(line, f"{called}.**", "Its arguments are known only when the script runs.") for line in given.unseen)


def _options(node: ast.Call, given: Arguments, scope: Scope) -> Iterator[Finding]:
    known = {name for name in given.values if _is_option(name)}
    for name in given.values.keys() - known:
        yield _unknown(given.line(name), "GRPOConfig", name, defaults(), "option")
    literal = {name: value for name, value in given.literal.items() if name in known}
    try:
        notes = notes_on(literal)
    except ConfigError as error:
        yield Finding(line=node.lineno, what="GRPOConfig", kind=Kind.UNSUPPORTED, text=str(error))
        notes = []
    lines = {name: given.line(name) for name in known}
    yield from (of_note(made, lines.get(made.field, node.lineno), "GRPOConfig.") for made in notes)
    for name in known - literal.keys():
        yield _computed(lines[name], name, given.nodes[name], scope)


def _is_option(name: str) -> bool:
    return name in defaults() or name in KNOWN or name in OF_TRAINER


def _set_options(node: ast.Assign, scope: Scope) -> Iterator[Finding]:
    """`args.top_p = 0.5`, beside what the config was made with."""
    for target in node.targets:
        if not isinstance(target, ast.Attribute) or class_of(target.value, scope) != "GRPOConfig" or target.attr.startswith("_"):
            continue
        name, value = target.attr, scope.value(node.value)
        made = scope.made_by(target.value) if isinstance(target.value, ast.Name) else None
        before = {} if made is None else {key: each for key, each in scope.arguments(made).literal.items() if _is_option(key)}
        if not _is_option(name):
            yield _unknown(target.lineno, "GRPOConfig", name, defaults(), "option")
        elif value is COMPUTED:
            yield _computed(target.lineno, name, node.value, scope)
        else:
            yield _of_option(name, value, before, target.lineno)


def _of_option(name: str, value: Any, before: Mapping[str, Any], line: int) -> Finding:
    try:
        return next(of_note(made, line, "GRPOConfig.") for made in notes_on({**before, name: value}) if made.field == name)
    except ConfigError as error:
        return Finding(line=line, what=f"GRPOConfig.{name}", kind=Kind.UNSUPPORTED, text=str(error))


def _computed(line: int, name: str, node: ast.expr, scope: Scope) -> Finding:
    """Of an option whose value the script makes."""
    what, absent = f"GRPOConfig.{name}", ABSENT.get(name)
    made = scope.made_by(node) if isinstance(node, ast.Name) else node
    if name == FIELD and isinstance(made, ast.Call) and scope.called(made.func) == "SamplingParams":
        return Finding(line=line, what=what, kind=Kind.SAME, text="Its arguments are judged where it is made.")
    if name in ANY_VALUE:
        return Finding(line=line, what=what, kind=Kind.SAME, text="Its value is computed; any is taken.")
    if absent is not None and absent.is_harmless:
        return Finding(line=line, what=what, kind=Kind.DIFFERS, text=absent.text)
    return _unseen(line, what, SEEN_LATER)


def _unseen(line: int, what: str, text: str) -> Finding:
    return Finding(line=line, what=what, kind=Kind.UNSEEN, text=text)


def _unknown(line: int, owner: str, name: str, known: Iterable[str], noun: str = "argument") -> Finding:
    return Finding(line=line, what=f"{owner}.{name}", kind=Kind.UNSUPPORTED, text=f"There is no such {noun}.{did_you_mean(name, [*known])}")


def _left_out(node: ast.Call, given: Arguments) -> Iterator[Finding]:
    """Options that Unsloth would set otherwise than TRL, and so than Heron."""
    said_otherwise = {"warmup_ratio"} if "warmup_steps" in given.values else set()
    left = {name: value for name, value in UNSLOTHS.items() if name not in {*given.values, *said_otherwise}}
    if left and not given.unseen:
        said = ", ".join(f"{name}={value!r}" for name, value in left.items())
        yield Finding(line=node.lineno, what="GRPOConfig", kind=Kind.DIFFERS,
                      text=f"What is left out has TRL's default, where Unsloth sets {said}. Write down what you want to keep.")


def _arguments(node: ast.Call, given: Arguments) -> Iterator[Finding]:
    for name in given.values:
        if name in TRAINER:
            yield Finding(line=given.line(name), what=f"GRPOTrainer.{name}", kind=Kind.UNSUPPORTED, text=TRAINER[name])
        elif name not in ARGUMENTS:
            yield _unknown(given.line(name), "GRPOTrainer", name, ARGUMENTS)


def _sampling(node: ast.Call, given: Arguments) -> Iterator[Finding]:
    """vLLM's params, which answer questions and may be given to a trainer."""
    known = [each.name for each in dataclasses.fields(SamplingParams)]
    for name in given.values.keys() - known:
        yield _unknown(given.line(name), "SamplingParams", name, known)
    try:
        made = SamplingParams(**{name: value for name, value in given.literal.items() if name in known})
    except ConfigError as error:
        yield Finding(line=node.lineno, what="SamplingParams", kind=Kind.UNSUPPORTED, text=str(error))
        return
    for name, value in made.idle_in_training.items():
        yield Finding(line=given.line(name), what=f"SamplingParams.{name}", kind=Kind.DIFFERS,
                      text=f"fast_generate draws with {value!r}; GRPOConfig(vllm_sampling_params=...) leaves it out, with a warning.")


def _adapter(node: ast.Call, given: Arguments) -> Iterator[Finding]:
    """PEFT's `LoraConfig`: each argument by itself is given to PEFT's class, and that to what a trainer asks of it."""
    from peft import LoraConfig

    for name, value in given.values.items():
        what, line = f"LoraConfig.{name}", given.line(name)
        if value is COMPUTED and name not in (*LORA_TAKEN, *LORA_HARMLESS):
            yield _unseen(line, what, SEEN_LATER)
        if value is COMPUTED:
            continue
        try:
            check_lora(LoraConfig(**{name: value}))
        except (ConfigError, TypeError, ValueError) as error:
            yield Finding(line=line, what=what, kind=Kind.UNSUPPORTED, text=str(error))


def _of_model(given: Arguments, called: str) -> Iterator[Finding]:
    """Unsloth's arguments."""
    for name, value in given.values.items():
        line, what = given.line(name), f"FastLanguageModel.{called}.{name}"
        if name in IDLE:
            yield Finding(line=line, what=what, kind=Kind.DIFFERS, text=IDLE[name])
        elif name in REFUSED and value is COMPUTED:
            yield _unseen(line, what, SEEN_LATER)
        elif name in REFUSED and value not in (REFUSED[name][0], None):
            yield Finding(line=line, what=what, kind=Kind.UNSUPPORTED, text=REFUSED[name][1])
        elif name not in REFUSED and name not in TAKEN[called]:
            yield _unknown(line, f"FastLanguageModel.{called}", name, (*TAKEN[called], *IDLE, *REFUSED))


OF_CALLS = {"GRPOTrainer": _arguments, "LoraConfig": _adapter}
"""Who judges which call."""
