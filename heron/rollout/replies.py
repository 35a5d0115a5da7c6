"""What an environment says, before it is believed: checked by name, copied, and with nothing in it that cannot be a token.

The hard idea: an environment is code of the user's that often repeats what a model wrote. What it hands over must be messages, which is its
author's to mend (a ConfigError); but half a character in their texts is the model's doing, so it is written out and the run goes on. And
its messages are its own: it may say the same object in every game, and change it later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heron.data.texts import made_whole
from heron.errors import ConfigError
from heron.types import Message, Prompt


def opening(environment: object, prompt: Prompt, given: Any) -> tuple[Message, ...]:
    """The messages that an environment starts a row with: as many as the row has."""
    messages = _checked(f"The environment {type(environment).__name__} starts row {prompt.id} with", given)
    if len(messages) != len(prompt.messages):
        raise ConfigError(f"The environment {type(environment).__name__} starts row {prompt.id} with {len(messages)} messages, "
                          f"but it has {len(prompt.messages)}. Reword the row's messages instead, so that rewards find the answers.")
    return messages


def reply(environment: object, prompt: Prompt, given: Any) -> tuple[Message, ...]:
    """What an environment's `step` says: at least one message."""
    return _checked(f"The environment {type(environment).__name__} replied in row {prompt.id} with", given)


def copied(value: Any) -> Any:
    """A message, or a value in one, that shares nothing with the one it is from."""
    if isinstance(value, str):
        return made_whole(value)
    if isinstance(value, Mapping):
        return {copied(key): copied(each) for key, each in value.items()}
    return type(value)(map(copied, value)) if type(value) in (list, tuple) else value


def _checked(what: str, given: Any) -> tuple[Message, ...]:
    if not isinstance(given, list | tuple) or not given or not all(map(_is_message, given)):
        raise ConfigError(f"{what} {given!r:.300}. It must be a tuple of messages, at least one, each with a text for its role and its "
                          'content, as in ({"role": "user", "content": "higher"},).')
    return tuple(copied(message) for message in given)


def _is_message(given: Any) -> bool:
    return isinstance(given, Mapping) and all(isinstance(given.get(name), str) for name in ("role", "content"))
