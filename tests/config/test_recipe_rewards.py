"""What the recipes pay: whatever else is good or bad about two answers, the right one is worth more."""

from __future__ import annotations

import itertools

import pytest

from heron.config import load_config, recipes
from heron.config.schema import Config
from heron.rewards import Rubric, resolve
from heron.types import Completion, FinishReason, Prompt, Rollout, Turn

GSM8K = [recipe.name for recipe in recipes() if load_config(recipe.name).data.dataset == "openai/gsm8k"]
RIGHT = ("18", "18 eggs", "$18.00")
WRONG = ("17", "19", "18.5", "1", "17 or 18", "-18", "eighteen")
THOUGHTS = (
    "", "He has the eggs that were there, and this is what is left of them for you.",
    "Ini adalah telur yang ada di sini, dan kita akan menghitung itu untuk saya dengan tidak lama.",
)
LAYOUTS = (
    "{0}{thought}{1}{2}{answer}{3}", "{0}\n{thought}\n{1}\n{2}\n{answer}\n{3}", "{2}{answer}{3}", "Sure! {0}{thought}{1}{2}{answer}{3}",
    "{0}{thought}{1}{2}{answer}{3} This is what I found.", "{thought}{2}{answer}{3}",
)


@pytest.mark.parametrize("recipe", GSM8K)
def test_no_wrong_answer_is_paid_as_well_as_a_right_one(recipe: str) -> None:
    """Prevents: weights with which a wrong answer of the wanted form, length or language earns what a right one without them does."""
    config = load_config(recipe)
    right, wrong = ([text for answer in answers for text in _texts(config, answer)] for answers in (RIGHT, WRONG))
    assert min(_paid(config, right)) > max(_paid(config, wrong))


def _texts(config: Config, answer: str) -> list[str]:
    """An answer in every form: language of the thought, tags and their lines, text outside them."""
    tags = tuple(config.tags)
    return [layout.format(*tags, thought=thought, answer=answer) for layout, thought in itertools.product(LAYOUTS, THOUGHTS)]


def _paid(config: Config, texts: list[str]) -> list[float]:
    """The total of each text, once as a short answer and once as one that fills all the room there is."""
    prompt = Prompt(id="row", messages=({"role": "user", "content": "How many?"},), columns={"answer": "18"})
    rubric = Rubric(resolve(config.rewards.functions, config.rewards.weights), tags=config.tags)
    scored = rubric.score([
        _rollout(prompt, text, tokens) for text, tokens in itertools.product(texts, (50, config.rollout.max_completion_length))
    ])
    return [rollout.reward for rollout in scored if rollout.reward is not None]


def _rollout(prompt: Prompt, text: str, tokens: int) -> Rollout:
    completion = Completion(token_ids=(1,) * tokens, logprobs=(0.0,) * tokens, finish_reason=FinishReason.STOP, policy_version=0)
    return Rollout(prompt=prompt, turns=(Turn(prompt_ids=(1,), completion=completion),), text=text)
