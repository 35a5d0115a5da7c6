"""Ollama's Modelfile: the prompt template in Go's language, what ends an answer, the run's system prompt, and how it was sampled.

The one hard idea: a chat template is a program, and no program is translated here. Conversations of marks are rendered instead, and what
stands between the marks are the pieces of a template that gives every message of a role the same form. A set of other conversations is
then put together from the pieces; if one of them comes out otherwise than the chat template writes it, there is no Modelfile, and the
export says why. Two forms that families really have are known besides: a default system prompt, and a system prompt that goes into the
first question (Gemma).

Left out: tools. Ollama takes white space and earlier thoughts as they are; where the chat template cuts them, the notes say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heron.config import Config
from heron.errors import TemplateError
from heron.models import Policy
from heron.types import Message

SYSTEM, USER, ANSWER, AGAIN = (f"\u2063{name}\u2063" for name in ("system", "user", "answer", "again"))
"""Marks that no template writes by itself."""
OLLAMAS_ROOM = 4096
"""Tokens of a conversation that Ollama keeps, where it is told nothing and has less than 24 GiB of video memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Modelfile:
    """What is to be told to Ollama."""

    text: str | None
    """The file, or None where the chat template cannot be said in it."""
    notes: tuple[str, ...]
    """What differs, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A chat template that gives every message of a role the same form."""

    without_system: str
    """Before everything, where there is no system prompt: the template's own, or nothing."""
    system: tuple[str, str]
    """Before and after the system prompt."""
    after_system: tuple[str, str]
    """Around the first question behind a system prompt."""
    user: tuple[str, str]
    """Around every other question."""
    answer: tuple[str, str]
    """Around an answer."""
    opening: str
    """Before the answer that is asked for."""

    def render(self, messages: Sequence[Message]) -> str:
        """A conversation as these pieces write it."""
        has_system = messages[0]["role"] == "system"
        text = "" if has_system else self.without_system
        for number, message in enumerate(messages):
            role = str(message["role"])
            first = has_system and number == 1
            before, after = {"system": self.system, "user": self.after_system if first else self.user, "assistant": self.answer}[role]
            text += before + str(message["content"]) + after
        return text + self.opening

    def in_go(self) -> str:
        """The same in the language of Go's templates, as Ollama fills them in."""
        def around(pair: tuple[str, str]) -> str:
            return f"{_literal(pair[0])}{{{{ $message.Content }}}}{_literal(pair[1])}"

        user = around(self.user)
        if self.after_system != self.user:
            user = f"{{{{ if and $.System (eq $number 1) }}}}{around(self.after_system)}{{{{ else }}}}{user}{{{{ end }}}}"
        start = f"{{{{ if not .System }}}}{_literal(self.without_system)}{{{{ end }}}}" if self.without_system else ""
        return (
            f"{start}{{{{ range $number, $message := .Messages }}}}"
            f'{{{{ if eq $message.Role "system" }}}}{around(self.system)}'
            f'{{{{ else if eq $message.Role "user" }}}}{user}'
            f'{{{{ else if eq $message.Role "assistant" }}}}{around(self.answer)}{{{{ end }}}}{{{{ end }}}}{_literal(self.opening)}'
        )


def modelfile(policy: Policy, config: Config, file: str, *, system: str | None = None, longest_prompt: int = 0) -> Modelfile:
    """The Modelfile of a GGUF file beside it.

    Args:
        policy: whose chat template it is.
        config: of the run: how it sampled.
        file: name of the GGUF file.
        system: the prompt that all its conversations began with.
        longest_prompt: of those that are known, in tokens.
    """
    try:
        pieces = pieces_of(policy)
    except TemplateError as error:
        return Modelfile(text=None, notes=(f"There is no Modelfile for Ollama: {error} llama.cpp uses the file's chat template.",))
    lines = [f"FROM ./{file}", f"TEMPLATE {_quoted(pieces.in_go())}"]
    lines += [] if system is None else [f"SYSTEM {_quoted(system)}"]
    stops = [text for token in sorted(policy.end_ids) if (text := policy.tokenizer.decode([token], skip_special_tokens=False))]
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops]
    sampling = {"temperature": f"{config.rollout.temperature:g}", "top_k": "0", "top_p": "1", "min_p": "0", "repeat_penalty": "1"}
    room = _room(longest_prompt + config.rollout.max_completion_length, policy.context_length)
    lines += [f"PARAMETER {name} {value}" for name, value in (sampling | room).items()]
    text = "\n".join([*lines, ""])
    if any('"""' in part for part in (pieces.in_go(), system or "", *stops)):
        return Modelfile(text=None, notes=('There is no Modelfile for Ollama: its quotes stand in the template or the system prompt.',))
    return Modelfile(text=text, notes=_notes(policy))


