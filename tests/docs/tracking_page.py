"""The tables in docs/tracking.md, from the code that they are about. `python -m tests.docs.tracking_page` writes them there anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from heron.run import metrics
from heron.run.alerts import CHECKS
from heron.run.metrics import Metric, registered

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tracking.md"
PLACE = re.compile(r"<!-- table: (\w+) -->\n(.*?)\n<!-- end -->", re.DOTALL)


def rendered(page: str) -> str:
    """The page with every table as the code makes it now."""
    made = {"alerts": alerts(), "metrics": numbers()}
    return PLACE.sub(lambda found: f"<!-- table: {found[1]} -->\n{made[found[1]]}\n<!-- end -->", page)


def alerts() -> str:
    """A row for each, with what its function says of itself, in the order in which they are told."""
    rows = [f"| `{name}` | {_cell(' '.join(str(check.__doc__).split()))} |" for name, check in CHECKS.items()]
    return "\n".join(["| alert | when |", "|---|---|", *rows])


def numbers() -> str:
    """A table for each group of the registry's file."""
    return "\n\n".join(f"### {group}\n\n{_table(members)}" for group, members in groups().items())


def groups() -> dict[str, list[Metric]]:
    """The registered numbers under the headings that stand above them in the file."""
    known, found = {metric.name: metric for metric in registered()}, dict[str, list[Metric]]()
    for group, name in _headings():
        found.setdefault(group, []).append(known[name])
    return found


def _headings() -> Iterator[tuple[str, str]]:
    group = ""
    for line in Path(metrics.__file__).with_suffix(".toml").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"# --- (.*) ---", line):
            group = heading[1]
        elif name := re.fullmatch(r'\["?(.*?)"?\]', line):
            yield group, name[1]


def _table(members: list[Metric]) -> str:
    heading = "| number | what it says, and how it is computed | when all is well | if not |"
    return "\n".join([heading, "|---|---|---|---|", *map(_row, members)])


def _row(one: Metric) -> str:
    return f"| `{one.name}` | {_cell(one.sentence)} *{_cell(one.formula)}* | {_cell(one.good)} | {_cell(one.otherwise)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
