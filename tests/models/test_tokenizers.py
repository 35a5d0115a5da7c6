"""Tokenizers and templates: what ends an answer, what the model knows, and what a conversation's earlier turns become."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import weighing
from tinymodels import TAGS, completion, load_tiny, prompt, ragged_groups, save_tiny

from heron.config.model import ModelConfig
from heron.config.schema import ObjectiveConfig
from heron.data.templates import TEMPLATES
from heron.engine import NativeEngine, Request, SamplingParams, ScriptedEngine
from heron.environments import SingleTurn
from heron.errors import ConfigError, EngineError, ModelError, TemplateError
from heron.models import Policy, load_policy
from heron.rewards import Rubric
from heron.rollout import Collector
from heron.training.batch import pack
from heron.training.samples import make_samples
from heron.types import Message, Prompt, Tags

Folder = Callable[[str], Path]
QUESTION: tuple[Message, ...] = ({"role": "user", "content": "Q"},)
PLAIN_END = 257
"""The tiny models' end token."""
QWEN3 = """\
{%- for message in messages %}
{%- if message.role == "assistant" %}
{%- set said = message.content.split("</think>")[-1].lstrip("\\n") %}
{{- "<|im_start|>assistant\\n" + ("<think>\\n\\n</think>\\n\\n" if loop.last else "") + said + "<|im_end|>\\n" }}
{%- else %}
{{- "<|im_start|>" + message.role + "\\n" + message.content + "<|im_end|>\\n" }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- "<|im_start|>assistant\\n" }}
{%- endif %}
"""
"""Drops the thinking of earlier answers, as Qwen3's template does."""


def base_model(folder: Path, *, knows: tuple[str, ...] = (), vocabulary: int = 320, **tokenizer: Any) -> Path:
    """A tiny model without a chat template, whose tokenizer knows these special tokens besides."""
    from transformers import AutoTokenizer

    save_tiny("qwen3", folder, vocab_size=vocabulary)
    loaded: Any = AutoTokenizer.from_pretrained(folder)
    loaded.add_special_tokens({"additional_special_tokens": list(knows)} | {k: v for k, v in tokenizer.items() if v is not None})
    loaded.chat_template = None
    (folder / "chat_template.jinja").unlink()
    loaded.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    without = {name for name, value in tokenizer.items() if value is None}
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in settings.items() if k not in without}))
    return folder


class TestNamedTemplates:
    """Chat templates: the model's own, a named one, or a helpful refusal."""

    def test_base_model_is_offered_those_that_fit(self, tmp_path: Path) -> None:
        """Prevents: advice to choose a template whose end token the model has never seen."""
        with pytest.raises(TemplateError, match=r"no chat template.*--model\.chat_template=heron \(of Heron's, heron, plain, heron-r"):
            load_tiny(base_model(tmp_path / "plain"))
        with pytest.raises(TemplateError, match=r"no chat template.*--model\.chat_template=chatml"):
            load_tiny(base_model(tmp_path / "qwen", knows=("<|im_start|>", "<|im_end|>")))

    def test_template_whose_end_token_is_unknown_is_refused(self, tmp_path: Path) -> None:
        """Prevents: a run in which every answer is truncated, since the end of a turn is ten ordinary tokens to the model."""
        with pytest.raises(TemplateError, match=r"'llama3' ends answers with <\|eot_id\|>, which the tokenizer of .* does not have"):
            load_tiny(base_model(tmp_path), chat_template="llama3")

    @pytest.mark.parametrize("method", ["full", "lora"])
    def test_what_the_template_ends_turns_with_ends_answers_and_is_saved(self, tmp_path: Path, method: str) -> None:
        """Prevents: a base model that learns to write <|im_end|> and goes on behind it, here or wherever it is deployed."""
        from transformers import AutoTokenizer, GenerationConfig

        folder = base_model(tmp_path / "base", knows=("<|im_start|>", "<|im_end|>"))
        policy = load_tiny(folder, chat_template="chatml", method=method)
        end = policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
        assert policy.end_ids == {PLAIN_END, end}
        assert policy.render_text(QUESTION) == "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
        policy.save(tmp_path / "saved")
        again: Any = AutoTokenizer.from_pretrained(tmp_path / "saved")
        assert (again.eos_token, again.chat_template) == ("<|im_end|>", TEMPLATES["chatml"])
        if method == "full":
            assert GenerationConfig.from_pretrained(tmp_path / "saved").eos_token_id == sorted(policy.end_ids)
            assert load_tiny(tmp_path / "saved").end_ids == policy.end_ids

    def test_plain_ends_with_the_models_own_token(self, tmp_path: Path) -> None:
        policy = load_tiny(base_model(tmp_path), chat_template="plain-reasoning")
        assert policy.end_ids == {PLAIN_END}
        text = policy.render_text(QUESTION)
        assert (text, policy.prefilled(text)) == ("Q\n\n<start_working_out>", "<start_working_out>")

    def test_unknown_template_is_refused_with_a_suggestion(self, tiny_folder: Folder) -> None:
        with pytest.raises(ConfigError, match="chatml"):
            load_tiny(tiny_folder("qwen3"), chat_template="chat_ml")

    def test_reasoning_template_prefills_the_runs_own_tag(self, tiny_folder: Folder) -> None:
        """Prevents: a prompt that opens `<start_working_out>` in a run whose format is `<reasoning>`."""
        tags = Tags(reasoning_start="<reasoning>", reasoning_end="</reasoning>", solution_start="<answer>", solution_end="</answer>")
        config = ModelConfig(name=str(tiny_folder("qwen3")), device="cpu", chat_template="heron-reasoning")
        policy = load_policy(config, tags)
        text = policy.render_text(QUESTION)
        assert text.endswith("<reasoning>")
        assert policy.prefilled(text) == "<reasoning>"

    def test_template_that_raises_is_named(self, tiny_folder: Folder) -> None:
        policy = load_tiny(tiny_folder("qwen3"))
        with pytest.raises(TemplateError, match="tool"):
            policy.render([{"role": "tool", "content": "x"}])


