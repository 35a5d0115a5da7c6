"""What the page is told of runs: the list, a run's state, its curves, groups and lengths, the comparison, the definitions."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from recorded import begin, evaluate, record, write_step
from test_dashboard_stream import Listening

from heron.dashboard import explain, routes, views
from heron.dashboard.server import Dashboard
from heron.dashboard.shelf import Shelf
from heron.run import Run, RunWriter
from heron.run.alerts.history import TAIL
from heron.run.index import Progress, lines
from heron.run.metrics import registered

RUN = f"/api/runs/{quote('first run')}"


def test_runs_are_listed_with_their_figures(page) -> None:
    """The list is how one finds the run that is on its way."""
    live = begin(page.folder / "second", steps=9)
    write_step(live, 1)
    cards = {card["name"]: card for card in page.get("/api/runs")["runs"]}
    first, second = cards["first run"], cards["second"]
    assert (first["status"], first["step"], first["max_steps"]) == ("finished", 30, 30) and first["accuracy"] > 0.7
    assert len(first["curve"]) == 30 and first["curve"][-1] == first["reward"]
    assert (second["status"], second["step"], second["accuracy"]) == ("running", 1, 0.15)
    live.close()
    assert {card["name"]: card["status"] for card in page.get("/api/runs")["runs"]}["second"] == "interrupted"


def test_a_copied_run_in_a_folder_of_its_own_is_shown(page, tmp_path: Path) -> None:
    """A run is copied from the machine that trained it, and then read elsewhere, without a writer and under another name."""
    shutil.copytree(page.folder / "first run", page.folder / "copy")
    assert page.get("/api/runs/copy")["step"] == 30 and page.get("/api/runs/copy/groups?step=3")["total"] == 4


ODD = [
    ("run.json", b"{"), ("run.json", b"5"), ("run.json", b"[1]"), ("run.json", b"[" * 100_000), ("metrics.jsonl", b"\xff\n\xfe{"),
    ("metrics.jsonl", b'{"step": "x"}\n{"step": 2, "reward": [1]}\n'), ("metrics.jsonl", b'{"step": 1, "a": ' + b"[" * 100_000 + b"\n"),
    ("events.jsonl", b"{\n\n"), ("events.jsonl", b"[]\n"), ("events.jsonl", b'{"time": 1}\n'),
    ("events.jsonl", b'{"kind": "evaluation", "name": [], "totals": 3}\n'), ("events.jsonl", b'{"kind": "start", "max_steps": "many"}\n'),
]  # fmt: skip
"""Files as a broken disk, another program or somebody's pleasure leaves them."""


@pytest.mark.parametrize(("file", "content"), ODD)
def test_an_odd_run_does_not_hide_the_others(page, file: str, content: bytes) -> None:
    """One odd folder emptied the list, ended every page's stream, or kept `heron ui` from opening at all."""
    record(page.folder / "odd", steps=3)
    (page.folder / "odd" / file).write_bytes(content)
    cards = {card["name"]: card for card in page.get("/api/runs")["runs"]}
    assert cards["first run"]["step"] == 30
    assert cards["odd"]["status"] == "finished" or (cards["odd"]["status"] == "unreadable" and cards["odd"]["error"])
    assert all(isinstance(cards["odd"].get(key), int | float | None) for key in ("step", "max_steps", "reward", "accuracy"))
    (told,) = itertools.islice((data for kind, _, data in Listening(page, "odd").events() if kind == "runs"), 1)
    assert {card["name"] for card in told["runs"]} == {"first run", "odd"}
    Dashboard(page.folder)._socket.close()


