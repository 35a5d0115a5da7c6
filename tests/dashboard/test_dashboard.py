"""The dashboard: who may ask, what is answered, and that what a model wrote never becomes markup."""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import heron.dashboard
from heron.dashboard import Dashboard
from heron.dashboard.server import FILES
from heron.errors import ConfigError, RunError
from heron.run import RunWriter
from heron.types import Completion, FinishReason, Group, Prompt, Rollout, Turn

HOSTILE = "</pre><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script> \u202edne"
STATIC = Path(heron.dashboard.__file__).parent


def group(*advantages: float) -> Group:
    prompt = Prompt(id="rows:1", messages=({"role": "user", "content": "1 + 1?"},), columns={"answer": "2"})
    completion = Completion(token_ids=(5,), logprobs=(-0.1,), finish_reason=FinishReason.STOP, policy_version=0)
    rollout = Rollout(prompt=prompt, turns=(Turn(prompt_ids=(1,), completion=completion),), text=HOSTILE)
    made = [dataclasses.replace(rollout, rewards={"right": value}, reward=value, advantage=value) for value in advantages]
    return Group(prompt=prompt, rollouts=tuple(made))


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    writer = RunWriter.create(tmp_path / "runs" / "a run", config_toml="", manifest={"model": "embedded"})
    writer.event("start", max_steps=3)
    for step in (1, 2, 3):
        writer.log(step, {"reward": float(step), "reward_std": float("nan"), "rewards/right/mean": 0.5, "rewards/right/std": 0.1})
        writer.rollouts(step, [group(-1.0, 1.0, 0.0), group(0.0, 0.0)])
    writer.evaluation("before", [], {"accuracy": 0.25, "accuracy_low": 0.2, "accuracy_high": 0.3, "step": 0})
    return writer


@pytest.fixture
def dashboard(tmp_path: Path, writer: RunWriter) -> Iterator[Dashboard]:
    made = Dashboard(tmp_path / "runs", token="secret")
    made.start()
    yield made
    made.close()


