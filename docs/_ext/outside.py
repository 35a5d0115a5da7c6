"""Links to Markdown that lies outside of `docs/`: the tables of the benchmarks become pages of the site, README its first page.

The files stay where they are, so the same links work where the repository is read. What it leaves out: links within such files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from markdown_it import MarkdownIt
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

ROOT = Path(__file__).resolve().parents[2]
FRONT = ROOT / "README"
TABLES = ROOT / "benchmarks" / "results"


class Outside(SphinxPostTransform):
    """Gives a link its page, before MyST says that there is no such document."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        """Looks at every link of one document."""
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("refdomain") == "doc" and (page := page_of(Path(node["reftarget"]))) is not None:
                uri = self.app.builder.get_relative_uri(self.env.docname, page)
                node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))


def page_of(target: Path) -> str | None:
    """The page that stands for a file, named without its suffix."""
    if target == FRONT:
        return "index"
    return f"results/{target.name}" if target.parent == TABLES else None


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every table of the benchmarks."""
    for path in sorted(TABLES.glob("*.md")):
        body = MarkdownIt("commonmark").enable("table").render(path.read_text(encoding="utf-8"))
        body = body.replace("<table>", '<div class="table-wrapper"><table class="docutils">').replace("</table>", "</table></div>")
        yield f"results/{path.stem}", {"title": f"Results: {path.stem}", "body": body}, "page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers both."""
    app.add_post_transform(Outside)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
