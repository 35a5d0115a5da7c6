"""`heron migrate`: what of a TRL or Unsloth script runs here. Exit code 3 if something in it has no counterpart, or cannot be judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from heron.errors import RunError

WORDS = {"same": "as it is", "renamed": "renamed", "differs": "differs", "unsupported": "UNSUPPORTED", "unseen": "NOT JUDGED"}


def migrate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A script (.py), a notebook (.ipynb), or a config of `trl grpo` (.yaml).")],
    out: Annotated[Path | None, typer.Option(help="Write the changed file here; of a config, the recipe.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also list what stays as it is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Say line by line what becomes of the imports and options of a file written for TRL or Unsloth, and rewrite it with --out.

    The exit code is 0 if all of it is known to carry over, and 3 if something has no counterpart here or could not be judged.
    """
    from heron.compat.migrating import migrate

    found = migrate(file) if out is None else migrate(file, out)
    written = {} if out is None else {out: found.text, **found.files}
    for path in written:
        if path.exists():
            raise RunError(f"{path} is there already. Choose another --out.")
    if as_json:
        typer.echo(json.dumps([
            {"line": each.line, "cell": each.cell, "what": each.what, "kind": str(each.kind), "text": each.text} for each in found.findings
        ], ensure_ascii=False, indent=2))
    else:
        for each in found.findings:
            if everything or each.kind != "same":
                typer.echo(f"{file.name}:{each.place}  {each.what}  {WORDS[each.kind]}: {each.text}")
        typer.echo(_summary([str(each.kind) for each in found.findings]))
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
        typer.echo(f"Written: {path}", err=as_json)
    if not found.is_complete:
        raise typer.Exit(3)


def _summary(kinds: list[str]) -> str:
    counts = [f"{kinds.count(kind)} {word.lower()}" for kind, word in WORDS.items() if kind in kinds]
    return f"{', '.join(counts)}." if counts else "There is nothing of TRL's or Unsloth's in it."