def _room(needed: int, most: int | None) -> dict[str, str]:
    """`num_ctx`, where a question and its answer may need more tokens than Ollama keeps by itself; at most the model's."""
    if needed <= OLLAMAS_ROOM:
        return {}
    rounded = -(-needed // 1024) * 1024
    return {"num_ctx": str(rounded if most is None else min(rounded, most))}


def pieces_of(policy: Policy) -> Pieces:
    """The pieces that the policy's chat template is made of; TemplateError if it is not made of such pieces.

    The begin token is not among them where the file tells llama.cpp to write it.
    """
    if any(word in str(policy.tokenizer.chat_template) for word in ("strftime_now", "strftime")):
        raise TemplateError("the chat template writes today's date, which Ollama's templates cannot.")
    pieces = _take_apart(policy)
    for case in _cases():
        if pieces.render(case) != _render(policy, case):
            shown = ", ".join(str(message["role"]) for message in case)
            raise TemplateError(f"the chat template does not give every message of a role the same form (seen with {shown}), and what it "
                                "does cannot be said exactly in Ollama's templates.")
    return pieces


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


_SYSTEM, _USER, _ANSWER, _AGAIN = (
    _message(*pair) for pair in (("system", SYSTEM), ("user", USER), ("assistant", ANSWER), ("user", AGAIN))
)


def _cases() -> list[list[Message]]:
    """Conversations that the pieces must write as the chat template does."""
    turns = [_message("user", "One?"), _message("assistant", "1"), _message("user", "Two?"), _message("assistant", "2"),
             _message("user", "a \u201cthird\u201d\nline")]
    return [[_USER], [_message("user", "x")], turns, [_message("system", "Be brief."), *turns], [_SYSTEM, _USER],
            [_SYSTEM, _USER, _ANSWER, _AGAIN]]


def _take_apart(policy: Policy) -> Pieces:
    """What stands between the marks. Where a message ends is told by the conversation that ends there."""
    user_end = _between(_render(policy, [_USER], opened=False), USER, None)
    answer_end = _between(_render(policy, [_USER, _ANSWER], opened=False), ANSWER, None)
    talk, told = _render(policy, [_USER, _ANSWER, _AGAIN]), _render(policy, [_SYSTEM, _USER])
    user_start = _cut(_between(talk, ANSWER, AGAIN), answer_end)
    start, to_question = _between(_render(policy, [_USER]), None, USER), _between(told, SYSTEM, USER)
    is_plain = to_question.endswith(user_start)
    return Pieces(
        without_system=start.removesuffix(user_start), opening=_cut(_between(talk, AGAIN, None), user_end),
        system=(_between(told, None, SYSTEM), to_question.removesuffix(user_start)),
        after_system=(user_start if is_plain else "", user_end), user=(user_start, user_end),
        answer=(_cut(_between(talk, USER, ANSWER), user_end), answer_end),
    )


def _between(text: str, first: str | None, second: str | None) -> str:
    """What stands between two marks, of which each must be there once; None is the beginning, or the end."""
    if any(text.count(mark) != 1 for mark in (first, second) if mark is not None):
        raise TemplateError("the chat template drops, repeats or changes what messages say.")
    behind = text if first is None else text.split(first)[1]
    return behind if second is None else behind.split(second)[0]


def _cut(text: str, beginning: str) -> str:
    if not text.startswith(beginning):
        raise TemplateError("the chat template ends a message otherwise where another one follows.")
    return text.removeprefix(beginning)


def _render(policy: Policy, messages: Sequence[Message], *, opened: bool = True) -> str:
    """The conversation as the chat template writes it, without the begin token, and without the opening of an answer if not `opened`."""
    text = policy.render_text(messages, opened=opened)
    bos = policy.tokenizer.bos_token
    return text.removeprefix(bos) if bos else text


def _notes(policy: Policy) -> tuple[str, ...]:
    """What Ollama takes as it is and the chat template does not."""
    asked: Message = {"role": "user", "content": USER}
    notes = []
    spaced: Message = {"role": "user", "content": f"  {USER} "}
    if f"  {USER} " not in policy.render_text([spaced]):
        notes.append("The chat template cuts white space around a message; Ollama does not.")
    thought: Message = {"role": "assistant", "content": f"<think>\n{AGAIN}\n</think>\n\n{ANSWER}"}
    if AGAIN not in policy.render_text([asked, thought, {"role": "user", "content": SYSTEM}]):
        notes.append("The chat template drops the thoughts of earlier answers; Ollama sends them again, so longer talks differ.")
    return tuple(notes)


def _literal(text: str) -> str:
    """Plain text in a Go template; braces that would open an action, also with those of an action behind, are written by one."""
    text = text.replace("{{", '{{ "{{" }}')
    return f'{text[:-1]}{{{{ "{{" }}}}' if text.endswith("{") else text


def _quoted(text: str) -> str:
    return f'"""{text}"""'