def ask(dashboard: Dashboard, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def get(dashboard: Dashboard, path: str) -> Any:
    status, _, body = ask(dashboard, path, Authorization="Bearer secret")
    assert status == 200, body
    return json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is not JSON: the browser would refuse it"))


@pytest.mark.parametrize("path", ["/", "/app.js", "/api/runs", "/api/runs/a%20run", "/nowhere", "/?token=wrong"])
def test_without_the_token_nothing_is_told(dashboard: Dashboard, path: str) -> None:
    """Any other user of the machine, or any web page that guesses the port, could read prompts and completions."""
    assert ask(dashboard, path)[0] == 403
    assert ask(dashboard, path, Cookie=f"heron_{dashboard.port}=wrong")[0] == 403
    assert ask(dashboard, path, Cookie="\x01;;=", Authorization="Bearer ü".encode().decode("latin-1"))[0] == 403


def test_the_token_moves_from_the_address_into_a_cookie(dashboard: Dashboard) -> None:
    """An address with the token in it ends up in histories and screenshots."""
    status, headers, _ = ask(dashboard, "/?token=secret")
    assert status == 303 and headers["Location"] == "/"
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite" in cookie and str(dashboard.port) in cookie
    status, _, body = ask(dashboard, "/", Cookie=cookie.split(";")[0])
    assert status == 200 and b"/app.js" in body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil.example", ""])
def test_a_foreign_host_name_is_refused_even_with_the_token(dashboard: Dashboard, host: str) -> None:
    """DNS rebinding: a page whose name is made to point to 127.0.0.1 would be same-origin with the dashboard."""
    assert ask(dashboard, "/api/runs", Host=host, Authorization="Bearer secret")[0] == 421


def test_it_listens_on_this_machine_only_and_only_reads(dashboard: Dashboard) -> None:
    """A dashboard on 0.0.0.0 is open to the whole network."""
    assert dashboard._server.server_address[0] == "127.0.0.1" and dashboard.url.startswith("http://127.0.0.1:")
    for method in ("POST", "PUT", "DELETE"):
        assert ask(dashboard, "/api/runs", method=method, Authorization="Bearer secret")[0] == 501


def test_every_answer_forbids_foreign_scripts(dashboard: Dashboard) -> None:
    """Should markup ever slip in, the browser still must not run it."""
    for path in (*FILES, "/api/runs", "/nowhere"):
        headers = ask(dashboard, path, Authorization="Bearer secret")[1]
        assert headers["Content-Security-Policy"].startswith("default-src 'self'") and "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_all_that_the_page_loads_is_served_and_nothing_is_foreign(dashboard: Dashboard) -> None:
    """A forgotten file leaves an empty page; a CDN leaves it empty offline."""
    text = "".join((STATIC / name).read_text() for name, _ in FILES.values())
    for needed in re.findall(r'(?:href|src)="(/[^"]+)"', text) + [f"/{name}" for name in re.findall(r'from "\./([^"]+)"', text)]:
        assert ask(dashboard, needed, Authorization="Bearer secret")[0] == 200, needed
    assert set(re.findall(r"https?://[^\"'\s)]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_the_page_never_makes_markup_of_text() -> None:
    """One `innerHTML` is enough for a completion to run as a script."""
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|createContextualFragment"
    for path in STATIC.glob("*.js"):
        assert not re.search(forbidden, path.read_text()), path.name
    assert "<script>" not in (STATIC / "page.html").read_text() and "style=" not in (STATIC / "page.html").read_text()


def test_runs_are_listed_with_their_figures(dashboard: Dashboard, writer: RunWriter) -> None:
    """The list is how one finds the run that is on its way."""
    (card,) = get(dashboard, "/api/runs")["runs"]
    assert card["name"] == "a run" and card["status"] == "running" and card["step"] == 3 and card["max_steps"] == 3
    assert card["curve"] == [1.0, 2.0, 3.0] and card["before"] == 0.25
    writer.close()
    assert get(dashboard, "/api/runs")["runs"][0]["status"] == "interrupted"


def test_only_new_steps_are_sent_and_a_resume_is_noticed(dashboard: Dashboard, writer: RunWriter, tmp_path: Path) -> None:
    """A page that keeps steps which were taken back shows a curve that never was."""
    whole = get(dashboard, "/api/runs/a%20run")
    assert [record["step"] for record in whole["metrics"]] == [1, 2, 3] and whole["rollout_steps"] == [1, 2, 3]
    assert whole["metrics"][0]["reward_std"] is None and whole["evaluations"][0]["name"] == "before" and whole["generation"] == 0
    assert [record["step"] for record in get(dashboard, "/api/runs/a%20run?after=2")["metrics"]] == [3]
    writer.close()
    RunWriter.reopen(tmp_path / "runs" / "a run", last_step=1).log(2, {"reward": 9.0})
    again = get(dashboard, "/api/runs/a%20run")
    assert again["generation"] == 1 and [record["reward"] for record in again["metrics"]] == [1.0, 9.0]


def test_siblings_are_sorted_by_advantage(dashboard: Dashboard) -> None:
    """What one wants to see is what the best answers have that the worst have not."""
    groups = get(dashboard, "/api/runs/a%20run/rollouts/2")["groups"]
    assert [row["advantage"] for row in groups[0]["siblings"]] == [1.0, 0.0, -1.0]
    assert [group["has_signal"] for group in groups] == [True, False] and groups[0]["siblings"][0]["rewards"] == {"right": 1.0}


@pytest.mark.parametrize(
    "path",
    ["/api/runs/..", "/api/runs/%2e%2e%2f%2e%2e%2fetc", "/api/runs/a%20run/rollouts/..%2f..%2frun", "/api/runs/a%20run/rollouts/99",
     "/api/runs/a%20run/rollouts/-1", "/api/runs/a%20run?after=x", "/../server.py", "/server.py"],
)  # fmt: skip
def test_a_path_never_leaves_the_runs(dashboard: Dashboard, path: str) -> None:
    """A name that becomes a file path reads any file of the machine; a bad step must be an answer, not a dead thread."""
    status, _, body = ask(dashboard, path, Authorization="Bearer secret")
    assert status == 404 and set(json.loads(body)) == {"error"}


def test_a_spoilt_run_does_not_hide_the_others(dashboard: Dashboard, tmp_path: Path) -> None:
    """One broken folder must not empty the whole page."""
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    cards = {card["name"]: card for card in get(dashboard, "/api/runs")["runs"]}
    assert cards["broken"]["status"] == "unreadable" and "run.json" in cards["broken"]["error"] and cards["a run"]["step"] == 3


def test_a_missing_folder_is_said_at_once(tmp_path: Path) -> None:
    """Otherwise one looks at an empty page and waits."""
    with pytest.raises(RunError, match="no folder"):
        Dashboard(tmp_path / "missing")


def test_a_taken_port_is_said_with_a_way_out(dashboard: Dashboard, tmp_path: Path) -> None:
    """Starting the page twice is common; a traceback of the socket module is no answer."""
    with pytest.raises(ConfigError, match=f"Port {dashboard.port} cannot be used.*0 takes a free one"):
        Dashboard(tmp_path / "runs", port=dashboard.port)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_draws_the_run_and_obeys_no_completion(dashboard: Dashboard, tmp_path: Path) -> None:
    """A script error leaves the page empty, and only a browser can tell; a completion that is markup must come out as text."""
    quiet = ("quic", "gpu", "background-networking", "component-update", "sync")
    command = ["chromium", "--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    command += [f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=3000", "--dump-dom", f"{dashboard.url}#{quote('a run')}"]
    page = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    assert "<title>a run · heron</title>" in page, "neither untouched nor owned"
    assert page.count("<polyline") >= 4 and 'class="dot"' in page and "25.0 %" in page
    assert "&lt;script&gt;document.title='owned'" in page and "<img" not in page and "\u202e" not in page
