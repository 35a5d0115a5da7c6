"""The tables in docs/memory.md, from the code that makes them. `python -m tests.memory.guide_page` writes them there anew."""

from __future__ import annotations

import re
from pathlib import Path

from heron.memory.guide import tables

PAGE = Path(__file__).resolve().parents[2] / "docs" / "memory.md"
PLACE = re.compile(r"<!-- table: (\w+) -->\n(.*?)\n<!-- end -->", re.DOTALL)


def rendered(page: str) -> str:
    """The page with every table as the code makes it now."""
    made = tables()
    return PLACE.sub(lambda found: f"<!-- table: {found[1]} -->\n{made[found[1]]}\n<!-- end -->", page)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
