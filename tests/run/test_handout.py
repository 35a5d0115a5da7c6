"""The page that is sent to others: harmless whatever a model wrote, honest about chance, and there for every kind of run."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from heron.cli.main import app
from heron.errors import ConfigError, MissingExtra, RunError
from heron.run import Run, RunWriter, print_report
from heron.run.handout import handout, reward_png
from heron.run.handout.html import VOID, element
from heron.run.handout.words import certainty, of_hundred, verdict
from heron.run.snapshot import Snapshot

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)></style></pre></title><svg onload=alert(3)> &lt;b&gt; \" ' ]]> --> "
    "\x1b]52;c;aGk=\x07 \u202egnp.exe\u202c [/red] \ud800 $\\frac{$ javascript:alert(4)"
)
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "section", "article", "footer", "div", "p", "h1", "h2", "b", "span",
    "pre",
    "code", "table", "tr", "th", "td", "dl", "dt", "dd", "details", "summary", "figure", "figcaption", "svg", "rect", "line", "polyline",
    "polygon", "circle", "text",
}
ATTRIBUTES = {
    "class", "lang", "charset", "http-equiv", "content", "name", "viewbox", "role", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "rx",
    "width", "height", "points", "text-anchor", "scope",
}


class Page(HTMLParser):
    """What a browser makes of it: its tags, attributes and words; a tag that is not closed where it was opened is an error."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def totals(accuracy: float, **more: Any) -> dict[str, Any]:
    return {"problems": 256, "samples": 4, "accuracy": accuracy, "accuracy_low": max(0.0, accuracy - 0.05),
            "accuracy_high": min(1.0, accuracy + 0.05), "format_rate": 1.0, "mean_reward": 1.5, "step": 0, **more}


def sampled(rate: float) -> dict[str, Any]:
    return {"pass_at_1": rate, "pass_at_1_low": rate - 0.05, "pass_at_1_high": rate + 0.05}


def row(number: int, verdict: str | None, text: str = "an answer") -> dict[str, Any]:
    return {"id": str(number), "question": f"Question {number}?", "answer": "7", "text": text, "verdict": verdict, "truncated": False}


def a_run(path: Path, *, verdicts: Mapping[str, tuple[str | None, str | None]] | None = None, text: str = "fine", name: str = "right",
          config: str = "", end: str | None = "finished", steps: int = 12) -> Run:
    manifest = {"model": text, "recipe": text, "rewards": {name: 1.0, "format": 0.5}, "versions": {text: text}, "machine": text}
    writer = RunWriter.create(path, config_toml=config, manifest=manifest)
    writer.event("start", parameters=2_000_000, trainable_parameters=2_000_000, prompts=4096, heldout=256)
    for step in range(1, steps + 1):
        means = {f"rewards/{name}/mean": step / 20, "rewards/format/mean": 1.0}
        writer.log(step, {"reward": step / 12, "reward_std": 0.5, "pass@1": step / 24, **means})
    writer.event("alert", id="past", step=3, title=text, evidence=text, advice=text)
    pairs = list((verdicts or {"1": ("wrong", "right"), "2": ("wrong", "wrong"), "3": ("right", "wrong")}).values())
    for index, moment in enumerate(("before", "after")):
        rows = [{**row(number, pair[index], text), "question": text} for number, pair in enumerate(pairs)]
        writer.evaluation(moment, rows, totals((0.1, 0.9)[index], step=index * steps))
    writer.finish(end, {"error": text} if end != "finished" else {"seconds": 90.0, "num_tokens": 1000}) if end else writer.close()
    return Run(path)


def test_nothing_that_a_model_writes_becomes_markup(tmp_path: Path) -> None:
    """Prevents: a page that runs what a completion, a question, a name, a setting or an error says, in the browser of a manager."""
    config = 'recipe = "x"\n[data]\ndataset = "' + "<script>alert(5)</script>" + '"\n'
    run = a_run(tmp_path / "run<script>", text=HOSTILE, name=HOSTILE.replace("\ud800", ""), config=config, end="failed")
    source = handout(run)
    page = Page(source)
    assert page.tags <= TAGS and page.attributes <= ATTRIBUTES
    assert "<script>alert(1)</script>" in page.text and "<script>alert(5)</script>" in page.text, "shown, not dropped"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", source)
    assert "␛]52" in page.text


