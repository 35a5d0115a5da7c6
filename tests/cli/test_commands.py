"""The command line at its edges: interrupted, misspelt, or given something that is not there. Nothing here loads a model."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from heron.cli import main
from heron.errors import ConfigError, HeronError
from heron.run import RunWriter


def heron(*words: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main.app, words, input=stdin)


def refusal(*words: str, stdin: bytes | None = None) -> str:
    """The message of the error of ours that this command ends with."""
    error = heron(*words, stdin=stdin).exception
    assert isinstance(error, HeronError), repr(error)
    assert error.exit_code == 2
    return str(error)


def a_run(path: Path, *, steps: int = 0, **manifest: Any) -> Path:
    writer = RunWriter.create(path, config_toml="", manifest=manifest)
    for step in range(1, steps + 1):
        writer.log(step, {"reward": 1.0})
    writer.close()
    return path


def ctrl_c(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


class TestInterrupted:
    """Ctrl-C ends with a line and the exit code 130, wherever it comes."""

    @pytest.mark.parametrize(
        ("state", "words"),
        [
            (None, "Interrupted; nothing was trained yet."),
            ({}, "Interrupted. Go on with: heron resume "),
            ({"rewards_from_python": True}, "Interrupted. Go on with: heron.resume("),
        ],
    )
    def test_train_says_what_is_left(
        self, state: dict[str, Any] | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Prevents: a warm-up of a minute that ends in silence, and advice that the run then refuses."""

        def train(config: Any, path: Path, **_: Any) -> None:
            if state is not None:
                a_run(path, **state)
            raise KeyboardInterrupt

        monkeypatch.setattr("heron.api.train_config", train)
        result = heron("train", "--run-dir", str(tmp_path / "run"))
        assert result.exit_code == 130 and words in result.stderr and len(result.stderr.splitlines()) == 1

    @pytest.mark.parametrize("is_interrupted", [True, False])
    def test_an_import_that_swallows_the_signal(self, is_interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a traceback about a package that "cannot be imported" because Ctrl-C came while it was; or hiding a true one."""

        def train(config: Any, path: Path, **_: Any) -> None:
            with contextlib.suppress(KeyboardInterrupt):
                if is_interrupted:
                    signal.raise_signal(signal.SIGINT)
            raise ModuleNotFoundError("half a package")

        monkeypatch.setattr("heron.api.train_config", train)
        before = signal.getsignal(signal.SIGINT)
        result = heron("train", "--run-dir", str(tmp_path / "run"))
        assert (result.exit_code == 130) == is_interrupted and isinstance(result.exception, ModuleNotFoundError) != is_interrupted
        assert signal.getsignal(signal.SIGINT) is before

    def test_resume_can_be_resumed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: silence where loading a resumed run is interrupted."""
        monkeypatch.setattr("heron.api.resume_config", ctrl_c)
        result = heron("resume", str(a_run(tmp_path / "run", steps=1)))
        assert result.exit_code == 130 and f"heron resume {tmp_path / 'run'}" in result.stderr

    def test_any_other_verb(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a verb that nobody thought of ending in silence."""
        monkeypatch.setattr("heron.run.list_runs", ctrl_c)
        result = heron("runs")
        assert result.exit_code == 130 and result.stderr == "Interrupted.\n"


class TestEntryPoint:
    """`main` turns whatever ends a command into an exit code and a message."""

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["--help"], 0, ""), (["recipes", "--no-such"], 2, "No such option"), (["no-such-verb"], 2, "No such command"),
            (["eval", "nowhere"], 2, "heron: There is no run at nowhere."), (["train", "nonsense"], 2, "heron: "),
        ],
    )
    def test_exit_codes(
        self, words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Prevents: usage errors and errors of ours that lose their message or their code."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["heron", *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        said = capsys.readouterr().err
        assert end.value.code == code and message in said and "Traceback" not in said

    @pytest.mark.parametrize("words", [["-h"], ["train", "-h"], ["curve", "-h"], ["train", "gsm8k", "-h"]])
    def test_short_help(self, words: list[str]) -> None:
        """Prevents: `heron train -h` being read as a recipe of that name."""
        result = heron(*words)
        assert result.exit_code == 0 and "Usage" in result.output


class TestMisspelt:
    """An option that does not exist is an error that names the one that was meant."""

    @pytest.mark.parametrize(
        ("words", "meant"),
        [
            (["train", "--rundir", "x"], "--run-dir"), (["train", "--run_dir", "x"], "--run-dir"), (["train", "--run_dir=x"], "--run-dir"),
            (["train", "--sed", "1"], "--seed"), (["train", "gsm8k", "--max_steps", "3"], "--train.max_steps=VALUE"),
            (["train", "--max-step=3"], "--train.max_steps=VALUE"), (["plan", "--seed", "3"], "--train.seed=VALUE"),
        ],
    )
    def test_option(self, words: list[str], meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a run that starts in another folder, or with another seed, than was asked for; or an error without help."""
        monkeypatch.setattr("heron.api.train_config", ctrl_c)
        message = refusal(*words)
        assert f"There is no option {words[-1].partition('=')[0] if '=' in words[-1] else words[-2]}." in message
        assert f"Did you mean {meant}?" in message

    def test_option_that_is_like_no_other(self) -> None:
        """Prevents: a single dash being taken for a recipe's name."""
        assert "There is no option -q." in refusal("train", "-q")

    def test_settings_still_get_through(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: the check refusing what it should let pass, negative numbers among it."""
        given: list[Any] = []

        def train(config: Any, path: Path, **_: Any) -> Any:
            given.append(config)
            raise ConfigError("far enough")

        monkeypatch.setattr("heron.api.train_config", train)
        refusal("train", "--train.max_steps", "3", "gsm8k", "--objective.epsilon=0.3", "--seed", "5")
        assert (given[0].recipe, given[0].train.max_steps, given[0].objective.epsilon, given[0].train.seed) == ("gsm8k", 3, 0.3, 5)
        refusal("train", "--forever", "--train.lr_scheduler_type=constant")
        assert given[1].train.forever and not given[0].train.forever


def test_curve_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Prevents: a traceback for a mistyped path."""
    run = a_run(tmp_path / "run", steps=2)
    assert "cannot be written: No such file or directory" in refusal("curve", str(run), str(tmp_path / "nope" / "x.svg"))
    assert "cannot be written: Is a directory" in refusal("curve", str(run), str(tmp_path))


class TestQuestions:
    """`heron chat` answers questions; what is none is refused."""

    @pytest.fixture(autouse=True)
    def _parrot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Parrot:
            def ask(self, question: str) -> str:
                return f"said {question}"

        of_run: Callable[..., Parrot] = lambda *_, **__: Parrot()  # noqa: E731
        monkeypatch.setattr("heron.serving.conversation.Conversation.of_run", of_run)

    @pytest.mark.parametrize("question", ["", "  \n", "\udcff\udcfe"])
    def test_no_question(self, question: str, tmp_path: Path) -> None:
        """Prevents: an answer to nothing, or a traceback from the tokenizer."""
        assert "The question is" in refusal("chat", str(a_run(tmp_path / "run")), question)

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        """Prevents: a traceback of the decoder, which names neither the line nor what to do."""
        assert "is not UTF-8 text: b'caf\\xe9?'" in refusal("chat", str(a_run(tmp_path / "run")), stdin=b"caf\xe9?\n")

    def test_lines(self, tmp_path: Path) -> None:
        """Prevents: empty lines of a file being refused, or text beyond ASCII being harmed."""
        shown = heron("chat", str(a_run(tmp_path / "run")), stdin="première\n\nzwei\n".encode()).output
        assert "said première" in shown and "said zwei" in shown
