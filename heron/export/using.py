"""How an exported model is asked: a few lines to begin with, its system prompt, and the form that its answers have.

The one hard idea: of the form only what the run's record shows is said. A run has tags in its settings also where nobody asked for them;
they count where the prompts name them, or where most answers have them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from statistics import fmean

from heron.export.trained import Trained
from heron.run import Run
from heron.types import Tags

LOADING: Mapping[str, str] = {
    "hf": """\
from transformers import pipeline

generate = pipeline("text-generation", model=".")  # this folder, or its name on a hub""",
    "adapter": """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, pipeline

name = "."  # this folder, or its name on a hub
model, tokenizer = AutoPeftModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
generate = pipeline("text-generation", model=model, tokenizer=tokenizer)""",
}
ASKING = """\
asked = {asked}
print(generate(asked, max_new_tokens={tokens}, return_full_text=False)[0]["generated_text"])"""
DIFFER = "The conversations that it was trained with began with different system prompts"
"""What is said where no single one can be given."""


def using(trained: Trained, format: str) -> str:
    """The section of a card."""
    texts = ["It continues texts: a prompt is a text, without roles."] if trained.continues_texts else []
    parts = ["## Use", _begin(trained, format), *texts, *_system(trained), *_form(trained)]
    return "\n\n".join(parts)


def _begin(trained: Trained, format: str) -> str:
    """A few lines that load and ask it."""
    if format == "gguf":
        return ("With llama.cpp: `llama-server --jinja -m FILE`, where FILE is the `.gguf` file. With Ollama, where there is a "
                "`Modelfile`: `ollama create NAME -f Modelfile`, then `ollama run NAME`.")
    roles = [] if trained.system is None else ['{"role": "system", "content": "..."}']
    talk = ", ".join([*roles, '{"role": "user", "content": "..."}'])
    asked = '"..."' if trained.continues_texts else f"[{talk}]"
    asking = ASKING.replace("{asked}", asked).replace("{tokens}", str(trained.config.rollout.max_completion_length))
    return f"```python\n{LOADING[format]}\n{asking}\n```"


def _system(trained: Trained) -> list[str]:
    """What it was told before the question."""
    if trained.system is not None:
        return [f"Use the system prompt it was trained with:\n\n{fenced(trained.system)}"]
    return [] if trained.systems == (None,) else [f"{DIFFER}, so none is given here."]


def _form(trained: Trained) -> list[str]:
    """The tags, where they are asked for or written."""
    tags, share = trained.config.tags, _in_form(trained.run)
    is_asked = any(tags.solution_start in trained.policy.render_text(messages) for messages in trained.asked)
    if not is_asked and (share is None or share < 0.5):
        return []
    told = "It was asked for" if is_asked else "It writes"
    known = "" if share is None else f" {share:.0%} of the newest answers that were recorded have exactly this form."
    return [f"{told} {_parts(tags)}.{known}"]


def _parts(tags: Tags) -> str:
    return (f"its reasoning between `{tags.reasoning_start}` and `{tags.reasoning_end}`, then its answer between "
            f"`{tags.solution_start}` and `{tags.solution_end}`")


def _in_form(run: Run) -> float | None:
    """The share of answers with each tag once and in order, in the last evaluation, or in the last step; None if none was recorded."""
    names, steps = list(run.evaluations()), run.rollout_steps()
    rows = run.evaluation(names[-1]).rows if names else run.rollouts(steps[-1]) if steps else ()
    known = [bool(row["follows_format"]) for row in rows if row.get("follows_format") is not None]
    return fmean(known) if known else None


def fenced(text: str) -> str:
    """Text as it is, behind more backticks than it has in a row."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}\n{text}\n{fence}"
