"""A notebook: its code cells as one script, so that a name that one cell imports is known in the others.

The hard part is what is no Python: lines for the shell and for IPython. They are hidden from the reader, line for line, and left as they
are.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from heron.compat.migrating.finding import Finding, Migration
from heron.compat.migrating.python import migrate_python
from heron.errors import ConfigError

HIDDEN = "pass  # heron:hidden:"


def migrate_notebook(text: str, name: str = "notebook") -> Migration:
    """What is to be changed in a notebook's code cells."""
    try:
        notebook: Any = json.loads(text)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{name} is no notebook: {error!r}.") from error
    sources = ["".join(cell["source"]) for cell in cells]
    whole = migrate_python("\n".join(map(_python, sources)), name)
    starts = _starts(sources)
    findings = tuple(_placed(finding, starts) for finding in whole.findings)
    for cell, source in zip(cells, sources, strict=True):
        cell["source"] = _rewritten(source).splitlines(keepends=True)
        cell |= {"outputs": [], "execution_count": None}
    return Migration(findings=findings, text=json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def _python(source: str) -> str:
    """The cell with every line hidden that is not Python; a cell of another language whole."""
    is_foreign = source.lstrip().startswith("%%")
    return "\n".join(_hidden(line) if is_foreign or _is_command(line) else line for line in source.split("\n"))


def _is_command(line: str) -> bool:
    return line.lstrip().startswith(("!", "%", "?")) or line.rstrip().endswith("?")


def _hidden(line: str) -> str:
    return " " * (len(line) - len(line.lstrip())) + HIDDEN + line.lstrip()


def _rewritten(source: str) -> str:
    """A cell's own text: commands come back as they were."""
    lines = migrate_python(_python(source)).text.split("\n")
    return "\n".join(before + after if found else line for line in lines for before, found, after in [line.partition(HIDDEN)])


def _starts(sources: list[str]) -> list[int]:
    """The line of the whole script on which each cell begins, from 1."""
    starts = [1]
    for source in sources:
        starts.append(starts[-1] + source.count("\n") + 1)
    return starts[:-1]


def _placed(finding: Finding, starts: list[int]) -> Finding:
    """With the cell in the place of the whole script."""
    number = max(index for index, start in enumerate(starts) if start <= finding.line)
    return dataclasses.replace(finding, cell=number + 1, line=finding.line - starts[number] + 1)
