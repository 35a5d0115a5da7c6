"""`heron sandbox status` and `heron sandbox selftest`: what they say is what is so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from heron.cli.main import app
from heron.errors import SandboxError
from heron.sandbox import Result, Status, choosing
from heron.sandbox.attacks import ATTACKS
from heron.sandbox.backends import BACKENDS
from heron.sandbox.selftest import Outcome


def outcome(attack: str, problem: str = "") -> Outcome:
    result = Result(status=Status.FINISHED, reason="", stdout="", stderr="", seconds=0.1, backend="landlock")
    return Outcome(attack=attack, problem=problem, result=result)


def test_status_says_what_holds_and_what_does_not() -> None:
    """Prevents: a sandbox of which nobody knows what it leaves open."""
    shown = CliRunner().invoke(app, ["sandbox", "status"], catch_exceptions=False)
    assert shown.exit_code == 0 and shown.output.startswith("auto takes: ")
    for backend in BACKENDS.values():
        assert all(text in shown.output for text in (backend.name, *backend.holds, *backend.leaves))


def test_status_where_nothing_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a status that cannot be asked for where it is needed most."""
    monkeypatch.setattr(choosing, "why_not", lambda name: "it is not there: install it")
    shown = CliRunner().invoke(app, ["sandbox", "status"], catch_exceptions=False)
    assert shown.exit_code == 0 and "auto takes: nothing" in shown.output and shown.output.count("install it") == 5


@pytest.mark.parametrize(("problem", "code", "said"), [("", 0, "1 of 1 attacks held"), ("the secret", 1, "GOT OUT: the secret")])
def test_selftest_fails_when_one_gets_out(problem: str, code: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a self-test that a script takes for passed."""
    def selftest(backend: str, attacks: object) -> Iterator[Outcome]:
        yield outcome("read_home", problem)

    monkeypatch.setattr("heron.sandbox.backend_name", lambda asked: "landlock")
    monkeypatch.setattr("heron.sandbox.attacks.ATTACKS", ATTACKS[:1])
    monkeypatch.setattr("heron.sandbox.selftest.selftest", selftest)
    shown = CliRunner().invoke(app, ["sandbox", "selftest"], catch_exceptions=False)
    assert shown.exit_code == code and said in shown.output


def test_selftest_refuses_an_unknown_backend() -> None:
    result = CliRunner().invoke(app, ["sandbox", "selftest", "--backend", "wall"])
    assert isinstance(result.exception, SandboxError)
