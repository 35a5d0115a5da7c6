"""Tables of settings and commands, from the code that they are about. `python -m tests.docs.reference_page` writes them anew."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import textwrap
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any

import typer
from typer.models import ArgumentInfo, CommandInfo, OptionInfo, TyperInfo

from heron.cli.main import app
from heron.config import Config

DOCS = Path(__file__).resolve().parents[2] / "docs"
PLACE = re.compile(r"<!-- table: (\w+) -->\n(?:.*?\n)?<!-- end -->", re.DOTALL)


def rendered(page: str) -> str:
    """The page with every table as the code makes it now."""
    return PLACE.sub(lambda found: f"<!-- table: {found[1]} -->\n{TABLES[found[1]]()}\n<!-- end -->", page)


def settings() -> str:
    """A heading and a table for each section, in the order of `config.toml`."""
    told = documented(Config)
    sections = {field.name: field.default_factory for field in fields(Config) if field.default_factory is not MISSING}
    return "\n\n".join(_section(name, section, told[name]) for name, section in sections.items())


def _section(name: str, section: Callable[[], Any], sentence: str) -> str:
    made = section()
    told = documented(type(made))
    rows = [f"| `{name}.{field.name}` | {_kind(field)} | {_default(field)} | {cell(told[field.name])} |" for field in fields(made)]
    return "\n".join([f"## {name}", "", cell(sentence), "", "| setting | type | default | what it is |", "|---|---|---|---|", *rows])


def documented(section: type) -> dict[str, str]:
    """What stands under each field of a class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(body, ast.ClassDef)
    return dict(_documented(body.body))


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            yield field.target.id, _in_words(" ".join(str(text.value.value).split()))


def _in_words(text: str) -> str:
    """Python's None as a recipe says it, and pages of the documents as links."""
    text = text.replace("None: ", "Not set: ").replace("None leaves", "Not set leaves")
    return re.sub(r"`?docs/([\w-]+)\.md`?", r"[\1](../\1.md)", text)


def _kind(field: Field[Any]) -> str:
    """The type in words of TOML."""
    words = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}
    plain = str(field.type).removesuffix(" | None")
    many = re.fullmatch(r"tuple\[(\w+), \.\.\.\]", plain)
    return f"list of {words[many[1]]}s" if many else words[plain]


def _default(field: Field[Any]) -> str:
    value = field.default
    assert value is not MISSING, field.name
    return "not set" if value is None else f"`{json.dumps(value)}`"


def commands() -> str:
    """A heading for each verb, with what it takes."""
    return "\n\n".join(_command(name, info) for name, info in _flat("heron", app))


def _flat(name: str, group: typer.Typer) -> Iterator[tuple[str, CommandInfo | TyperInfo]]:
    """Verbs, and those under them. A group that does something by itself is one, too."""
    if group.registered_callback and group.registered_callback.invoke_without_command is True:
        yield name, group.registered_callback
    for info in group.registered_commands:
        assert info.callback is not None
        yield f"{name} {info.name or info.callback.__name__.replace('_', '-')}", info
    for below in group.registered_groups:
        assert below.typer_instance is not None
        yield from _flat(f"{name} {below.name}", below.typer_instance)


def _command(name: str, info: CommandInfo | TyperInfo) -> str:
    assert info.callback is not None
    given = list(_parameters(info.callback))
    arguments, options = [one for one in given if one.is_argument], [one for one in given if not one.is_argument]
    takes_settings = (info.context_settings or {}).get("allow_extra_args", False)
    words = [name, *(one.usage for one in arguments), *["[OPTIONS]"] * bool(options), *["[--section.key=value ...]"] * takes_settings]
    rows = [f"| {one.spelling} | {cell(one.told)} | {one.standard} |" for one in (*arguments, *options)]
    table = ["", "| | what it is | default |", "|---|---|---|", *rows] if rows else []
    return "\n".join([f"## {name}", "", "```text", " ".join(words), "```", "", cell(_plain(info.callback.__doc__ or "")), *table])


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One of a verb's."""

    name: str
    kind: Any
    default: Any
    info: ArgumentInfo | OptionInfo

    @property
    def is_argument(self) -> bool:
        return isinstance(self.info, ArgumentInfo)

    @property
    def told(self) -> str:
        return _plain(self.info.help or "")

    @property
    def usage(self) -> str:
        return self._metavar if self.default is inspect.Parameter.empty else f"[{self._metavar}]"

    @property
    def spelling(self) -> str:
        if self.is_argument:
            return f"`{self._metavar}`"
        value = "" if self.kind is bool else f" {self._metavar}"
        return ", ".join(f"`{name}{value}`" for name in self._names)

    @property
    def _names(self) -> list[str]:
        """In an annotation, Typer takes the first name for a default, until the verb is made."""
        given = [one for one in (self.info.default, *(self.info.param_decls or ())) if isinstance(one, str)]
        word = self.name.replace("_", "-")
        names = given or [f"--{word}", *[f"--no-{word}"] * (self.kind is bool)]
        return [name for spelling in names for name in spelling.split("/")]

    @property
    def standard(self) -> str:
        if self.default is inspect.Parameter.empty:
            return "must be given"
        if isinstance(self.default, bool):
            return f"`{self._names[0]}`" if self.default else ""
        return "" if self.default is None else f"`{self.default}`"

    @property
    def _metavar(self) -> str:
        kinds = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
        plain = next((one for one in (*typing.get_args(self.kind), self.kind) if one in kinds), str)
        return (self.info.metavar or "").strip("[]") or (self.name.upper() if self.is_argument else kinds[plain])


def _parameters(verb: Callable[..., Any]) -> Iterator[Parameter]:
    hints = typing.get_type_hints(verb, include_extras=True)
    for name, parameter in inspect.signature(verb).parameters.items():
        if typing.get_origin(hints[name]) is typing.Annotated:
            kind, info = typing.get_args(hints[name])
            if not info.hidden:
                yield Parameter(name=name, kind=kind, default=parameter.default, info=info)


def _plain(text: str) -> str:
    """The terminal's bold words as code, in one paragraph."""
    return " ".join(re.sub(r"\[/?bold\]", "`", text).split())


def cell(text: str) -> str:
    """Text for a cell: what would be markup outside of code is escaped."""
    pieces = re.split(r"(`[^`]*`|\[[\w-]+\]\(\S+?\.md\))", text.replace("|", "\\|"))
    return "".join(piece if number % 2 else re.sub(r"([*_<\[])", r"\\\1", piece) for number, piece in enumerate(pieces))


TABLES: dict[str, Callable[[], str]] = {"settings": settings, "commands": commands}
PAGES = (DOCS / "reference" / "settings.md", DOCS / "reference" / "commands.md")

if __name__ == "__main__":
    for path in PAGES:
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")