class TestPaddingAndEnds:
    """Nothing is masked by its id."""

    @pytest.mark.parametrize("pad", [None, "<|end|>"], ids=["no padding token", "padded with the end token"])
    def test_end_token_ends_and_is_trained(self, tmp_path: Path, pad: str | None) -> None:
        """Prevents: a model that never learns to stop, since its end token was taken for padding."""
        policy = load_tiny(base_model(tmp_path / "base", pad_token=pad), chat_template="heron")
        assert (policy.tokenizer.pad_token, policy.end_ids) == (pad, {PLAIN_END})
        groups = ragged_groups(3)
        ended = completion((1, 2, PLAIN_END))
        rollouts = tuple(replace(rollout, turns=(replace(rollout.turns[0], completion=ended),)) for rollout in groups[0].rollouts)
        (batch,) = pack(
            make_samples([replace(groups[0], rollouts=rollouts)], weighing(ObjectiveConfig())), budget=1 << 20, device=policy.device
        )
        assert (batch.targets == PLAIN_END).sum() == len(rollouts)
        assert bool((batch.weights[batch.targets == PLAIN_END] > 0).all())
        assert policy.decode((1, 2, PLAIN_END)) == policy.decode((1, 2))
        policy.save(tmp_path / "saved")
        assert load_tiny(tmp_path / "saved").tokenizer.pad_token == pad

    def test_end_tokens_of_generation_config_and_tokenizer(self, tmp_path: Path) -> None:
        """Prevents: answers that run on behind the end token that only one of the two files names."""
        folder = save_tiny("qwen3", tmp_path)
        settings: dict[str, Any] = json.loads((folder / "generation_config.json").read_text())
        (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": [5, 9]}))
        policy = load_tiny(folder)
        assert policy.end_ids == {5, 9, PLAIN_END}
        with torch.no_grad():  # as likely as they come
            policy.model.lm_head.weight.copy_(torch.zeros_like(policy.model.lm_head.weight))
        answers = NativeEngine(policy).generate([Request(prompt_ids=(1, 2), seeds=tuple(range(40)))], SamplingParams(max_tokens=400))
        assert {answer.token_ids[-1] for answer in answers[0] if not answer.truncated} == {5, 9, PLAIN_END}
        assert all(policy.end_ids.isdisjoint(answer.token_ids[:-1]) for answer in answers[0])

    def test_no_end_token_at_all_is_refused(self, tmp_path: Path) -> None:
        folder = save_tiny("qwen3", tmp_path, eos_token_id=None)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings.pop("eos_token")
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        with pytest.raises(ModelError, match="end token"):
            load_tiny(folder)


class TestVocabularies:
    """A tokenizer and an embedding of different sizes."""

    def test_end_token_that_the_model_cannot_say(self, tmp_path: Path) -> None:
        """Prevents: a run of truncated answers with another model's tokenizer."""
        with pytest.raises(ModelError, match=r"end tokens \[257\] lie outside the model's vocabulary of 250"):
            load_tiny(save_tiny("qwen3", tmp_path, vocab_size=250, pad_token_id=0))

    def test_added_token_is_refused_where_it_is_used(self, tmp_path: Path) -> None:
        """Prevents: an index error in the embedding; and a refusal of Gemma 3 1B, whose tokenizer has one token more, for images."""
        policy = load_tiny(base_model(tmp_path, knows=("<image>",), vocabulary=265), chat_template="plain")
        engine, params = NativeEngine(policy), SamplingParams(max_tokens=2)
        engine.generate([Request(prompt_ids=policy.render(QUESTION), seeds=(0,))], params)
        seen = policy.render([{"role": "user", "content": "<image>"}])
        with pytest.raises(EngineError, match=r"holds the token 265.* 265 entries"):
            engine.generate([Request(prompt_ids=seen, seeds=(0,))], params)

    def test_entries_without_a_token_are_like_any_other(self, tmp_path: Path) -> None:
        """Prevents: a crash in decoding, or log-probs that are not the model's own since some entries were masked."""
        policy = load_tiny(save_tiny("qwen3", tmp_path, vocab_size=400))
        answers = NativeEngine(policy).generate([Request(prompt_ids=(1, 2), seeds=tuple(range(20)))], SamplingParams(max_tokens=20))
        beyond = [token for answer in answers[0] for token in answer.token_ids if token >= len(policy.tokenizer)]
        assert beyond, "they are drawn"
        assert policy.decode((65, *beyond, 66)) == policy.decode((65, 66))


class TestThinkingThatIsStripped:
    """A template that drops the thinking of earlier answers must not touch what was sampled."""

    REPLY: tuple[Message, ...] = ({"role": "user", "content": "Again."},)
    ENDS = ("<|im_start|>", "<|im_end|>")

    @pytest.fixture
    def policy(self, tmp_path: Path) -> Policy:
        base_model(tmp_path, knows=self.ENDS, eos_token="<|im_end|>")
        (tmp_path / "chat_template.jinja").write_text(QWEN3)
        return load_tiny(tmp_path)

    def test_the_template_would_drop_it(self, policy: Policy) -> None:
        said: Message = {"role": "assistant", "content": "<think>\nhard\n</think>\n\n4"}
        assert "hard" not in policy.render_text([*QUESTION, said, *self.REPLY])

    def test_second_turn_stands_behind_what_was_sampled(self, policy: Policy) -> None:
        """Prevents: a trainer that sees another context than the sampler did, or a conversation without its thoughts."""

        class Again(SingleTurn):
            max_turns = 2

            def done(_, row: Prompt, messages: tuple[Message, ...]) -> bool:
                return False

            def step(_, row: Prompt, messages: tuple[Message, ...]) -> tuple[Message, ...]:
                return self.REPLY

        thoughts = (*policy.encode("<think>\nhard\n</think>\n\n4"), policy.tokenizer.eos_token_id)
        engine = ScriptedEngine(lambda ids, sibling: thoughts)
        made = Collector(policy=policy, engine=engine, environment=Again(), rubric=Rubric([lambda completion: 1.0], tags=TAGS))
        ((rollout,),) = made.sample([prompt()], SamplingParams(max_tokens=64), siblings=1, seed=0)
        first, second = rollout.turns
        assert first.completion.token_ids == thoughts
        assert policy.tokenizer.decode(second.prompt_ids) == "\n<|im_start|>user\nAgain.<|im_end|>\n<|im_start|>assistant\n"
        (samples,) = make_samples([replace(ragged_groups(3)[0], rollouts=(rollout,))], weighing(ObjectiveConfig(), keep_all=True))
        assert samples[0].token_ids == (*thoughts, *second.prompt_ids, *thoughts)

    def test_template_that_drops_answers_cannot_do_turns(self, tiny_folder: Folder) -> None:
        """Prevents: a second turn whose tokens begin at the wrong place."""
        policy = load_tiny(tiny_folder("qwen3"))
        policy.tokenizer.chat_template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
        with pytest.raises(TemplateError, match="several turns"):
            policy.render_reply(QUESTION, self.REPLY, ended=True)
