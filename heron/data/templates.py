"""Chat templates by name, for models that come without one, and the tag that a template may pre-fill.

The hard part is the opening reasoning tag. A template whose generation prompt ends with it saves the model from having
to learn to write it, but then the tag is in the prompt and not in the completion, and format rewards must know. They
learn it from the rendered text (`prefilled_tag`), so that it holds for any model's own template too.

The templates are plain Jinja, as transformers renders it (`trim_blocks`, `lstrip_blocks`, `raise_exception`, `bos_token`, `eos_token`).
They give every message the same form wherever it stands, so a longer conversation always begins with the shorter one's text. What they
leave out: tools, and whether a model's tokenizer has the tokens that they write (`models.tokenizers` looks).
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

_LLAMA3 = """\
{%- if bos_token is defined and bos_token %}
{{- bos_token }}
{%- endif %}
{%- for message in messages %}
{{- "<|start_header_id|>" + message["role"] + "<|end_header_id|>\\n\\n" + message["content"] + "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}
{%- endif %}
"""

_DEEPSEEK = """\
{%- if bos_token is defined and bos_token %}
{{- bos_token }}
{%- endif %}
{%- for message in messages %}
{%- if message["role"] == "assistant" %}
{{- "<｜Assistant｜>" + message["content"] + "<｜end▁of▁sentence｜>" }}
{%- elif message["role"] == "user" %}
{{- "<｜User｜>" + message["content"] }}
{%- else %}
{{- message["content"] }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- "<｜Assistant｜>" }}
{%- endif %}
"""

_PLAIN = """\
{%- if bos_token is defined and bos_token %}
{{- bos_token }}
{%- endif %}
{%- for message in messages %}
{{- message["content"] + (eos_token if message["role"] == "assistant" else "\\n\\n") }}
{%- endfor %}
"""

_OPENING_TAG = "OPENING_TAG"
_PREFILL = """\
{%- if add_generation_prompt %}
{{- OPENING_TAG }}
{%- endif %}
"""


def chat_template(name: str, tags: Tags) -> str:
    """The Jinja source of a named template. Those called `reasoning` pre-fill `tags.reasoning_start`."""
    if name not in _SOURCES:
        hint = did_you_mean(name, _SOURCES) or f" There are {', '.join(_SOURCES)}."
        raise TemplateError(f'There is no chat template "{name}".{hint}')
    return _SOURCES[name].replace(_OPENING_TAG, json.dumps(tags.reasoning_start, ensure_ascii=False))


def turn_end(name: str) -> str | None:
    """The token with which a named template ends an answer; None for the model's own end token."""
    return next((end for end in ("<|im_end|>", "<|end|>", "<|eot_id|>", "<｜end▁of▁sentence｜>") if end in _SOURCES[name]), None)


def prefilled_tag(rendered_prompt: str, tags: Tags) -> str:
    """The opening reasoning tag if the prompt ends with it (white space aside), else an empty string."""
    return tags.reasoning_start if rendered_prompt.rstrip().endswith(tags.reasoning_start) else ""


_PLAINLY = {"chatml": _CHATML, "llama3": _LLAMA3, "deepseek": _DEEPSEEK, "heron": _HERON, "plain": _PLAIN}
_SOURCES = _PLAINLY | {
    "reasoning" if name == "chatml" else f"{name}-reasoning": source + _PREFILL for name, source in _PLAINLY.items()
}

TEMPLATES: dict[str, str] = {name: chat_template(name, Tags()) for name in _SOURCES}
"""Templates by name, with the default tags: `chatml` (Qwen's form), `llama3`, `deepseek` (that of R1), `heron` (one token a role and one
end token, for a small vocabulary), `plain` (no tokens but the model's own end token, for any base model); and each with the opening
reasoning tag pre-filled behind the generation prompt: `reasoning` (chatml's), `llama3-reasoning`, `deepseek-reasoning`, `heron-reasoning`,
`plain-reasoning`."""
