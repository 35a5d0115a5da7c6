"""Markup that no text can break out of.

The one hard idea: a question, an answer, the name of a reward function may hold anything, so there is a single way to make markup,
`element`, and it escapes everything but what it made itself. Control characters and marks that turn the reading direction are shown as
signs. A page made of elements alone thus needs no care on the way.
"""

from __future__ import annotations

from html import escape

from heron.run.text import clean

VOID = ("meta", "br")


class Html(str):
    """Markup made here."""

    __slots__ = ()


def element(tag: str, /, *children: object, **attributes: str) -> Html:
    """`element("p", "a < b", class_="soft")`. Children that are None are left out; all but `Html` are text."""
    words = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(clean(value))}"' for key, value in attributes.items())
    inside = "".join(_inside(child) for child in children if child is not None)
    return Html(f"<{tag}{words}>" if tag in VOID else f"<{tag}{words}>{inside}</{tag}>")


def drawn(svg: str) -> Html:
    """A picture of `heron.run.drawing`, which escapes its own words."""
    return Html(svg)


def _inside(child: object) -> str:
    return child if isinstance(child, Html) else escape(clean(child))
