"""How a run looks in a terminal: pure functions from what is known of it to something that `rich` prints.

The one hard idea: everything becomes a `Text`, never a string that `rich` could read as markup, since reward functions, models and
messages are named by others. The plain lines are ASCII, so that they survive any log file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from heron.run.alerts import Alert, History
from heron.run.averages import finite, mean
from heron.run.curve import sparkline
from heron.run.text import clean, count, duration, number, one_line, share, share_with_interval, short_duration

PHASES = ("sample", "score", "train")
OUTCOMES = (("all right", "groups/all_right"), ("mixed", "groups/mixed"), ("all wrong", "groups/all_wrong"))
RECENT = 20
"""Steps whose mean duration the time left is reckoned with."""
MOST = 128
"""Steps that are kept; of a longer run every second, fourth, ... and the newest."""


@dataclass(slots=True)
class View:
    """What the terminal knows of a run: the listener fills it in, the functions below draw it."""

    start: Mapping[str, Any] = field(default_factory=dict)
    """The payload of the event "start"."""
    metrics: list[Mapping[str, Any]] = field(default_factory=list)
    """Steps heard of, as many as a curve needs: see `remember`."""
    every: int = 1
    """Of the older ones, those are kept whose number this divides."""
    evaluations: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Totals by name, oldest first."""
    progress: tuple[str, int, int] | None = None
    """Phase, done, total."""
    alerts: list[Alert] = field(default_factory=list)
    """What has looked wrong so far, the newest last."""
    began: float = 0.0
    """Clock at the start."""

    def remember(self, record: Mapping[str, Any]) -> None:
        """A step, in place of those from there on if it is taken anew; of a long run the older ones are thinned out evenly."""
        steps = self.metrics
        while steps and steps[-1]["step"] >= record["step"]:  # a resumed run takes steps anew
            steps.pop()
        steps.append(record)
        if len(steps) > RECENT and steps[-RECENT - 1]["step"] % self.every:
            del steps[-RECENT - 1]
        if len(steps) > MOST:
            self.every *= 2
            steps[:-RECENT] = [each for each in steps[:-RECENT] if each["step"] % self.every == 0]

    @property
    def step(self) -> int:
        return int(self.metrics[-1]["step"]) if self.metrics else int(self.start.get("first_step", 1)) - 1

    @property
    def max_steps(self) -> int:
        return int(self.start.get("max_steps", 0))

    def seconds_left(self) -> float | None:
        """Steps to go times the mean of the latest ones; the evaluation at the end is not in it."""
        recent = finite([record.get("time/step") for record in self.metrics[-RECENT:]])
        return mean(recent) * (self.max_steps - self.step) if recent and self.max_steps else None


def live_panel(view: View, now: float) -> RenderableType:
    """The whole live view."""
    parts: list[RenderableType] = [_progress(view, now)]
    if view.metrics:
        parts += [Text(), _rewards(view), Text(), _luck(view.metrics[-1]), _health(view.metrics[-1]), Text(), _phases(view.metrics[-1])]
    parts += [Text(), *_held_out(view)] if view.evaluations else []
    parts += _alerts(view)
    return Panel(Group(*parts), box=ROUNDED, title=_title(view), title_align="left", border_style="cyan", padding=(0, 1))


def plain_line(view: View) -> str:
    """One step as one line, for a log file."""
    last = view.metrics[-1]
    names = _reward_names(last)
    parts = [
        f"step {view.step}/{view.max_steps}" if view.max_steps else f"step {view.step}",
        f"reward {number(last.get('reward'))}",
        *(f"{one_line(name, 24)} {number(last.get(f'rewards/{name}/mean'))}" for name in names if len(names) > 1),
        f"signal {share(last.get('groups/with_signal'))}",
        f"length {number(last.get('completions/mean_length'), 0)}",
        f"truncated {share(last.get('completions/clipped_ratio'))}",
        f"{number(last.get('time/step'), 1)} s",
    ]
    left = view.seconds_left()
    return " | ".join([*parts, f"left {duration(left)}"] if left else parts)


def start_lines(start: Mapping[str, Any]) -> list[str]:
    """The run in a few words, for the top of a log file."""
    total, trained = count(start.get("parameters")), count(start.get("trainable_parameters"))
    prompts, heldout = count(start.get("prompts")), count(start.get("heldout"))
    lines = [
        f"{one_line(start.get('model', '?'), 80)}: {total} parameters, {trained} trained",
        f"{prompts} prompts, {heldout} held out; run directory {clean(start.get('run_dir', '?'))}",
    ]
    return [*lines, clean(start["estimate"])] if start.get("estimate") else lines


