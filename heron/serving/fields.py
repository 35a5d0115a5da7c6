"""One field of a request's body at a time: read as what it must be, or refused by its name.

What it leaves out: which fields there are, and what they mean (`requests`, `messages`).
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from typing import Any

from heron.errors import HeronError

Body = Mapping[str, Any]


class Refusal(HeronError):
    """A request that is answered with an HTTP error, in OpenAI's form."""

    def __init__(
        self, message: str, *, status: int = 400, field: str | None = None, code: str = "invalid_value", retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.code = code
        self.retry_after = retry_after
        """Seconds after which it is worth asking again."""

    @property
    def kind(self) -> str:
        """`type` in OpenAI's form."""
        kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
        return "server_error" if self.status >= 500 else kinds.get(self.status, "invalid_request_error")

    def body(self) -> dict[str, Any]:
        """What the client reads."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.field, "code": self.code}}


def failure(error: Exception) -> Refusal:
    """Of a request that the server failed at; what happened is on its standard error."""
    print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
    return Refusal(f"The server failed: {type(error).__name__}: {error}", status=500, code="internal_error")


def unsupported(name: str, value: object, advice: str = "leave it out") -> Refusal:
    """Of a field that is known and cannot be done."""
    return Refusal(f"{name} is not supported; {advice} (given: {value!r:.80}).", field=name, code="unsupported_value")


def whole(body: Body, name: str, *, least: int, most: int | None = None) -> int | None:
    """A whole number, or None."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        span = f"at least {least}" if most is None else f"from {least} to {most}"
        raise Refusal(f"{name} must be a whole number {span}, but it is {value!r:.80}.", field=name)
    return value


def number(body: Body, name: str, default: float, *, least: float, most: float, zero: bool = True) -> float:
    """A number in a range, or the default. `zero`: so is 0."""
    value = body.get(name)
    if value is None:
        return default
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (least <= value <= most or (zero and value == 0)):
        span = f"{'0 or ' if zero and least > 0 else ''}a number from {least} to {most}"
        raise Refusal(f"{name} must be {span}, but it is {value!r:.80}.", field=name)
    return float(value)


def flag(body: Body, name: str) -> bool:
    """True or false; false if it is not there."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refusal(f"{name} must be true or false, but it is {value!r:.80}.", field=name)
    return bool(value)


def texts(body: Body, name: str, *, most: int, longest: int) -> tuple[str, ...]:
    """A text or a list of a few, none of them empty or long; none if it is not there."""
    value = body.get(name)
    listed = [] if value is None or value == "" else [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(text, str) and text for text in listed) or len(listed) > most:
        raise Refusal(f"{name} must be a text or up to {most} texts that are not empty, but it is {value!r:.80}.", field=name)
    if (length := max(map(len, listed), default=0)) > longest:
        raise Refusal(f"{name} must be texts of up to {longest} characters, but one has {length}.", field=name)
    return tuple(encodable(text, name) for text in listed)


def encodable(text: str, place: str) -> str:
    """The text, if a tokenizer can read it: JSON can spell half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        what = f"{place} holds half a character ({half!r}, a lone surrogate), which is no text: {text!r:.80}."
        raise Refusal(what, field=place) from error
    return text
