"""A script, read by its syntax tree: imports are rewritten, options and methods are looked up.

The hard idea: only what an import brought into the file is judged, under whatever name it has there, so a `GRPOConfig` of somebody else's
is left alone. A value that is written in the file is looked up as it is; of one that is computed only the name can be judged.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from heron.compat.elsewhere import advice
from heron.compat.migrating.calls import judged_calls
from heron.compat.migrating.finding import Finding, Migration
from heron.compat.migrating.objects import judged_objects
from heron.compat.migrating.scope import Scope
from heron.compat.notes import Kind
from heron.errors import ConfigError

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
WHOLE = {
    "unsloth": "It patches torch and transformers when it is imported, and nothing here is tested beside that. Take the line out, and "
               "import the names that are used: from heron.compat.unsloth import FastLanguageModel.",
    "trl": "Import the names that are used: from heron.compat.trl.rewards import accuracy_reward.",
    "vllm": "Import the names that are used: from heron.compat.unsloth import SamplingParams.",
}
"""What to do about a package that is imported whole."""
PACKAGES = (*WHOLE, "unsloth_zoo")
"""Packages whose names are looked up."""


def migrate_python(text: str, name: str = "script") -> Migration:
    """What is to be changed in a script."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(f"{name}:{error.lineno} is not Python: {error.msg}.") from error
    scope = Scope(tree, _names(tree))
    findings = [*_imports(tree), *judged_calls(tree, scope), *judged_objects(tree, scope)]
    return Migration(findings=tuple(sorted(findings, key=lambda finding: finding.line)), text=_rewritten(text, tree))


def _names(tree: ast.AST) -> dict[str, str]:
    """What imported names stand for: `{"Config": "trl.GRPOConfig", "t": "trl"}`."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_read(node.module):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names if _is_read(alias.name)}
    return found


def _is_read(module: str | None) -> bool:
    """Calls of its names are judged; PEFT's stay as they are."""
    return _is_theirs(module) or _root(module) == "peft"


def _is_theirs(module: str | None) -> bool:
    return _root(module) in PACKAGES


def _root(module: str | None) -> str:
    return (module or "").split(".")[0]


def _package(module: str | None) -> str:
    """The one whose names they are."""
    return _root(module).removesuffix("_zoo")


def _home(module: str | None, name: str) -> str | None:
    """Where a name of theirs is here; None if it is not."""
    return MOVED.get(str(module), {}).get(name) or (MOVED["trl"].get(name) if _root(module) == "trl" else None)


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
                    yield Finding(line=node.lineno, what=f"import {alias.name}", kind=Kind.UNSUPPORTED, text=WHOLE[_package(alias.name)])


def _imported(node: ast.ImportFrom, name: str) -> Finding:
    home, what = _home(node.module, name), f"from {node.module} import {name}"
    if home is not None:
        return Finding(line=node.lineno, what=what, kind=Kind.RENAMED, text=f"from {home} import {name}")
    return Finding(line=node.lineno, what=what, kind=Kind.UNSUPPORTED, text=advice(name, MOVED[_package(node.module)]))


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