def test_the_page_forbids_itself_everything_but_its_own_style(tmp_path: Path) -> None:
    """Prevents: a policy that names another style sheet than the one that is there, so that the page is bare; or that allows scripts."""
    source = handout(a_run(tmp_path / "run"))
    (style,) = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', source)
    assert policy is not None and policy[1].replace("&#x27;", "'") == f"default-src 'none'; style-src 'sha256-{digest}'"
    assert all(rule in style for rule in (".result {", ".heron-chart .card {", "prefers-color-scheme: dark", "@media print"))
    assert "url(" not in source and "@import" not in source and not re.search(r'(href|src|style)="', source)


def test_attributes_are_escaped() -> None:
    assert element("p", "<b>", element("b", "x"), None, class_='"><script>') == '<p class="&quot;&gt;&lt;script&gt;">&lt;b&gt;<b>x</b></p>'


def played(turns: int, text: str = "I say") -> dict[str, Any]:
    """A row of a game: the model speaks, and is answered."""
    said = [{"role": ("assistant", "user")[turn % 2], "content": f"{text} {turn}"} for turn in range(turns)]
    return {**row(1, "right", f"{text} {turns - 1}"), "conversation": said}


def both_reports(path: Path, answer: dict[str, Any]) -> tuple[str, str]:
    """The page and the printed report of a run with one held-out problem."""
    run = a_run(path, end=None)
    writer = RunWriter.reopen(path, last_step=12)
    for name in ("before", "after"):
        writer.evaluation(name, [answer], totals(0.5, step=0))
    writer.close()
    out = io.StringIO()
    print_report(run, Console(file=out, width=200))
    return handout(run), out.getvalue()


def test_a_game_is_shown_turn_by_turn(tmp_path: Path) -> None:
    """Prevents: the last move of a game shown as if it were all that the model did, and a label that is wrong of a game."""
    source, printed = both_reports(tmp_path / "run", played(7))
    for shown in (Page(source).text, printed):
        places = [shown.index(f"{'reply' if turn % 2 else 'model'}: I say {turn}") for turn in range(7)]
        assert places == sorted(places)
    assert "first try" not in source and "always with its likeliest words" in source


def test_a_long_game_is_shown_from_both_ends(tmp_path: Path) -> None:
    """Prevents: a page that is one game; and one whose end, where it was won, is cut off in silence."""
    for shown in both_reports(tmp_path / "run", played(40, "x" * 2000)):
        assert "(30 more in between)" in shown and "characters more" in shown and len(shown) < 120_000
    for shown in both_reports(tmp_path / "other", played(40)):
        assert "I say 4" in shown and "I say 35" in shown and "I say 20" not in shown


@pytest.mark.parametrize("turns", [[{"role": HOSTILE, "content": HOSTILE}], [{"role": 3, "content": None, "x": [HOSTILE]}, HOSTILE, None]])
def test_what_is_said_in_a_game_is_harmless(tmp_path: Path, turns: list[Any]) -> None:
    """Prevents: markup or escape sequences from a model's or an environment's mouth; a crash at a message of another shape."""
    source, printed = both_reports(tmp_path / "run", {**row(1, "wrong"), "conversation": turns})
    page = Page(source)
    assert page.tags <= TAGS and page.attributes <= ATTRIBUTES and "<script>alert(1)</script>" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", source + printed)
    assert "[/red]" in printed


def test_it_shows_what_was_learnt_and_what_was_not(tmp_path: Path) -> None:
    """Prevents: a page of successes; an alert that fired and passed unseen; curves or settings that are missing."""
    run = a_run(tmp_path / "run", config='recipe = "mine"\n[train]\nseed = 3\nmax_steps = 12\n')
    source = handout(run)
    text = Page(source).text
    for words in ("The model got better.", "90 of 100 problems", "In all 1 turned right, 1 turned wrong, 0 stayed right, 1 stayed wrong.",
                  "2 of 3 held-out problems are still not solved; 1 of them had been solved before.", "at step 3, not any more",
                  "2.00 million weights", "4 096 problems", "seed = 3", "right (weight 1)", str(run.path)):
        assert words in text, words
    assert source.count("<svg") == 2


@pytest.mark.parametrize(("end", "words"), [(None, "interrupted"), ("failed", "RewardError"), ("interrupted", "Go on with: heron resume")])
def test_a_run_that_did_not_finish_has_a_page(tmp_path: Path, end: str | None, words: str) -> None:
    """Prevents: a traceback about the run that is asked about most."""
    assert words in Page(handout(a_run(tmp_path / "run", text="RewardError", end=end))).text


