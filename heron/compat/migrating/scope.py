"""What the names of a script stand for: imports, values that are written down once, and objects of ours that are made in it.

The hard idea: nothing is run. A value is known if it is a literal, a dict of literals, or a name that is bound once and to one of these;
an object is what the last assignment above made of its name. Everything else is computed, and said to be so.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

OWNERS = ("trl", "peft", "FastLanguageModel", "FastModel")
"""Whose attributes are judged."""
DTYPES = ("float32", "float16", "bfloat16")
"""Of torch; written `torch.bfloat16`, each is a value, under which name options take it, too."""
COMPUTED = object()
"""A value that is known only when the script runs."""
CHANGING = ("update", "pop", "setdefault", "clear", "popitem")
"""Methods that make a dict another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Of one call, by name."""

    values: Mapping[str, Any]
    """COMPUTED where the script makes them."""
    nodes: Mapping[str, ast.expr]
    """As they are written."""
    unseen: tuple[int, ...]
    """Lines of `**` whose names are known only when the script runs."""

    def line(self, name: str) -> int:
        """Where an argument stands."""
        return self.nodes[name].lineno

    @property
    def literal(self) -> dict[str, Any]:
        """Those whose values are known."""
        return {name: value for name, value in self.values.items() if value is not COMPUTED}


class Scope:
    """The names of one file, as if it were one function; a parameter hides a name within its function alone."""

    def __init__(self, tree: ast.AST, imported: Mapping[str, str]) -> None:
        self.imported = imported
        self._values: dict[str, list[tuple[int, ast.expr]]] = {}
        self._bound: dict[str, int] = {}
        self._changed: set[str] = set()
        self._parameters: list[tuple[str, int, int]] = []
        for node in ast.walk(tree):
            self._read(node)

    def called(self, function: ast.expr) -> str:
        """The last part of what is called, if it was imported from theirs: `GRPOConfig` of `trl.GRPOConfig(...)`."""
        if isinstance(function, ast.Name):
            return self.imported.get(function.id, "").rpartition(".")[2]
        owner = function.value if isinstance(function, ast.Attribute) else None
        is_of_package = isinstance(owner, ast.Name) and self.imported.get(owner.id, "").rpartition(".")[2] in OWNERS
        return function.attr if isinstance(function, ast.Attribute) and is_of_package else ""

    def made_by(self, name: ast.Name) -> ast.Call | None:
        """The call of the last assignment above this use of the name, if that is a call."""
        if any(hidden == name.id and first <= name.lineno <= last for hidden, first, last in self._parameters):
            return None
        above = [each for each in self._values.get(name.id, ()) if each[0] <= name.lineno]
        value = max(above, key=lambda each: each[0])[1] if above else None
        return value if isinstance(value, ast.Call) else None

    def arguments(self, call: ast.Call) -> Arguments:
        """The keywords of a call, with those of dicts that are written in the file."""
        pairs = [pair for keyword in call.keywords for pair in self._pairs(keyword.arg, keyword.value)]
        nodes = {name: node for name, node in pairs if name is not None}
        return Arguments(
            values={name: self.value(node) for name, node in nodes.items()}, nodes=nodes,
            unseen=tuple(node.lineno for name, node in pairs if name is None),
        )

    def value(self, node: ast.expr) -> Any:
        """What is written there, or COMPUTED."""
        try:
            return ast.literal_eval(node)
        except ValueError:
            pass
        if isinstance(node, ast.Attribute) and node.attr in DTYPES and isinstance(node.value, ast.Name) and node.value.id == "torch":
            return node.attr
        if (once := self._once(node)) is not None:
            return self.value(once)
        if self._is_dict(node):
            pairs = list(self._pairs(None, node))
            made = {name: self.value(each) for name, each in pairs}
            return COMPUTED if None in made or any(value is COMPUTED for value in made.values()) else made
        return COMPUTED

    def _pairs(self, name: str | None, node: ast.expr) -> Iterator[tuple[str | None, ast.expr]]:
        """Of a keyword; of `**` (without a name) those of its dict. A pair without a name is one that cannot be seen."""
        once = self._once(node) if name is None else None
        if name is not None or not self._is_dict(once or node):
            yield name, node
        elif isinstance(whole := once or node, ast.Dict):
            for key, value in zip(whole.keys, whole.values, strict=True):
                if key is None:
                    yield from self._pairs(None, value)
                else:
                    yield (key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None), value
        elif isinstance(whole, ast.Call):
            for keyword in whole.keywords:
                yield from self._pairs(keyword.arg, keyword.value)

    def _is_dict(self, node: ast.expr) -> bool:
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args
        return is_call or isinstance(node, ast.Dict)

    def _once(self, node: ast.expr) -> ast.expr | None:
        """What a name stands for, if it is bound once in the file and is not changed afterwards."""
        if not isinstance(node, ast.Name) or self._bound.get(node.id) != 1 or node.id in self._changed:
            return None
        values = self._values.get(node.id, [])
        return values[0][1] if len(values) == 1 and not isinstance(values[0][1], ast.Name) else None

    def _read(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                first = target.elts[0] if isinstance(target, ast.Tuple) and target.elts and isinstance(node.value, ast.Call) else target
                self._take(first, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._take(node.target, node.value)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            self._bound[node.id] = self._bound.get(node.id, 0) + 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                self._parameters.append((each.arg, node.lineno, node.end_lineno or node.lineno))
                self._bound[each.arg] = self._bound.get(each.arg, 0) + 1
        elif isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.value, ast.Name) and _changes(node):
            self._changed.add(node.value.id)

    def _take(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._values.setdefault(target.id, []).append((target.lineno, value))


def _changes(node: ast.Subscript | ast.Attribute) -> bool:
    """What it is a part of becomes another dict: `kw["a"] = 1`, `kw.update`."""
    return not isinstance(node.ctx, ast.Load) if isinstance(node, ast.Subscript) else node.attr in CHANGING
