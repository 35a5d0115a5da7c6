"""What is read bit by bit is what is read at once; nothing is given out too early, and nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from heron.engine.native.sequence import Sequence, Uniforms
from heron.environments.tool_calls import find_calls
from heron.models.embedded import build_tokenizer
from heron.serving.speech import Piece, Speech, Splitter, opened_by
from heron.types import FinishReason, Tags

TAGS = Tags()
TOKENIZER = build_tokenizer(TAGS)
PARTS = (
    "<think>", "</think>", "<start_working_out>", "<end_working_out>", "<SOLUTION>", "<tool_call>", "</tool_call>", "\n", " ", "call:",
    '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>', "\ncall: f(x=1)\n", "call: f(", "<", "a", "é", "€", "𝄞", "stop", "st",
)


class Reader:
    """As much of a policy as reading needs."""

    end_ids = frozenset({TOKENIZER.eos_token_id})

    def decode(self, token_ids: list[int]) -> str:
        return str(TOKENIZER.decode([token for token in token_ids if token not in self.end_ids]))


def heard(text: str, every: int, *, stop: tuple[str, ...] = (), opened: str = "") -> list[Piece]:
    """Pieces of an answer that is read after every so many tokens."""
    speech = Speech(Reader(), stop, Splitter(TAGS, opened=opened, tools={"f"}))  # type: ignore[arg-type]
    sequence = Sequence(request=0, sibling=0, prompt_ids=(1,), uniforms=Uniforms(0))
    pieces: list[Piece] = []
    tokens = [*TOKENIZER(text, add_special_tokens=False)["input_ids"], TOKENIZER.eos_token_id]
    for number, token in enumerate(tokens, 1):
        sequence.say(token, 0.0, 0.0, 0)
        if number == len(tokens):
            sequence.finish_reason = FinishReason.STOP
        if number % every == 0 or number == len(tokens):
            pieces += speech.read(sequence)
    return pieces


def told(pieces: list[Piece]) -> tuple[str, str, list[str]]:
    """Thoughts, text, calls."""
    thought = "".join(piece.text for piece in pieces if piece.is_reasoning)
    return thought, "".join(piece.text for piece in pieces if not piece.is_reasoning), [str(piece.call) for piece in pieces if piece.call]


@given(parts=some.lists(some.sampled_from(PARTS), max_size=12), every=some.integers(1, 5), opened=some.sampled_from(["", "<think>"]))
def test_bit_by_bit_is_at_once(parts: list[str], every: int, opened: str) -> None:
    """Prevents: a tag, a call, a stop or a character that is seen only if it comes in one piece."""
    text = "".join(parts)
    for stop in ((), ("stop",), ("€", "a\n")):
        assert told(heard(text, every, stop=stop, opened=opened)) == told(heard(text, 10**6, stop=stop, opened=opened))


@given(parts=some.lists(some.sampled_from(PARTS), max_size=12))
def test_nothing_is_lost(parts: list[str]) -> None:
    """Prevents: words that are neither thought, nor text, nor called: all but tags and the white space beside them is given out."""
    text = "".join(parts)
    thought, said, calls = told(heard(text, 1))
    for mark in PARTS[:4]:
        text, said, thought = (each.replace(mark, "") for each in (text, said, thought))
    kept = [len("".join(each.split())) for each in (text, said, thought)]
    lengths = {len("".join(part.split())) for part in PARTS if "f(x=1)" in part or '"f"' in part}
    assert calls or kept[0] == kept[1] + kept[2]
    assert not calls or kept[0] - kept[1] - kept[2] >= min(lengths) * len(calls)


@given(
    parts=some.lists(some.sampled_from(PARTS[4:]), max_size=12),
    thought=some.sampled_from(["", "<start_working_out>call: f()\n<end_working_out>"]),
)
def test_calls_are_those_that_training_counts(parts: list[str], thought: str) -> None:
    """Prevents: a call that is carried out here and was none in training, or the other way round."""
    text = thought + "".join(parts)
    known = [str(call) for call in find_calls(text, TAGS) if call.wrong is None and call.name == "f"]
    assert told(heard(text, 1))[2] == known


def test_what_is_certain_is_given_out_at_once() -> None:
    """Prevents: a stream that holds all text back until the end."""
    assert [piece.text for piece in heard("hello", 1)] == list("hello")
    assert [piece.text for piece in heard("no storm", 1, stop=("stop",))] == ["n", "o", " ", "stor", "m"]


def test_an_opening_tag_at_the_end_of_a_prompt() -> None:
    """Prevents: a prompt that mentions a tag being taken for one that opens the reasoning."""
    assert opened_by("<|assistant|><think>\n", TAGS) == "<think>"
    assert opened_by("say <think>, please", TAGS) == ""
