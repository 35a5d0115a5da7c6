"""Ollama is told the chat template exactly, or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tinymodels import load_tiny, save_tiny

from heron.config import load_config
from heron.data.templates import TEMPLATES
from heron.export.modelfile import modelfile, pieces_of
from heron.models import Policy

QWEN = """\
{%- if messages[0]['role'] == 'system' -%}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}{{- '<|im_start|>system\\nYou are a bird.<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}{%- if message['role'] != 'system' or not loop.first %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
GEMMA = """\
{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] + '\\n\\n' -%}{%- set rest = messages[1:] -%}
{%- else -%}{%- set first = '' -%}{%- set rest = messages -%}{%- endif -%}
{%- for message in rest -%}{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\\n' + (first if loop.first else '') }}{{ message['content'] | trim }}{{ '<end_of_turn>\\n' }}
{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""
THOUGHTS = TEMPLATES["chatml"].replace('message["content"] +', 'message["content"].split("</think>")[-1].lstrip("\\n") +')
BRACES = TEMPLATES["chatml"].replace('"<|im_start|>assistant\\n"', '"<|im_start|>assistant\\n{{ \\"x\\" }} {"')
JSON = TEMPLATES["chatml"].replace('"\\n" + message["content"] +', '"\\n{" + message["content"] + "}" +')
KINDS = {**TEMPLATES, "json": JSON, "qwen": QWEN, "gemma": GEMMA, "thoughts": THOUGHTS, "braces": BRACES}

TALK = [("user", "One?"), ("assistant", "1"), ("user", "Two?")]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return load_tiny(save_tiny("qwen3", tmp_path_factory.mktemp("model") / "qwen3"))


def with_template(policy: Policy, template: str) -> Policy:
    policy.tokenizer.chat_template = template
    return policy


def go(template: str, system: str, messages: list[dict[str, str]]) -> str:
    """What Go's text/template makes of the few actions that are used, with Ollama's names."""
    found = re.findall(r'\{\{ (?:"[^"]*"|[^{}"])* \}\}|(?:(?!\{\{).)+', template, re.DOTALL)
    assert "".join(found) == template, "Go begins an action at the first two braces"
    parts = iter(found)
    names: dict[str, Any] = {".System": system, "$.System": system}

    def value(word: str) -> Any:
        if word in names:
            return names[word]
        return int(word) if word.isdigit() else word.strip('"')

    def holds(test: str) -> bool:
        words = re.findall(r"\(.*?\)|\S+", test)
        if words[0] == "eq":
            return bool(value(words[1]) == value(words[2]))
        if words[0] == "and":
            return all(holds(word.strip("()")) for word in words[1:])
        return not value(words[1]) if words[0] == "not" else bool(value(words[0]))

    def tree(parts: Iterator[str]) -> tuple[list[Any], str]:
        """Nodes up to what closes them, and that."""
        nodes: list[Any] = []
        for part in parts:
            action = part[3:-3] if part.startswith("{{ ") else None
            if action is not None and (action == "end" or action.startswith("else")):
                return nodes, action
            if action is not None and action.startswith(("if", "range")):
                branches = []
                while action != "end":
                    inside, following = tree(parts)
                    branches.append((action, inside))
                    action = following
                nodes.append(branches)
            else:
                nodes.append(part)
        return nodes, ""

    def run(nodes: list[Any]) -> str:
        return "".join(run_branches(node) if isinstance(node, list) else value(node[3:-3]) if node.startswith("{{ ") else node
                       for node in nodes)

    def run_branches(branches: list[Any]) -> str:
        text = ""
        for action, inside in branches:
            if action.startswith("range"):
                for number, message in enumerate(messages):
                    names.update({"$number": number, "$message.Role": message["role"], "$message.Content": message["content"]})
                    text += run(inside)
                return text
            if action == "else" or holds(action.split("if ", 1)[1]):
                return run(inside)
        return ""

    return run(tree(parts)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", ["", "Be brief."])
def test_ollama_writes_what_the_chat_template_writes(policy: Policy, kind: str, system: str) -> None:
    """Prevents: a prompt that the model was never trained on: a missing system prompt, a line break too many, an opening tag forgotten."""
    with_template(policy, KINDS[kind])
    opening = [{"role": "system", "content": system}] if system else []
    messages = [*opening, *({"role": role, "content": content} for role, content in TALK)]
    for talk in (messages, messages[: len(opening) + 1]):
        assert go(pieces_of(policy).in_go(), system, talk) == policy.render_text(talk)


def test_the_file_names_model_ends_system_prompt_and_sampling(policy: Policy) -> None:
    """Prevents: Ollama's own sampling (top_k 40, a penalty), which the run never saw, and answers without an end."""
    with_template(policy, TEMPLATES["heron"])
    config = load_config("arithmetic", {"rollout": {"temperature": 0.75}})
    text = modelfile(policy, config, "model-q8_0.gguf", system="Answer in <answer>").text
    assert text is not None
    lines = text.splitlines()
    assert lines[0] == "FROM ./model-q8_0.gguf" and 'PARAMETER stop """<|end|>"""' in lines
    assert 'SYSTEM """Answer in <answer>"""' in lines and "PARAMETER temperature 0.75" in lines
    assert {"PARAMETER top_k 0", "PARAMETER top_p 1", "PARAMETER min_p 0", "PARAMETER repeat_penalty 1"} <= set(lines)


@pytest.mark.parametrize(("prompt", "answer", "most", "said"), [
    (1000, 3000, None, None), (1000, 4000, None, "5120"), (1000, 4000, 4500, "4500"), (0, 8192, 32768, "8192"),
])
def test_long_answers_get_the_room_that_they_had(policy: Policy, prompt: int, answer: int, most: int | None, said: str | None) -> None:
    """Prevents: a long thought that drives its own question out of what Ollama keeps; a context that the model does not have."""
    with_template(policy, TEMPLATES["heron"])
    policy.context_length = most
    config = load_config("arithmetic", {"rollout": {"max_completion_length": answer}})
    text = modelfile(policy, config, "m", longest_prompt=prompt).text
    assert text is not None and [line for line in text.splitlines() if "num_ctx" in line] == ([f"PARAMETER num_ctx {said}"] if said else [])


DATE = TEMPLATES["chatml"] + "{%- if false %}{{ strftime_now('%d') }}{%- endif %}"
NUMBERED = "{%- for message in messages %}{{ loop.index ~ message['role'] ~ message['content'] }}\n{%- endfor %}"
SHOUTED = TEMPLATES["chatml"].replace('message["content"]', 'message["content"] | upper')
ONCE = "{{ messages[-1]['content'] }}{%- if add_generation_prompt %}>{%- endif %}"


@pytest.mark.parametrize(("template", "said"), [(DATE, "today's date"), (NUMBERED, "the same form"), (SHOUTED, "changes"), (ONCE, "drops")])
def test_what_cannot_be_said_exactly_is_not_guessed(policy: Policy, template: str, said: str) -> None:
    """Prevents: a Modelfile that is nearly right."""
    with_template(policy, template)
    told = modelfile(policy, load_config("arithmetic", {}), "model.gguf")
    assert told.text is None and said in told.notes[0]


def test_a_system_prompt_with_ollamas_quotes_is_refused(policy: Policy) -> None:
    """Prevents: a Modelfile that ends in the middle of its system prompt."""
    with_template(policy, TEMPLATES["heron"])
    told = modelfile(policy, load_config("arithmetic", {}), "model.gguf", system='Say """x"""')
    assert told.text is None and "quotes" in told.notes[0]


def test_notes_say_what_ollama_leaves_as_it_is(policy: Policy) -> None:
    """Prevents: silence about what the template cuts from messages."""
    config = load_config("arithmetic", {})
    assert modelfile(with_template(policy, TEMPLATES["heron"]), config, "m").notes == ()
    assert ["white space" in note for note in modelfile(with_template(policy, GEMMA), config, "m").notes] == [True]
    assert any("thoughts" in note for note in modelfile(with_template(policy, THOUGHTS), config, "m").notes)


def test_ollama_gets_no_begin_token_where_the_file_writes_it(tmp_path: Path) -> None:
    """Prevents: a begin token twice."""
    from vocabularies import byte_level, save_with

    own = load_tiny(save_with(byte_level(None), "Llama", tmp_path / "model"))
    assert own.render_text([{"role": "user", "content": "a"}]).startswith("<s>")
    assert "<s>" not in pieces_of(own).in_go()
