"""The built-in chat templates render as documented, with transformers' Jinja settings and without them."""

import json

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from heron.data import TEMPLATES, chat_template, prefilled_tag
from heron.data.templates import turn_end
from heron.errors import TemplateError
from heron.types import Tags

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  2 + 2?\n"},
    {"role": "assistant", "content": "<think>{{ no }}</think>4"},
    {"role": "user", "content": "Sure?"},
]


class Refused(Exception):
    pass


def render(template, messages, trim=True, add_generation_prompt=False, bos_token=None):
    def refuse(reason):
        raise Refused(reason)

    environment = ImmutableSandboxedEnvironment(trim_blocks=trim, lstrip_blocks=trim, undefined=jinja2.StrictUndefined)
    environment.globals["raise_exception"] = refuse
    environment.globals |= {"eos_token": "</s>"} | ({} if bos_token is None else {"bos_token": bos_token})
    return environment.from_string(template).render(messages=messages, add_generation_prompt=add_generation_prompt)


CHATML = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n  2 + 2?\n<|im_end|>\n"
    "<|im_start|>assistant\n<think>{{ no }}</think>4<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n"
)
HERON = (
    "<|system|>Be brief.<|end|><|user|>  2 + 2?\n<|end|>"
    "<|assistant|><think>{{ no }}</think>4<|end|><|user|>Sure?<|end|>"
)

LLAMA3 = "".join(f"<|start_header_id|>{each['role']}<|end_header_id|>\n\n{each['content']}<|eot_id|>" for each in TALK)
DEEPSEEK = (
    "Be brief.<｜User｜>  2 + 2?\n<｜Assistant｜><think>{{ no }}</think>4<｜end▁of▁sentence｜><｜User｜>Sure?"
)
PLAIN = "Be brief.\n\n  2 + 2?\n\n\n<think>{{ no }}</think>4</s>Sure?\n\n"


@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize(
    ("name", "talk", "opening"),
    [
        ("chatml", CHATML, "<|im_start|>assistant\n"),
        ("heron", HERON, "<|assistant|>"),
        ("reasoning", CHATML, "<|im_start|>assistant\n<start_working_out>"),
        ("llama3", LLAMA3, "<|start_header_id|>assistant<|end_header_id|>\n\n"),
        ("llama3-reasoning", LLAMA3, "<|start_header_id|>assistant<|end_header_id|>\n\n<start_working_out>"),
        ("deepseek", DEEPSEEK, "<｜Assistant｜>"),
        ("deepseek-reasoning", DEEPSEEK, "<｜Assistant｜><start_working_out>"),
        ("heron-reasoning", HERON, "<|assistant|><start_working_out>"),
        ("plain", PLAIN, ""),
        ("plain-reasoning", PLAIN, "<start_working_out>"),
    ],
)
def test_templates_render_exactly(name, talk, opening, trim):
    """A stray line break makes other tokens than the ones that the model was trained on."""
    assert render(TEMPLATES[name], TALK, trim) == talk
    assert render(TEMPLATES[name], TALK, trim, add_generation_prompt=True) == talk + opening


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_longer_conversation_begins_with_the_shorter_one(name):
    """A template that rewrites earlier turns breaks training on several turns."""
    whole = render(TEMPLATES[name], TALK)
    assert all(whole.startswith(render(TEMPLATES[name], TALK[:count])) for count in range(len(TALK)))


@pytest.mark.parametrize("tag", ["<think>", 'a "quoted" \\ tag', "{{ braces }}", "größe"])
def test_only_reasoning_templates_pre_fill_the_tag(tag):
    """Format rewards would look for the opening tag in the wrong place."""
    tags = Tags(reasoning_start=tag)
    for name in TEMPLATES:
        rendered = render(chat_template(name, tags), TALK, add_generation_prompt=True)
        assert prefilled_tag(rendered, tags) == (tag if "reasoning" in name else "")


def test_prefilled_tag_ignores_white_space_after_it_only():
    tags = Tags()
    assert prefilled_tag("<|assistant|><start_working_out>\n", tags) == "<start_working_out>"
    assert prefilled_tag("Use <start_working_out> first.<|assistant|>", tags) == ""
    assert prefilled_tag("", tags) == ""


@pytest.mark.parametrize("name", ["llama3", "deepseek", "plain"])
def test_conversations_begin_as_the_model_was_pre_trained(name):
    """A base model whose texts all began with a token of their own reads a prompt without it badly."""
    assert render(TEMPLATES[name], TALK, bos_token="<s>") == "<s>" + render(TEMPLATES[name], TALK)


def test_turns_end_with_the_named_token():
    """A model whose template ends turns with another token than it is known for would never stop."""
    ends = {name: turn_end(name) for name in TEMPLATES}
    assert {name: end for name, end in ends.items() if "reasoning" not in name} == {
        "chatml": "<|im_end|>", "llama3": "<|eot_id|>", "deepseek": "<｜end▁of▁sentence｜>", "heron": "<|end|>", "plain": None,
    }
    for name, end in ends.items():
        answered = render(TEMPLATES[name], [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}])
        assert answered.rstrip().endswith(end or "</s>")


def test_the_heron_template_refuses_roles_without_a_token():
    with pytest.raises(Refused, match="no role tool"):
        render(TEMPLATES["heron"], [{"role": "tool", "content": "4"}])


def test_unknown_templates_suggest_the_nearest():
    with pytest.raises(TemplateError, match='Did you mean "chatml"'):
        chat_template("chatlm", Tags())
    with pytest.raises(TemplateError, match="There are chatml, llama3, deepseek, heron, plain, reasoning"):
        chat_template("zzz", Tags())


def test_templates_survive_being_stored():
    """They are written to a tokenizer's JSON file with the trained model."""
    assert json.loads(json.dumps(TEMPLATES)) == TEMPLATES
