"""What is wrong with the links of a built site: the files, places and addresses that they name. It asks no other site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

HOST = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?|localhost(?::\d+)?|127\.0\.0\.1(?::\d+)?")
PAPER = re.compile(r"/(?:abs|pdf)/\d{4}\.\d{4,5}(?:v\d+)?")


@dataclass
class Page(HTMLParser):
    """Places that can be linked to, links, and what a browser loads by itself."""

    places: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.places.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") == "stylesheet":
            self.loaded.append(given["href"])
        self.loaded.extend(given[name] for name in ("src", "srcset") if name in given)


@cache
def read(path: Path) -> Page:
    """One page of the site."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def flaws(site: Path) -> list[str]:
    """A sentence for each link that leads nowhere, and for each thing that would be loaded from elsewhere."""
    return [f"{path.relative_to(site)}: {flaw}" for path in sorted(site.rglob("*.html")) for flaw in _flaws_of(path)]


def _flaws_of(path: Path) -> Iterator[str]:
    page = read(path)
    for link in page.links:
        if flaw := (_flaw_outside(link) if urlsplit(link).scheme else _flaw_inside(path, link)):
            yield flaw
    for source in page.loaded:
        if urlsplit(source).netloc:
            yield f"{source} is loaded from another site"
        elif flaw := _flaw_inside(path, source):
            yield flaw


def _flaw_inside(path: Path, link: str) -> str | None:
    address = urlsplit(link)
    target = (path.parent / unquote(address.path)).resolve() if address.path else path
    if not target.is_file():
        return f"{link} is no file of the site"
    place = unquote(address.fragment)
    is_there = not place or target.suffix != ".html" or place in read(target).places
    return None if is_there else f"{link} names a place that its page does not have"


def _flaw_outside(link: str) -> str | None:
    address = urlsplit(link)
    if address.scheme == "mailto":
        return None
    if address.scheme not in ("http", "https") or not HOST.fullmatch(address.netloc) or re.search(r"[\s<>`]", link):
        return f"{link} is no address"
    if address.netloc.removeprefix("www.") == "arxiv.org" and not PAPER.fullmatch(address.path):
        return f"{link} is no paper of arXiv"
    return None
