"""Text from outside that stands in a prompt: what would act there is made to be read only.

The hard idea: a tokenizer reads `<|im_end|>` in a quoted text as the end of the turn. So the sign that opens such a word becomes another
that looks like it, which a reader sees, and no tokenizer takes for a control token.

What it leaves out: control tokens of templates that write them in another way.
"""

from __future__ import annotations

import re
import unicodedata

_CONTROL = re.compile(
    r"<(?=[|｜]|[^<>\s]{1,40}[|｜]>"
    r"|/?\s*(?:s|bos|eos|pad|think|system|user|assistant|start_of_turn|end_of_turn|begin_of_text|reply|reference|conversation"
    r"|tools?|tool_call|tool_response)\b)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|THINK|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|AVAILABLE_TOOLS|ARGS|IMG)\])",
    re.IGNORECASE,
)
"""What opens a control token (`<|im_end|>`, `<｜User｜>`, `<turn|>`, `[/INST]`, `</tool_response>`, ...) or a marker of the judge's."""
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Letters and marks that Unicode calls ignorable: they are drawn as nothing, and can carry a text all the same."""
_BROKEN = {"<": "‹", "[": "⟦"}


def neutral(text: str) -> str:
    """The text without what cannot be seen, and with markers and control tokens broken up."""
    seen = "".join(each for each in text if each in "\n\t" or unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    return broken_up(_BLANK.sub("", seen))


def broken_up(text: str) -> str:
    """The text with markers and control tokens broken up, and nothing else changed."""
    return _CONTROL.sub(lambda match: _BROKEN[match[0]], text)
