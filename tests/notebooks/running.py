"""Runs the code cells of a notebook in one namespace. `python -m tests.notebooks.running FILE.ipynb` writes their outputs into it."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """Execute the cells in order, put what they print, warn of and say last into the notebook, and return the namespace."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, start=1):
        printed, warned = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(warned):
            value = execute("".join(cell["source"]), namespace, f"cell {number}")
        cell |= {"execution_count": number, "outputs": outputs(printed.getvalue(), warned.getvalue(), value, number)}
    return namespace


def execute(source: str, namespace: dict[str, Any], name: str) -> Any:
    """Run a cell; the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), namespace)


def outputs(printed: str, warned: str, value: Any, number: int) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for name, text in {"stderr": warned, "stdout": printed}.items():
        if text:
            made.append({"name": name, "output_type": "stream", "text": text.splitlines(keepends=True)})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        made.append({"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"})
    return made


def main(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run(notebook)
        text = json.dumps(notebook, indent=1, ensure_ascii=False).replace(f"{folder}/", "")
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
