"""Attributes and methods of trainers, configs and models that a script makes: the classes here are asked whether they have them.

Which class a name is of is what its last assignment above says. Attributes of attributes (`trainer.model.config`) are not followed.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from heron.compat.migrating.finding import Finding
from heron.compat.migrating.scope import COMPUTED, Scope
from heron.compat.notes import Kind
from heron.compat.trl.beyond import unheeded
from heron.compat.unsloth.arguments import IDLE_IN_SAVING, REFUSED_IN_SAVING, look_at
from heron.errors import ConfigError

MADE_BY = {
    "GRPOTrainer": "GRPOTrainer", "GRPOConfig": "GRPOConfig", "from_pretrained": "FastModelForRL", "get_peft_model": "FastModelForRL",
}
"""Classes by what is called."""
NAMES = {"GRPOTrainer": "trainer", "GRPOConfig": "GRPOConfig", "FastModelForRL": "model"}
"""How the report calls them."""
UPLOADS = {
    "push_to_hub": "Nothing is uploaded: `heron export RUN --out DIR`, then `hf upload NAME DIR`.",
    "push_to_hub_merged": "Nothing is uploaded: save_pretrained_merged, then `hf upload NAME DIR`.",
    "push_to_hub_gguf": "Nothing is uploaded: save_pretrained_gguf, then `hf upload NAME DIR`.",
}
"""Methods that are refused on every object."""
OF_CLASS = "What is made of it is judged as little as its own methods: only what it overrides and is never called here is named."
"""Said of a class that a script makes from one of theirs."""


def judged_objects(tree: ast.AST, scope: Scope) -> Iterator[Finding]:
    """Of every use of an attribute, every call of a method, and every class that is made from one of theirs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from _class_of_script(node, scope)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from _method(node, node.func, scope)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr not in UPLOADS:
            yield from _attribute(node, scope)


def class_of(node: ast.expr, scope: Scope) -> str:
    """Of what an expression stands for; empty if it is none of ours."""
    call = scope.made_by(node) if isinstance(node, ast.Name) else node
    return MADE_BY.get(scope.called(call.func), "") if isinstance(call, ast.Call) else ""


def _class_of_script(node: ast.ClassDef, scope: Scope) -> Iterator[Finding]:
    for base in (name for name in map(scope.called, node.bases) if name in ("GRPOTrainer", "GRPOConfig")):
        yield Finding(line=node.lineno, what=f"class {node.name}({base})", kind=Kind.UNSEEN, text=OF_CLASS)
        methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        for name, text in unheeded(methods if base == "GRPOTrainer" else ()).items():
            yield Finding(line=methods[name].lineno, what=f"{node.name}.{name}", kind=Kind.UNSUPPORTED,
                          text=f"It is never called here. {text}")


def _attribute(node: ast.Attribute, scope: Scope) -> Iterator[Finding]:
    name = class_of(node.value, scope)
    if name and node.attr not in _attributes(name) and (text := _why_not(name, node.attr)):
        yield _refused(node, f"{NAMES[name]}.{node.attr}", text)


def _method(node: ast.Call, function: ast.Attribute, scope: Scope) -> Iterator[Finding]:
    """A call of a method that is refused, or whose arguments are."""
    if function.attr in UPLOADS:
        yield _refused(function, f".{function.attr}()", UPLOADS[function.attr])
        return
    name = class_of(function.value, scope)
    method = inspect.getattr_static(_class(name), function.attr, None) if name else None
    if not inspect.isfunction(method):
        return
    given, what = scope.arguments(node), f"{NAMES[name]}.{function.attr}()"
    if given.unseen or any(isinstance(each, ast.Starred) for each in node.args):
        text = "Its arguments are known only when the script runs."
        yield Finding(line=function.end_lineno or function.lineno, what=what, kind=Kind.UNSEEN, text=text)
        return
    try:
        bound = inspect.signature(method).bind(None, *node.args, **given.nodes).arguments
        by_place = {key: scope.value(each) for key, each in bound.items() if isinstance(each, ast.expr)}
        _check(name, function.attr, {**by_place, **given.values})
    except (TypeError, ConfigError) as error:
        yield _refused(function, what, f"{str(error).rstrip('.')}.")


def _check(name: str, method: str, given: Mapping[str, Any]) -> None:
    """Raises ConfigError for arguments that a method of a model refuses; those with nothing to do are said when it runs."""
    if name != "FastModelForRL" or not method.startswith("save_pretrained"):
        return
    from heron.compat.unsloth.model import check_save_method

    own = inspect.signature(getattr(_class(name), method)).parameters
    others = {key: value if key in REFUSED_IN_SAVING and value is not COMPUTED else None for key, value in given.items() if key not in own}
    look_at(f"model.{method}", others, idle=IDLE_IN_SAVING, refused=REFUSED_IN_SAVING, taken=own)
    if given.get("save_method", COMPUTED) is not COMPUTED:
        check_save_method(given["save_method"])


def _why_not(name: str, attribute: str) -> str:
    """What the class says when it is asked; nothing, if it has the attribute after all."""
    made = _class(name)
    try:
        getattr(made() if name == "GRPOConfig" else object.__new__(made), attribute)
    except (AttributeError, ConfigError) as error:
        return str(error)
    return ""


@cache
def _attributes(name: str) -> frozenset[str]:
    """Of the class, and what its methods set on an object."""
    made = _class(name)
    sources = [ast.parse(inspect.getsource(each)) for each in made.__mro__ if each is not object]
    stored = (node for tree in sources for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
    return frozenset({*dir(made), *(node.attr for node in stored if isinstance(node.value, ast.Name) and node.value.id == "self")})


def _class(name: str) -> Any:
    """Imported when a script has an object of it: two of them load torch."""
    if name == "GRPOTrainer":
        from heron.compat.trl.trainer import GRPOTrainer

        return GRPOTrainer
    if name == "GRPOConfig":
        from heron.compat.trl.config import GRPOConfig

        return GRPOConfig
    from heron.compat.unsloth.model import FastModelForRL

    return FastModelForRL


def _refused(node: ast.Attribute, what: str, text: str) -> Finding:
    return Finding(line=node.end_lineno or node.lineno, what=what, kind=Kind.UNSUPPORTED, text=text)
