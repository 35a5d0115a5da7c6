"""What the server says, in OpenAI's form: whole answers, and chunks of a stream.

The one hard idea: a whole answer is a stream that was read at its end, so the two cannot say different things. `Chat` and `Text` differ in
the names of things; `Reply` holds what is the same.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from heron.engine.native.sequence import Sequence as Completing
from heron.environments.tool_calls import Call
from heron.models import Policy
from heron.serving.model import Question, ServedModel
from heron.serving.requests import ChatRequest, TextRequest, Wanted
from heron.serving.speech import Piece, Speech, Splitter
from heron.types import FinishReason

Json = dict[str, Any]


class Reply:
    """Answers to one request. `questions` are its prompts, each answered `n` times."""

    kind = ""
    """`object` of the whole answer."""
    chunk_kind = ""
    """`object` of a chunk."""
    prefix = ""
    """Of its id."""

    def __init__(self, model: ServedModel, wanted: Wanted, questions: Sequence[Question]) -> None:
        self.model = model
        self.wanted = wanted
        self.questions = questions
        self.id = f"{self.prefix}-{uuid.uuid4().hex}"
        self.created = int(time.time())
        each = [question for question in questions for _ in range(wanted.n)]
        self.speeches = [Speech(model.policy, wanted.params.stop, self.splitter(question)) for question in each]
        self._told = [0] * len(self.speeches)  # tokens whose log-probs were given out

    def splitter(self, question: Question) -> Splitter:
        """For one answer to a question."""
        raise NotImplementedError

    def whole(self, sequences: Sequence[Completing]) -> Json:
        """The answer, when all have ended."""
        choices = [
            self._ended({"index": index, **self.said(index, self.speeches[index].read(one))}, index, one)
            for index, one in enumerate(sequences)
        ]
        return {**self._head(self.kind), "choices": choices, "usage": self.usage(sequences)}

    def opening(self) -> list[str]:
        """Events before anything was said."""
        return []

    def news(self, sequences: Sequence[Completing]) -> list[str]:
        """Events for what has been said since the last call."""
        events: list[str] = []
        for index, one in enumerate(sequences):
            speech = self.speeches[index]
            has_ended = one.finish_reason is not None  # noted after its last token, which may have been read already
            if speech.has_ended or (len(one.token_ids) == speech.tokens_read and not has_ended):
                continue
            pieces = speech.read(one)
            if pieces or self.wanted.has_logprobs:
                events.append(self._chunk({"index": index, **self.bit(pieces, index, one), "finish_reason": None}))
            if speech.has_ended:
                events.append(self._chunk({"index": index, **self.bit([], index, one), "finish_reason": self.reason(index, one)}))
        return events

    def ending(self, sequences: Sequence[Completing]) -> list[str]:
        """The last events."""
        usage = [event({**self._head(self.chunk_kind), "choices": [], "usage": self.usage(sequences)})] if self.wanted.wants_usage else []
        return [*usage, "data: [DONE]\n\n"]

    def usage(self, sequences: Sequence[Completing]) -> Json:
        """Counts of tokens."""
        asked = sum(len(question.prompt_ids) for question in self.questions)
        said = sum(len(one.token_ids) for one in sequences)
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}

    def said(self, index: int, pieces: Sequence[Piece]) -> Json:
        """Of a whole choice."""
        raise NotImplementedError

    def bit(self, pieces: Sequence[Piece], index: int, one: Completing) -> Json:
        """Of a choice in a chunk."""
        raise NotImplementedError

    def logprobs(self, index: int, one: Completing) -> Json | None:
        """Of the tokens since the last call, if they are wanted."""
        raise NotImplementedError

    def reason(self, index: int, one: Completing) -> str:
        """Why it ended."""
        assert one.finish_reason is not None, "asked at the end"
        return str(one.finish_reason)

    def untold(self, index: int, one: Completing) -> list[tuple[int, float]]:
        """Tokens since the last call with their log-probs, those without a text (ends) left out."""
        begin, end = self._told[index], len(one.logprobs)
        self._told[index] = end
        silent = self.model.policy.end_ids
        return [(token, logprob) for token, logprob in zip(one.token_ids[begin:end], one.logprobs[begin:end], strict=True)
                if token not in silent]

    def _ended(self, choice: Json, index: int, one: Completing) -> Json:
        return {**choice, "logprobs": self.logprobs(index, one), "finish_reason": self.reason(index, one)}

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model.name}

    def _chunk(self, choice: Json) -> str:
        no_usage = {"usage": None} if self.wanted.wants_usage else {}  # it comes last, and OpenAI says so in every chunk
        return event({**self._head(self.chunk_kind), "choices": [choice], **no_usage})


class Chat(Reply):
    """Of `/v1/chat/completions`."""

    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def __init__(self, model: ServedModel, request: ChatRequest, question: Question) -> None:
        self.request = request
        super().__init__(model, request.wanted, [question])

    def splitter(self, question: Question) -> Splitter:
        return self.model.splitter(self.request, question)

    def opening(self) -> list[str]:
        first = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return [self._chunk({"index": index, **first}) for index in range(len(self.speeches))]

    def said(self, index: int, pieces: Sequence[Piece]) -> Json:
        thought, text = _joined(pieces, is_reasoning=True), _joined(pieces, is_reasoning=False)
        calls = [_written(call, self._call_id(index, number)) for number, call in enumerate(self.speeches[index].calls)]
        message: Json = {"role": "assistant", "content": None if calls and not text else text}
        return {"message": message | ({"reasoning_content": thought} if thought else {}) | ({"tool_calls": calls} if calls else {})}

    def bit(self, pieces: Sequence[Piece], index: int, one: Completing) -> Json:
        thought, text = _joined(pieces, is_reasoning=True), _joined(pieces, is_reasoning=False)
        new = [piece.call for piece in pieces if piece.call is not None]
        first = len(self.speeches[index].calls) - len(new)
        calls = [{"index": number, **_written(call, self._call_id(index, number))} for number, call in enumerate(new, first)]
        delta = ({"reasoning_content": thought} if thought else {}) | ({"content": text} if text else {})
        return {"delta": delta | ({"tool_calls": calls} if calls else {}), "logprobs": self.logprobs(index, one)}

    def logprobs(self, index: int, one: Completing) -> Json | None:
        if not self.wanted.has_logprobs:
            return None
        told = [(_text(self.model.policy, token), logprob) for token, logprob in self.untold(index, one)]
        return {"refusal": None, "content": [
            {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode()), "top_logprobs": []}
            for text, logprob in told
        ]}

    def reason(self, index: int, one: Completing) -> str:
        has_called = self.speeches[index].calls and one.finish_reason is FinishReason.STOP
        return "tool_calls" if has_called else super().reason(index, one)

    def _call_id(self, index: int, number: int) -> str:
        return f"call_{self.id.rpartition('-')[2][:16]}_{index}_{number}"


class Text(Reply):
    """Of `/v1/completions`."""

    kind, chunk_kind, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, model: ServedModel, request: TextRequest, questions: Sequence[Question]) -> None:
        super().__init__(model, request.wanted, questions)
        self._offsets = [0] * len(self.speeches)

    def splitter(self, question: Question) -> Splitter:
        return Splitter(self.model.policy.tags, is_plain=True)

    def said(self, index: int, pieces: Sequence[Piece]) -> Json:
        return {"text": _joined(pieces, is_reasoning=False)}

    def bit(self, pieces: Sequence[Piece], index: int, one: Completing) -> Json:
        return {**self.said(index, pieces), "logprobs": self.logprobs(index, one)}

    def logprobs(self, index: int, one: Completing) -> Json | None:
        if not self.wanted.has_logprobs:
            return None
        told = [(_text(self.model.policy, token), logprob) for token, logprob in self.untold(index, one)]
        offsets = []
        for text, _ in told:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(text)
        return {"tokens": [text for text, _ in told], "token_logprobs": [logprob for _, logprob in told], "top_logprobs": None,
                "text_offset": offsets}


def event(value: Json) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value)}\n\n"


def _joined(pieces: Sequence[Piece], *, is_reasoning: bool) -> str:
    return "".join(piece.text for piece in pieces if piece.is_reasoning == is_reasoning)


def _written(call: Call, name: str) -> Json:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": name, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _text(policy: Policy, token: int) -> str:
    return str(policy.tokenizer.decode([token], skip_special_tokens=False))
