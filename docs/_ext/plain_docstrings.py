"""Docstrings are Markdown, like the other pages; autodoc reads reStructuredText. So each is handed to MyST whole.

The sections `Args:` and `Raises:` become lists of `name: what it is` first, and pages that are named become links. Dataclasses without
defaults, whose signature would say all fields twice, and protocols, which have none, are shown without one. What it leaves out: names of
other docstrings as links.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.utils import new_document
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

SECTION = re.compile(r"(Args|Returns|Raises|Yields):$")
PAGE = re.compile(r"`?docs/([\w-]+)\.md`?")
ENTRY = re.compile(r"([*\w., ]+): (.*)$")


class Markdown(SphinxDirective):
    """Its content is Markdown."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The nodes of the text, for the page around it."""
        source, _ = self.get_source_info()
        document = new_document(source or "", self.state.document.settings)
        MystParser().parse("\n".join(self.content), document)
        return [node for node in document.children if not isinstance(node, nodes.system_message)]


def with_lists(lines: list[str]) -> Iterator[str]:
    """The docstring with its sections as lists, and lines of a Python prompt as code."""
    section: list[str] | None = None
    for line in [*lines, ""]:
        if section is not None and not line.startswith(" "):
            yield from _entries(section)
            section = None
        if section is not None:
            section.append(line)
        elif heading := SECTION.match(line):
            yield from (f"**{heading[1]}**", "")
            section = []
        else:
            yield f"    {line}" if line.startswith(">>> ") else line


def _entries(lines: list[str]) -> Iterator[str]:
    """`name: what it is`, each with the deeper lines that follow it."""
    depth = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    for line in lines:
        text, is_first = line.strip(), len(line) - len(line.lstrip()) == depth
        if is_first and (entry := ENTRY.match(text)):
            names = ", ".join(f"`{name.strip()}`" for name in entry[1].split(","))
            yield f"- {names}: {entry[2]}"
        else:
            yield f"- {text}" if is_first else f"  {text}"


def _process_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    if any(line.strip() for line in lines):
        text = (PAGE.sub(r"[\1](/\1.md)", line) for line in with_lists(lines))
        lines[:] = [".. markdown::", "", *(f"   {line}" for line in text), ""]


def _process_signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returned: str | None
) -> tuple[str, None] | None:
    return ("", None) if what == "class" and _has_no_defaults(obj) else None


def _has_no_defaults(kind: Any) -> bool:
    """True of a protocol, and of a dataclass all of whose fields must be given."""
    if getattr(kind, "_is_protocol", False):
        return True
    given = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    return bool(given) and all(one.default is one.default_factory is dataclasses.MISSING for one in given)


def setup(app: Sphinx) -> dict[str, Any]:
    """Listens to autodoc."""
    app.add_directive("markdown", Markdown)
    app.connect("autodoc-process-docstring", _process_docstring)
    app.connect("autodoc-process-signature", _process_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
