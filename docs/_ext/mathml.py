"""Formulas as MathML, which browsers draw by themselves: no script, nothing loaded from elsewhere. docutils translates them.

A formula that it does not know is a warning, which ends a build with `-W`, and is shown as it is written.
"""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

SAME = {
    "big": "bigl", "bigm": "bigl", "Big": "Bigl", "Bigm": "Bigl", "bigg": "biggl", "Bigg": "Biggl", "dots": "ldots",
    "iff": "Longleftrightarrow", "texttt": "mathtt",
}
"""Commands that GitHub knows and docutils does not, by others that look the same."""


def inline(translator: Any, node: nodes.math) -> None:
    """Within a sentence."""
    translator.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    """On lines of its own."""
    translator.body.append(f'<div class="math">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def _mathml(node: nodes.Element, *, as_block: bool) -> str:
    text = node.astext()
    try:
        known = re.sub(r"\\([A-Za-z]+)", lambda found: f"\\{SAME.get(found[1], found[1])}", text)
        return str(latex2mathml.tex2mathml(known, as_block=as_block))
    except (MathError, IndexError) as error:  # an index: of a command at the end that wants more
        logger.warning("the formula %r cannot be drawn: %s", text, error, location=node)
        return f"<code>{html.escape(text)}</code>"


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
