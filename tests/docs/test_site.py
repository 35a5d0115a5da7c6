"""The site is built without a warning, and every link in it leads somewhere. Other sites are asked by `make linkcheck` alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.site_links import flaws, read

DOCS = Path(__file__).resolve().parents[2] / "docs"


def build(source: Path, target: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """As `make docs` builds; `-n` complains of every name that has no page."""
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-n", "-q", *options, str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it, built anew."""
    target = tmp_path_factory.mktemp("site")
    made = build(DOCS, target, "-d", str(target.parent / "doctrees"))
    assert made.returncode == 0, made.stderr
    return target


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    """Prevents: a page, a heading or a file that was moved, an address with a slip, and a site that loads from elsewhere."""
    assert flaws(site) == []


def test_pages_are_those_of_the_documents(site: Path) -> None:
    """Prevents: the test above passing on an empty site."""
    sources = {path.relative_to(DOCS).with_suffix(".html") for kind in ("*.md", "*.rst") for path in DOCS.rglob(kind)
               if "_build" not in path.parts}
    made = {path.relative_to(site) for path in site.rglob("*.html")}
    assert len(sources) > 40 and sources - made == set()
    assert Path("results/learning.html") in made


@pytest.mark.parametrize("folder", ["learn", "howto"])
def test_every_page_of_a_folder_is_in_its_list(folder: str) -> None:
    """Prevents: a chapter that only the site's margin shows, and a reader of the repository does not find."""
    listed = re.findall(r"\]\(([\w.-]+\.md)\)", (DOCS / folder / "index.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in (DOCS / folder).glob("*.md") if path.name != "index.md")


def test_docstrings_reach_the_reference(site: Path) -> None:
    """Prevents: pages of names without a word, and docstrings whose sections and tables are one heap of text."""
    train = (site / "reference" / "api" / "heron.html").read_text(encoding="utf-8")
    assert "heron.train" in read(site / "reference" / "api" / "heron.html").places
    assert re.search(r"<strong>Args</strong>.*?<li>.*?<code [^>]*><span [^>]*>start_from</span></code>", train, re.DOTALL)
    objective = read(site / "reference" / "api" / "objective.html")
    assert {"heron.objective.register_loss", "heron.objective.LossInputs.advantages"} <= objective.places


def test_pictures_follow_the_choice_of_light_or_dark(site: Path) -> None:
    """Prevents: light pictures on a dark page, which a reader has chosen by hand."""
    page = (site / "dashboard.html").read_text(encoding="utf-8")
    assert "<picture" not in page and page.count("only-light") == page.count("only-dark") > 0


FORMULAS = """# One

It costs $5 or $6; the advantage is $A = \\frac{r - \\mu}{\\sigma}$, of $r_1, \\dots, r_G$.

$$
\\sum_t w_t
$$
"""


def small_site(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """A page with that text, built as the site is."""
    (folder / "source").mkdir()
    (folder / "source" / "index.md").write_text(text)
    return build(folder / "source", folder / "site", "-c", str(DOCS))


def test_formulas_are_drawn_without_a_script(tmp_path: Path) -> None:
    """Prevents: formulas that only show where another site is reached, and prices that become formulas."""
    made = small_site(tmp_path, FORMULAS)
    assert made.returncode == 0, made.stderr
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert page.count("<math") == 3 and "<mfrac>" in page and "…" in page and "$5 or $6" in page


@pytest.mark.parametrize("text", ["[gone](gone.md) [nowhere](#nowhere)", "$\\nosuchthing{x}$"])
def test_what_is_wrong_on_a_page_stops_the_build(tmp_path: Path, text: str) -> None:
    """Prevents: a build that is content with anything."""
    made = small_site(tmp_path, f"# One\n\n{text}\n")
    assert made.returncode != 0
    assert all(word in made.stderr for word in re.findall(r"gone(?=\.)|nowhere(?=\))|nosuchthing", text))


@pytest.mark.parametrize(
    "tag",
    ['<a href="gone.html">', '<a href="index.html#gone">', '<a href="#gone">', '<a href="https//one.org">', '<a href="https://one">',
     '<a href="https://arxiv.org/abs/2402.3">', '<img src="gone.png">', '<script src="https://cdn.one.org/x.js">',
     '<link rel="stylesheet" href="https://fonts.one.org/x.css">'],
)
def test_a_broken_link_is_found(tag: str, tmp_path: Path) -> None:
    """Prevents: a check of links that finds none broken whatever they are."""
    good = '<a href="#here" id="here"></a><a href="index.html"></a><a href="https://arxiv.org/abs/2402.03300"></a>'
    (tmp_path / "index.html").write_text(good)
    assert flaws(tmp_path) == []
    (tmp_path / "other.html").write_text(good + tag)
    assert len(flaws(tmp_path)) == 1
