"""A script, read by its syntax tree: imports are rewritten, options and methods are looked up.

The hard idea: only what an import brought into the file is judged, under whatever name it has there, so a `GRPOConfig` of somebody else's
is left alone. A value that is a literal is looked up as it is; of one that is computed only the name can be judged.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from heron.compat.migrating.finding import Finding, Migration, of_note
from heron.compat.notes import Kind
from heron.compat.trl.config import OF_TRAINER, defaults, notes_on
from heron.compat.trl.translating import KNOWN
from heron.compat.unsloth.arguments import IDLE, REFUSED
from heron.errors import ConfigError, did_you_mean

MOVED: Mapping[str, Mapping[str, str]] = {
    "trl": {"GRPOConfig": "heron.compat.trl", "GRPOTrainer": "heron.compat.trl"},
    "trl.rewards": dict.fromkeys((
        "accuracy_reward", "reasoning_accuracy_reward", "think_format_reward", "get_cosine_scaled_reward", "get_repetition_penalty_reward",
        "get_soft_overlong_punishment",
    ), "heron.compat.trl.rewards"),
    "unsloth": dict.fromkeys(
        ("FastLanguageModel", "FastModel", "PatchFastRL", "is_bfloat16_supported"), "heron.compat.unsloth"),
    "vllm": {"SamplingParams": "heron.compat.unsloth"},
}
"""Names by the package that has them, and where they are here."""
PACKAGES = ("trl", "unsloth", "unsloth_zoo", "vllm")
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
COMPUTED = object()
"""A value that is known only when the script runs."""


def migrate_python(text: str, name: str = "script") -> Migration:
    """What is to be changed in a script."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(f"{name}:{error.lineno} is not Python: {error.msg}.") from error
    names = _names(tree)
    findings = [*_imports(tree), *_calls(tree, names)]
    return Migration(findings=tuple(sorted(findings, key=lambda finding: finding.line)), text=_rewritten(text, tree))


def _names(tree: ast.AST) -> dict[str, str]:
    """What names in the file stand for: `{"Config": "trl.GRPOConfig", "t": "trl"}`."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_theirs(node.module):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names if _is_theirs(alias.name)}
    return found


def _is_theirs(module: str | None) -> bool:
    return (module or "").split(".")[0] in PACKAGES


def _home(module: str | None, name: str) -> str | None:
    """Where a name of theirs is here; None if it is not."""
    root = (module or "").split(".")[0]
    return MOVED.get(str(module), {}).get(name) or (MOVED["trl"].get(name) if root == "trl" else None)


def _imports(tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_theirs(node.module):
            for alias in node.names:
                yield _imported(node, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "trl":
                    yield Finding(line=node.lineno, what="import trl", kind=Kind.RENAMED, text="import heron.compat.trl as trl")
                elif _is_theirs(alias.name):
                    yield Finding(line=node.lineno, what=f"import {alias.name}", kind=Kind.UNSUPPORTED,
                                  text="Import the names that are used: from heron.compat.unsloth import FastLanguageModel.")


def _imported(node: ast.ImportFrom, name: str) -> Finding:
    home, what = _home(node.module, name), f"from {node.module} import {name}"
    if home is not None:
        return Finding(line=node.lineno, what=what, kind=Kind.RENAMED, text=f"from {home} import {name}")
    known = [each for names in MOVED.values() for each in names]
    return Finding(line=node.lineno, what=what, kind=Kind.UNSUPPORTED,
                   text=f"There is no {name} here. There are {', '.join(known)}.")


def _calls(tree: ast.AST, names: Mapping[str, str]) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _called(node.func, names)
        if called == "GRPOConfig":
            yield from _options(node)
        elif called == "GRPOTrainer":
            yield from _arguments(node)
        elif called in ("from_pretrained", "get_peft_model"):
            yield from _of_model(node, f"FastLanguageModel.{called}.")
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
    given = {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg is not None}
    lines = {keyword.arg: keyword.value.lineno for keyword in node.keywords if keyword.arg is not None}
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
        yield Finding(line=lines[name], what=f"GRPOConfig.{name}", kind=Kind.SAME,
                      text="Its value is computed, so it is looked at when the script runs.")


def _arguments(node: ast.Call) -> Iterator[Finding]:
    for keyword in node.keywords:
        if keyword.arg in TRAINER:
            yield Finding(line=keyword.value.lineno, what=f"GRPOTrainer.{keyword.arg}", kind=Kind.UNSUPPORTED, text=TRAINER[keyword.arg])


def _of_model(node: ast.Call, owner: str) -> Iterator[Finding]:
    """Unsloth's arguments."""
    for keyword in node.keywords:
        name, value = str(keyword.arg), _value(keyword.value)
        if name in IDLE:
            yield Finding(line=keyword.value.lineno, what=owner + name, kind=Kind.DIFFERS, text=IDLE[name])
        elif name in REFUSED and value not in (REFUSED[name][0], None, COMPUTED):
            yield Finding(line=keyword.value.lineno, what=owner + name, kind=Kind.UNSUPPORTED, text=REFUSED[name][1])


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return COMPUTED


def _rewritten(text: str, tree: ast.AST) -> str:
    """The text with every import of theirs replaced; imports of names that are not here stay."""
    lines = text.encode().splitlines(keepends=True)  # columns are counted in bytes
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        made = _import_lines(node)
        if made is not None:
            first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
            before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset or 0 :]
            is_alone = not before.strip() and not after.strip()
            lines[first : last + 1] = [before + (b"\n" + before if is_alone else b"; ").join(line.encode() for line in made) + after]
    return b"".join(lines).decode()


def _import_lines(node: ast.Import | ast.ImportFrom) -> list[str] | None:
    """What an import becomes; None if it stays."""
    if isinstance(node, ast.Import):
        if not any(alias.name == "trl" for alias in node.names):
            return None
        return [f"import heron.compat.trl as {alias.asname or 'trl'}" if alias.name == "trl" else f"import {_written(alias)}"
                for alias in node.names]
    if not _is_theirs(node.module):
        return None
    homes: dict[str, list[str]] = {}
    for alias in node.names:
        homes.setdefault(_home(node.module, alias.name) or str(node.module), []).append(_written(alias))
    return [f"from {home} import {', '.join(names)}" for home, names in homes.items()]


def _written(alias: ast.alias) -> str:
    return alias.name if alias.asname is None else f"{alias.name} as {alias.asname}"
