"""`unsloth.chat_templates`: nothing is here but what to use in the place of each name."""

from __future__ import annotations

from typing import Any

from heron.compat.elsewhere import ELSEWHERE

OWN = "A model's own chat template is used: set tokenizer.chat_template = '...' for another one."


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    raise ImportError(f"heron.compat.unsloth.chat_templates has no {name}. {ELSEWHERE.get(name, OWN)}")