def test_a_run_that_cannot_be_read_for_any_reason_is_listed_with_it(page, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody thought of would otherwise take the whole list away."""
    record(page.folder / "odd", steps=3)
    whole = Run.evaluations
    monkeypatch.setattr(Run, "evaluations", lambda run: 1 / 0 if run.path.name == "odd" else whole(run))
    cards = {card["name"]: card for card in page.get("/api/runs")["runs"]}
    assert cards["first run"]["step"] == 30 and cards["odd"]["status"] == "unreadable" and "division by zero" in cards["odd"]["error"]
    assert views.status_of(Run(page.folder / "odd")) == "finished"
    monkeypatch.setattr(Run, "manifest", property(lambda run: (run.path / "gone").read_text()))
    assert {card["status"] for card in page.get("/api/runs")["runs"]} == {"unreadable"}, "gone while it was looked at"


def test_runs_behind_links_are_named_as_the_folder_names_them(page) -> None:
    """`latest -> first` was listed twice as `first`, and of two runs of one name in different places only one could be opened."""
    record(page.folder / "first", steps=3)
    record(page.folder.parent / "elsewhere" / "first", steps=5)
    (page.folder / "latest").symlink_to("first")
    (page.folder / "other").symlink_to(page.folder.parent / "elsewhere" / "first")
    cards = {card["name"]: card for card in page.get("/api/runs")["runs"]}
    assert {name: card["step"] for name, card in cards.items()} == {"first run": 30, "first": 3, "latest": 3, "other": 5}
    assert [page.get(f"/api/runs/{name}")["step"] for name in ("first", "latest", "other")] == [3, 3, 5]
    (page.folder / "latest").unlink()
    (page.folder / "latest").symlink_to("first run")
    assert page.get("/api/runs/latest")["step"] == 30, "the link leads to another run now"
    assert [name for name, _ in Shelf(page.folder / "first").runs()] == ["first"]


def test_the_state_says_whether_it_learns_and_what_it_is_made_of(page) -> None:
    """The first screen is made of this alone."""
    state = page.get(RUN)
    assert state["verdict"]["mood"] == "good" and state["verdict"]["headline"] == "It learnt."
    assert [change["name"] for change in state["changes"]] == ["accuracy", "pass@1", "reward"]
    assert state["changes"][0]["start"] == 0.15 and state["changes"][0]["now"] > 0.7
    assert [one["name"] for one in state["functions"]] == ["number_found", "number_right", "follows_format"]
    assert state["functions"][2]["weight"] == 0.5 and state["alerts"] == []
    assert set(state["time"]["phases"]) == {"sample", "score", "train", "record", "unaccounted"} and state["time"]["speeds"]["train"] == 907
    assert state["memory"]["phase"] == "train" and [part["name"] for part in state["memory"]["parts"]] == ["activations", "weights"]
    assert [one["name"] for one in state["evaluations"]] == ["before", "after"] and state["checkpoint"]["step"] == 30
    assert state["time"]["left"] is None and state["resume"] is None and state["reading"] is None


def test_a_live_run_says_how_long_it_will_take_and_a_dead_one_how_to_go_on(page) -> None:
    """Steps to go times the newest steps' mean; a killed run has no time left, but a command."""
    live = begin(page.folder / "live", steps=20)
    for step in (1, 2, 3):
        write_step(live, step)
    state = page.get("/api/runs/live")
    assert state["time"]["left"] == pytest.approx(17 * state["time"]["per_step"]) and state["verdict"]["headline"] == "Too early to say."
    live.close()
    state = page.get("/api/runs/live")
    assert state["status"] == "interrupted" and state["time"]["left"] is None and state["resume"].startswith("heron resume")


def test_alerts_are_shown_while_they_stand_and_remembered_after(page) -> None:
    """An alert that fired and passed would otherwise be gone, or look as if it still stood."""
    with_alerts = record(page.folder / "odd", steps=30, finish=False)
    with_alerts.event("alert", id="truncation", step=4, title="Many completions are cut off", evidence="at first", advice="more room")
    for step in range(31, 37):
        with_alerts.log(step, {"reward": -9.0, "pass@1": 0.0})
    alerts = page.get("/api/runs/odd")["alerts"]
    assert [(alert["id"], alert["standing"]) for alert in alerts][:1] == [("reward-collapse", True)] and alerts[0]["step"] is not None
    assert next(alert for alert in alerts if alert["id"] == "truncation")["standing"] is False
    with_alerts.close()


def test_a_bad_word_never_stands_beside_an_all_clear(page) -> None:
    """`It got worse.` beside `Nothing looks wrong.` makes one doubt both; so does an all-clear before anything was recorded."""
    assert page.get(RUN)["is_calm"] is True
    worse = RunWriter.create(page.folder / "worse", config_toml="", manifest={})
    assert page.get("/api/runs/worse")["is_calm"] is False
    for step in range(1, 41):
        worse.log(step, {"reward": 4.0 - step / 100, "reward_std": 1.0, "pass@1": 0.6 - step / 200 + 0.01 * (-1) ** step})
    worse.close()
    time.sleep(1)  # a run counts as fresh for a moment
    state = page.get("/api/runs/worse")
    assert (state["verdict"]["mood"], state["alerts"], state["is_calm"]) == ("bad", [], False)


def test_curves_are_those_asked_for_and_grow(page) -> None:
    """A page that asks for all numbers of all steps each second is slow; one that misses a step shows a gap."""
    found = page.get(f"{RUN}/curves?name=reward&name=nobody&points=2000")
    assert list(found["curves"]) == ["reward"] and found["curves"]["reward"]["steps"] == list(range(1, 31)) and found["step"] == 30
    assert page.get(f"{RUN}/curves?name=reward&after=28")["curves"]["reward"]["steps"] == [29, 30]


def test_numbers_that_are_not_finite_reach_the_page_as_gaps(page) -> None:
    """NaN is no JSON: the browser would refuse the whole answer."""
    writer = RunWriter.create(page.folder / "broke", config_toml="", manifest={})
    writer.log(1, {"reward": 1.0})
    writer.log(2, {"reward": float("nan")})
    assert page.get("/api/runs/broke/curves?name=reward")["curves"]["reward"]["values"] == [1.0, None]
    assert page.get("/api/runs/broke")["alerts"][0]["id"] == "not-finite"
    writer.close()


def test_every_value_becomes_json(page) -> None:
    """Half of a character, which a cut answer may hold, and a number beyond 64 bits would be answered with an error."""
    for value in ({"text": "\ud83d"}, {"step": 10**30}, {"a": {1: 2.0}}, {"a": [1.5, None, "ü"]}):
        assert json.loads(routes._encoded(value)) == json.loads(json.dumps(value))
    assert routes._encoded({"a": float("inf"), "b": (float("nan"),)}) == b'{"a":null,"b":[null]}'


def test_a_resumed_run_is_another_generation(page) -> None:
    """A page that keeps steps which were taken back shows a curve that never was."""
    record(page.folder / "again", steps=5, finish=False).close()
    before = page.get("/api/runs/again")
    writer = RunWriter.reopen(page.folder / "again", last_step=2)
    writer.log(3, {"reward": 99.0})
    time.sleep(1)  # a run counts as fresh for a moment
    after = page.get("/api/runs/again")
    assert (before["step"], after["step"]) == (5, 3) and after["generation"] > before["generation"]
    assert page.get("/api/runs/again/curves?name=reward")["curves"]["reward"]["values"][-1] == 99.0
    writer.close()


def test_siblings_are_sorted_by_advantage(page) -> None:
    """What one wants to see is what the best answers have that the worst have not."""
    groups = page.get(f"{RUN}/groups?step=2")
    assert groups["total"] == 4 and [group["group"] for group in page.get(f"{RUN}/groups?step=2&order=oldest")["groups"]] == [0, 1, 2, 3]
    siblings = page.get(f"{RUN}/groups/2/1")["siblings"]
    advantages = [row["advantage"] for row in siblings]
    assert advantages == sorted(advantages, reverse=True)
    assert set(siblings[0]["rewards"]) == {"number_found", "number_right", "follows_format"}


def test_groups_are_filtered_searched_and_followed(page) -> None:
    """Filters that the page offers and the index does not know would be errors on click."""
    for name in ("all", "signal", "no-signal", "right", "wrong", "rewarded-but-wrong", "truncated", "errors", "highest", "lowest"):
        assert page.get(f"{RUN}/groups?filter={name}&limit=3")["total"] >= 0
    prompt = page.get(f"{RUN}/groups?step=3&limit=1")["groups"][0]["prompt"]
    over_time = page.get(f"{RUN}/groups?prompt={quote(prompt)}&order=oldest")
    assert over_time["total"] >= 1 and {group["prompt"] for group in over_time["groups"]} == {prompt}
    assert page.get(f"{RUN}/groups?search=nothingofthatkind")["total"] == 0
    assert page.get(f"{RUN}/groups?search=carry&limit=1")["total"] == 120


def test_lengths_are_counted_by_verdict(page) -> None:
    """Right and wrong mixed into one histogram show nothing."""
    found = page.get(f"{RUN}/lengths?from=1&to=10&bins=5")
    assert sum(found["right"]) + sum(found["not_right"]) == 10 * 24 and len(found["edges"]) == len(found["right"]) + 1


def test_a_comparison_begins_with_what_is_set_otherwise(page) -> None:
    """Two curves side by side say nothing while one does not know what differs."""
    record(page.folder / "slow", steps=10, rate=2e-5)
    found = page.get(f"/api/compare?run={quote('first run')}&run=slow")
    different = {row["key"]: row["values"] for row in found["different"]}
    assert different == {"train.learning_rate": ["0.0002", "2e-05"], "train.max_steps": ["30", "10"]}
    assert [one["step"] for one in found["figures"]] == [30, 10] and found["figures"][0]["after"] > found["figures"][1]["after"]
    assert page.raw("/api/compare?run=nobody")[0] == 404


def test_a_setting_that_a_record_does_not_know_is_at_its_default(page) -> None:
    """Each setting that was added since stood among the differences of two runs that were told the same."""
    page.dashboard.shelf.defaults = lambda: {"train": {"strict": [], "pace": 1.0}}
    old, new = page.folder / "first run" / "config.toml", page.folder / "new"
    record(new, steps=30)
    (new / "config.toml").write_text(old.read_text().replace("[train]", "[data]\nlimit = 5\n[train]\nstrict = []\npace = 2.0"))
    found = page.get(f"/api/compare?run={quote('first run')}&run=new")
    assert found["different"] == [
        {"key": "data.limit", "values": [None, "5"], "absent": "not set"},
        {"key": "train.pace", "values": [None, "2.0"], "absent": "not recorded"},
    ]
    assert found["unrecorded"] == [{"key": "train.strict", "values": [None, "[]"], "absent": "not recorded"}]


def test_every_registered_number_is_explained_with_its_value(page) -> None:
    """A section whose first definition was renamed would swallow the rest, and a logged name without a definition would be hidden."""
    sections = page.get(f"{RUN}/explain")
    assert [section["title"] for section in sections] == [title for title, _ in explain.SECTIONS]
    shown = {metric["name"]: metric for section in sections for metric in section["metrics"]}
    assert set(shown) == {metric.name for metric in registered()}
    assert shown["rewards/<name>/mean"]["values"][1]["name"] == "rewards/number_right/mean"
    assert shown["reward"]["values"][0]["value"] is not None
    own = explain.explain(["my_loss/mark"], {"my_loss/mark": 2.0})[-1]
    assert own["title"] == explain.UNREGISTERED and own["metrics"][0]["values"] == [{"name": "my_loss/mark", "value": 2.0}]


def test_a_glimpse_shows_the_whole_of_a_long_record_with_few_reads(tmp_path: Path) -> None:
    """The list of runs would read gigabytes, or show the end of a run alone."""
    path = tmp_path / "metrics.jsonl"
    written = [json.dumps({"step": step, "reward": step, "pad": "x" * (step % 300)}) + "\n" for step in range(1, 5001)]
    path.write_text("".join(written) + '{"step": 50')
    steps = [one["step"] for one in lines.spread(path, 40)]
    assert 35 <= len(steps) <= 41 and (steps[0], steps[-1]) == (1, 5000)
    assert max(later - earlier for earlier, later in itertools.pairwise(steps)) < 400
    assert lines.spread(tmp_path / "none", 40) == []


def test_whoever_asks_does_not_wait_for_an_index_that_is_far_behind(page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is opened on a large run would show nothing for minutes; one that is told never to wait would stay behind for ever."""
    import heron.dashboard.freshness as freshness

    steps = [0]

    class Slow:
        def refresh(self, seconds: float) -> Progress:
            time.sleep(seconds)
            steps[0] += 1
            return Progress(metrics_bytes_done=steps[0], metrics_bytes_total=6, rollouts_done=1, rollouts_total=1)

    monkeypatch.setattr(freshness, "BEHIND_S", 0.05)
    fresh = freshness.Freshness(Slow())  # type: ignore[arg-type]
    fresh.look()
    assert steps[0] >= 1 and fresh.is_behind
    began = time.monotonic()
    for _ in range(100):
        fresh.look()
    assert time.monotonic() - began < 0.1
    while fresh.is_behind:
        time.sleep(0.02)
    assert steps[0] == 6


def test_a_torn_last_line_is_not_read_for_ever(page) -> None:
    """The page of a killed run would say that it is being read, and keep a core busy."""
    record(page.folder / "torn", steps=3, finish=False).close()
    with open(page.folder / "torn" / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 4, "rew')
    opened = page.dashboard.shelf.open("torn")
    time.sleep(0.3)
    assert not opened.fresh.is_behind and page.get("/api/runs/torn")["reading"] is None and page.get("/api/runs/torn")["step"] == 3


def test_the_state_of_a_long_run_reads_its_ends_only(page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that parses a hundred thousand records each second stands still."""
    writer = RunWriter.create(page.folder / "long", config_toml="", manifest={})
    lines = "".join(json.dumps({"step": step, "reward": 1.0, "reward_std": 1.0}) + "\n" for step in range(1, 20001))
    (page.folder / "long" / "metrics.jsonl").write_text(lines)
    evaluate(writer, "before", 0)
    opened = page.dashboard.shelf.open("long")
    monkeypatch.setattr(type(opened.run), "metrics", lambda self: pytest.fail("all of them were read"))
    state = views.state(opened)
    assert state["step"] == 20000 and len(views._looked_at(opened, opened.index.latest(TAIL))) == views.HEAD + TAIL
    writer.close()


def test_what_is_said_of_all_steps_of_a_long_run_is_true(page) -> None:
    """Prevents: "no answer was ever right", of a run that was right in its middle, which is not read line by line."""
    def step(number: int) -> dict[str, Any]:
        right = 0.5 if 300 < number <= 400 else 0.0
        return {"step": number, "reward": right, "reward_std": 0.3, "pass@1": right, "rewards/dead/mean": 0.0, "rewards/dead/std": 0.0}

    writer = RunWriter.create(page.folder / "middle", config_toml="", manifest={})
    (page.folder / "middle" / "metrics.jsonl").write_text("".join(json.dumps(step(number)) + "\n" for number in range(1, 1001)))
    opened = page.dashboard.shelf.open("middle")
    while opened.fresh.is_behind or opened.whole.look() is None:
        time.sleep(0.02)
    told = {alert["id"]: alert["evidence"] for alert in views.state(opened)["alerts"]}
    assert "never-right" not in told and "(1000 steps)" in told["dead-reward"]
    writer.log(1001, step(1001))
    opened.index.refresh()
    assert "(1001 steps)" in {alert["id"]: alert["evidence"] for alert in views.state(opened)["alerts"]}["dead-reward"]
    writer.close()
    RunWriter.reopen(page.folder / "middle", last_step=250).close()
    opened.index.refresh()
    known = opened.whole.look()
    assert known is not None and known.steps == 250, "steps were taken back"
