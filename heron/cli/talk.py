"""The conversation in a terminal: answers as they are said, thinking folded, a few commands.

The one hard idea: Ctrl-C stops what is being said, and nothing else; the conversation goes on with what was said until then. What models
say is cleaned before it reaches the terminal, character by character, so that it does not matter where a piece ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from heron.errors import ConfigError, HeronError, did_you_mean
from heron.run.text import clean

if TYPE_CHECKING:
    from heron.serving.conversation import Conversation

COMMANDS = {
    "/thinking": "show what is thought before an answer, or fold it again", "/reset": "begin the conversation anew", "/help": "this list",
    "/quit": "end, as do Ctrl-D and an empty line",
}


class Talk:
    """A conversation with one model, or with two side by side."""

    def __init__(self, models: Mapping[str, Conversation], console: Console) -> None:
        self.models = models
        self.console = console
        self.shows_thinking = False

    def run(self, read: Callable[[], str | None]) -> None:
        """Answer what is read until that is None, empty, or `/quit`."""
        self._dim("Ask something. /help lists the commands; Ctrl-C stops an answer; an empty line ends.")
        while True:
            try:
                line = read()
            except KeyboardInterrupt:
                self._dim("An empty line or /quit ends.")
                continue
            if not line or not line.strip() or line.strip() == "/quit":
                return
            self._heed(line.strip())

    def _heed(self, line: str) -> None:
        if not line.startswith("/"):
            return self._ask(line)
        if line == "/thinking":
            return self._toggle_thinking()
        if line == "/reset":
            for model in self.models.values():
                model.reset()
            return self._dim("The conversation begins anew.")
        if line != "/help":
            self._dim(f"There is no command {line.split()[0]}.{did_you_mean(line, COMMANDS)}")
        for name, what in COMMANDS.items():
            self._dim(f"{name:<10} {what}")
        return None

    def _ask(self, question: str) -> None:
        for name, model in self.models.items():
            if len(self.models) > 1:
                self.console.print(Text(name, style="bold"))
            try:
                check_readable(question)
                self._answer(model, question)
            except KeyboardInterrupt:
                self._dim("\n(stopped)")
                return
            except HeronError as error:
                self._dim(f"{error} (/reset begins the conversation anew.)")

    def _answer(self, model: Conversation, question: str) -> None:
        pieces = model.say(question)
        is_thinking, has_said = False, False
        try:
            for piece in pieces:
                if piece.is_reasoning:
                    is_thinking = True
                    self._thought(piece.text)
                    continue
                if is_thinking:
                    self._fold(model)
                is_thinking, has_said = False, True
                self.console.print(Text(clean(piece.text)), end="", soft_wrap=True)
        finally:
            pieces.close()  # type: ignore[attr-defined]
        if is_thinking:
            self._fold(model)
        if has_said:
            self.console.print()

    def _thought(self, text: str) -> None:
        if self.shows_thinking:
            self.console.print(Text(clean(text), style="dim"), end="", soft_wrap=True)

    def _fold(self, model: Conversation) -> None:
        told = f"thought for {model.thought_tokens} tokens"
        self._dim(f"\n{told}" if self.shows_thinking else f"{told} (/thinking shows it)")

    def _toggle_thinking(self) -> None:
        self.shows_thinking = not self.shows_thinking
        self._dim("Thinking is shown." if self.shows_thinking else "Thinking is folded.")
        for model in self.models.values():
            if self.shows_thinking and model.thought:
                self._dim(model.thought)

    def _dim(self, text: str) -> None:
        self.console.print(Text(clean(text), style="dim"), soft_wrap=True)


def check_readable(question: str) -> None:
    """ConfigError if there is nothing to answer, or if it is not text."""
    if not question.strip():
        raise ConfigError("The question is empty. Give one in quotes, or leave it out to type questions line by line.")
    if any("\udc80" <= character <= "\udcff" for character in question):
        shown = question.encode("utf-8", "surrogateescape")
        raise ConfigError(f"The question is not UTF-8 text: {shown[:80]!r}. Save or pipe it as UTF-8.")
