"""What the pages tell a reader to type or to paste: their blocks, fenced or indented, and the commands in them."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
LANGUAGES = {"python", "sh", "toml", "json", "text", "{toctree}", ""}
"""What a fence may begin with; anything else, such as `py`, would be read by no test."""
FENCE = re.compile(r"^( *)```(\S*)\s*$")
COMMAND = re.compile(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(heron .*?)(?: &)?$")
"""A line that calls Heron: after a prompt, with variables before it, or in the background."""
PLACEHOLDER = re.compile(r"(?<![\w/.-])[A-Z]+(?![\w/.-])")


@dataclass(frozen=True)
class Block:
    """One block of a page, from its first line to its last. `language` is empty where it is indented, or its fence names none."""

    page: Path
    line: int
    last: int
    language: str
    text: str

    @property
    def is_python(self) -> bool:
        """Marked as such; of the others, what Python can read and what imports, defines or calls something (a TOML file does not)."""
        if self.language:
            return self.language == "python"
        try:
            tree = ast.parse(self.text)
        except SyntaxError:
            return False
        return any(isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Call) for node in ast.walk(tree))

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """In the page's order."""
    return sorted([*_fenced(page), *_indented(page)], key=lambda block: block.line)


def shown_below(block: Block) -> str | None:
    """The output that a page shows directly below a block, in a fence of `text`."""
    return next((one.text for one in blocks(block.page) if one.language == "text" and one.line == block.last + 2), None)


def blocks_of(language: str, pages: Sequence[Path] = tuple(PAGES)) -> list[str]:
    """The fenced blocks of one language in these pages."""
    return [block.text for page in pages for block in blocks(page) if block.language == language]


def python_of(page: Path) -> list[Block]:
    """All Python of a page. A test that runs a page's Python takes it from here, so that it misses none."""
    return [block for block in blocks(page) if block.is_python]


def shell_lines(pages: Sequence[Path] = tuple(PAGES)) -> list[str]:
    """Lines of shell blocks, and of those that name no language; one that ends in a backslash goes on in the next."""
    texts = (block.text for page in pages for block in blocks(page) if block.language in ("sh", ""))
    return [line.strip() for text in texts for line in text.replace("\\\n", " ").splitlines()]


def _fenced(page: Path) -> Iterator[Block]:
    begun, language = 0, ""
    inside: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = FENCE.match(line)
        if fence is None:
            inside.append(line)
        elif not begun:
            begun, language, inside = number, fence[2], []
        else:
            yield Block(page, begun, number, language, textwrap.dedent("\n".join([*inside, ""])))
            begun = 0
    assert not begun, f"{page.name}: the fence of line {begun} is not closed"


def _indented(page: Path) -> Iterator[Block]:
    """Lines that are four blanks further in, below an empty line."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", lambda fence: re.sub(r".+", "```", fence.group()), page.read_text(encoding="utf-8"))
    begun, inside = 0, list[str]()
    above = ""
    for number, line in enumerate([*text.splitlines(), "the end"], start=1):
        if line.startswith("    ") and (begun or not above.strip()):
            begun, inside = begun or number, [*inside, line]
        elif begun and not line.strip():
            inside.append("")
        elif begun:
            yield Block(page, begun, number - 1, "", textwrap.dedent("\n".join(inside)).strip("\n") + "\n")
            begun, inside = 0, []
        above = line
