"""Chat templates by name, for models that come without one, and the tag that a template may pre-fill.

The hard part is the opening reasoning tag. A template whose generation prompt ends with it saves the model from having
to learn to write it, but then the tag is in the prompt and not in the completion, and format rewards must know. They
learn it from the rendered text (`prefilled_tag`), so that it holds for any model's own template too.

The templates are plain Jinja, as transformers renders it (`trim_blocks`, `lstrip_blocks`, `raise_exception`). They give
every message the same form wherever it stands, so a longer conversation always begins with the shorter one's text.
"""

from __future__ import annotations

import json

from heron.errors import TemplateError, did_you_mean
from heron.types import Tags

_CHATML = """\
{%- for message in messages %}
{{- "<|im_start|>" + message["role"] + "\\n" + message["content"] + "<|im_end|>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- "<|im_start|>assistant\\n" }}
{%- endif %}
"""

_HERON = """\
{%- for message in messages %}
{%- if message["role"] not in ["system", "user", "assistant"] %}
{{- raise_exception("the heron template has no role " + message["role"]) }}
{%- endif %}
{{- "<|" + message["role"] + "|>" + message["content"] + "<|end|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- "<|assistant|>" }}
{%- endif %}
"""

_OPENING_TAG = "OPENING_TAG"
_REASONING = _CHATML.replace('"<|im_start|>assistant\\n"', f'"<|im_start|>assistant\\n" + {_OPENING_TAG}')


def chat_template(name: str, tags: Tags) -> str:
    """The Jinja source of a named template. `reasoning` pre-fills `tags.reasoning_start`."""
    if name not in _SOURCES:
        hint = did_you_mean(name, _SOURCES) or f" There are {', '.join(_SOURCES)}."
        raise TemplateError(f'There is no chat template "{name}".{hint}')
    return _SOURCES[name].replace(_OPENING_TAG, json.dumps(tags.reasoning_start, ensure_ascii=False))


def prefilled_tag(rendered_prompt: str, tags: Tags) -> str:
    """The opening reasoning tag if the prompt ends with it (white space aside), else an empty string."""
    return tags.reasoning_start if rendered_prompt.rstrip().endswith(tags.reasoning_start) else ""


_SOURCES = {"chatml": _CHATML, "heron": _HERON, "reasoning": _REASONING}

TEMPLATES: dict[str, str] = {name: chat_template(name, Tags()) for name in _SOURCES}
"""Templates by name, with the default tags: `chatml` (Qwen's form), `heron` (one token a role and one end token, for a
small vocabulary), `reasoning` (chatml whose generation prompt ends with the opening reasoning tag)."""