def evaluation_line(name: str, totals: Mapping[str, Any]) -> str:
    """An evaluation as one line."""
    words = f"held-out {clean(name)}: accuracy {share_with_interval(totals, 'accuracy')}"
    if totals.get("pass_at_1") is not None:
        words += f", pass@1 {share_with_interval(totals, 'pass_at_1')}"
    return f"{words}, {count(totals.get('problems'))} problems"


def alert_line(alert: Alert) -> str:
    """An alert as one line."""
    return clean(f"! {alert.title}: {alert.evidence}. {alert.advice}")


def _title(view: View) -> Text:
    words = Text(" heron ", style="bold cyan")
    model, trained = view.start.get("model"), view.start.get("trainable_parameters")
    if model:
        words.append(f"· {one_line(model, 36)} ", style="default")
    if trained:
        words.append(f"· {_millions(trained)} of {_millions(view.start.get('parameters', trained))} parameters trained ", style="dim")
    return words


def _progress(view: View, now: float) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=9)
    table.add_column(width=30)
    table.add_column(no_wrap=True, overflow="ellipsis")
    left = view.seconds_left()
    times = f"{duration(now - view.began)} elapsed" + (f" · {duration(left)} left" if left else "")
    steps = Text(f"{view.step}/{view.max_steps}  ", style="bold") if view.max_steps else Text()
    table.add_row(Text("step"), _bar(view.step, view.max_steps), steps + Text(times, style="dim"))
    if view.progress:
        phase, done, total = view.progress
        table.add_row(Text(one_line(phase, 9)), _bar(done, total), Text(f"{count(done)}/{count(total)}", style="dim"))
    return table


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(total=total or 1, completed=done, width=30, complete_style="cyan", finished_style="green")


def _rewards(view: View) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=26)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row(*_reward_row(view, "reward", "reward", "reward_std", "bold green"))
    for name in _reward_names(view.metrics[-1]):
        table.add_row(*_reward_row(view, f"  {one_line(name, 40)}", f"rewards/{name}/mean", f"rewards/{name}/std", "default"))
    return table


def _reward_row(view: View, label: str, mean: str, std: str, style: str) -> tuple[Text, Text, Text, Text]:
    last = view.metrics[-1]
    curve = Text(sparkline([record.get(mean) for record in view.metrics], 30), style="green" if mean == "reward" else "cyan")
    return Text(label, style=style), Text(number(last.get(mean)), style=style), Text(f"± {number(last.get(std))}"), curve


def _health(last: Mapping[str, Any]) -> Text:
    low, high = last.get("completions/min_length"), last.get("completions/max_length")
    span = "" if low is None or high is None else f" ({low:.0f} to {high:.0f})"
    figures = [
        ("length", number(last.get("completions/mean_length"), 0) + span),
        ("truncated", share(last.get("completions/clipped_ratio"))),
        *([("entropy", number(last["entropy"]))] if last.get("entropy") is not None else []),
        *([("KL", number(last["kl"], 4))] if last.get("kl") is not None else []),
    ]
    return _figures(figures)


def _luck(last: Mapping[str, Any]) -> Text:
    """How many groups teach, and whether the others are all right or all wrong."""
    outcomes = [(name, share(last[key])) for name, key in OUTCOMES if last.get(key) is not None]
    return _figures([("signal in", f"{share(last.get('groups/with_signal'))} of groups"), *outcomes])


def _figures(figures: Sequence[tuple[str, str]]) -> Text:
    words = Text()
    for label, value in figures:
        words.append(f"{label} ", style="dim").append(f"{value}   ")
    return words


def _phases(last: Mapping[str, Any]) -> Text:
    words = Text()
    for phase in PHASES:
        words.append(f"{phase} ", style="dim").append(short_duration(last.get(f"time/{phase}", 0.0)))
        speed = last.get(f"throughput/{phase}_tokens_per_second")
        words.append(f" at {count(speed)} tok/s   " if speed is not None else "   ")
    if last.get("memory/peak_gib") is not None:
        words.append("memory ", style="dim").append(f"{number(last['memory/peak_gib'])} GiB peak")
    return words


def _held_out(view: View) -> list[Text]:
    latest = list(view.evaluations.items())
    shown = latest if len(latest) <= 3 else [latest[0], *latest[-2:]]
    return [Text(evaluation_line(name, totals)) for name, totals in shown]


def _alerts(view: View) -> list[Text]:
    return [Text(alert_line(alert), style="yellow") for alert in view.alerts[-2:]]


def _reward_names(last: Mapping[str, Any]) -> list[str]:
    return History(metrics=[last]).reward_names()


def _millions(value: float) -> str:
    return f"{value / 1e9:.2f} B" if value >= 1e9 else f"{value / 1e6:.2f} M"