def test_it_is_about_one_moment(tmp_path: Path) -> None:
    """Prevents: a page about a live run whose table and curve are of different steps, and a long record that is read ten times."""
    writer = RunWriter.create(tmp_path / "run", config_toml="", manifest={})
    writer.log(1, {"reward": 1.0})
    moment = Snapshot(Run(tmp_path / "run"))
    assert (moment.status, len(moment.metrics()), len(moment.events())) == ("running", 1, 0)
    writer.log(2, {"reward": 1.0})
    writer.event("alert", id="x")
    writer.close()
    assert (moment.status, len(moment.metrics()), len(moment.events("alert"))) == ("running", 1, 0)
    assert (Run(moment.path).status, len(Run(moment.path).metrics())) == ("interrupted", 2)


def test_a_run_that_has_recorded_nothing_has_a_page(tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "run", config_toml="", manifest={}).close()
    text = Page(handout(Run(tmp_path / "run"))).text
    assert "Held-out problems were not evaluated" in text and "The run is interrupted." in text


def test_answers_that_nobody_judged_are_not_called_wrong(tmp_path: Path) -> None:
    """Prevents: e-mails, of which no verifier knows whether they are right, listed as failures."""
    text = Page(handout(a_run(tmp_path / "run", verdicts={"1": (None, None)}))).text
    assert "not judged" in text and "Where it fails" not in text and "✗" not in text


def test_passwords_in_addresses_are_not_sent_on(tmp_path: Path) -> None:
    """Prevents: a key for a judge's server in the mail to everyone."""
    source = handout(a_run(tmp_path / "run", config='[judge]\nurl = "https://me:s3cret@judge.example/v1"\n'))
    assert "s3cret" not in source and "https://…@judge.example/v1" in source


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (totals(0.1), totals(0.9), "The model got better. It solves 90 of 100 problems"),
        (totals(0.9), totals(0.1), "The model got worse."),
        (totals(0.5), totals(0.56), "No difference can be told."),
        (totals(0.5) | sampled(0.3), totals(0.56) | sampled(0.6), "Of the answers that it gives when it may vary its words"),
        (totals(0.5) | sampled(0.3), totals(0.56) | sampled(0.3), "No difference can be told. It solves 56"),
        ({"mean_reward": 1.0}, {"mean_reward": 2.0}, "rose: 1.00 before, 2.00 after"),
        ({}, {}, "Nothing was measured"),
    ],
)
def test_better_is_said_only_where_chance_is_unlikely(before: dict[str, Any], after: dict[str, Any], words: str) -> None:
    """Prevents: luck sold as learning."""
    assert words in verdict(before, after)
    if "accuracy" in after:
        assert ("overlap" in certainty(before, after)) == ("No difference" in words)


def test_shares_are_not_rounded_to_none_or_all() -> None:
    assert [of_hundred(value) for value in (0.0, 0.001, 0.5, 0.999, 1.0)] == [
        "0 of 100", "fewer than 1 of 100", "50 of 100", "more than 99 of 100", "100 of 100"]


class TestPng:
    """The reward curve for slides."""

    def test_names_are_no_formulas(self, tmp_path: Path) -> None:
        """Prevents: a function called `$\\frac` that makes the picture fail, and a picture that changes from time to time."""
        matplotlib = pytest.importorskip("matplotlib.image")
        run = a_run(tmp_path / "run", name="$\\frac{$", config='recipe = "$y^$"\n')
        picture = reward_png(run)
        assert picture == reward_png(run)
        pixels = matplotlib.imread(io.BytesIO(picture))
        assert pixels.shape[1] > 1200 and 0.02 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.5

    def test_without_matplotlib_it_says_what_to_install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run = a_run(tmp_path / "run")
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(MissingExtra, match=re.escape("heron-rl[report]")):
            reward_png(run)

    def test_a_run_without_steps(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        with pytest.raises(RunError, match="no recorded step"):
            reward_png(a_run(tmp_path / "run", steps=0))


class TestCommand:
    """`heron report RUN`."""

    def test_it_writes_where_it_was_told(self, tmp_path: Path) -> None:
        run = a_run(tmp_path / "run")
        done = CliRunner().invoke(app, ["report", str(run.path), "--out", str(tmp_path / "page.html")], catch_exceptions=False)
        assert done.exit_code == 0 and (tmp_path / "page.html").read_text() == handout(run)
        CliRunner().invoke(app, ["report", str(run.path)], catch_exceptions=False)
        assert (run.path / "report.html").read_text() == handout(run)

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        """Prevents: a traceback for a mistyped path."""
        words = ["report", str(a_run(tmp_path / "run").path), "--out", str(tmp_path / "nope" / "x.html")]
        assert isinstance(CliRunner().invoke(app, words).exception, ConfigError)
