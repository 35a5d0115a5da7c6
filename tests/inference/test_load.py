"""A loaded model: what a prompt is, what a seed decides, and where a model can come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import load_tiny, stir_adapter

import heron
from heron.engine import HFEngine, NativeEngine, SamplingParams
from heron.errors import ConfigError
from heron.inference import Generation, LoadedModel
from heron.types import FinishReason, Message

PARAMS = SamplingParams(max_tokens=6)
GREEDY = SamplingParams(max_tokens=6, temperature=0)
ASKED: list[Message] = [{"role": "user", "content": "What is 1 + 1?"}]


def said(results: list[Generation]) -> list[list[tuple[int, ...]]]:
    """Tokens of every answer to every prompt; log-probs may differ in the last digit from batch to batch."""
    return [[output.token_ids for output in result.outputs] for result in results]


@pytest.fixture(params=[True, False])
def model(tiny_folder: Callable[[str], Path], request: pytest.FixtureRequest) -> LoadedModel:
    loaded = heron.load(tiny_folder("qwen3"), fast_inference=request.param, device="cpu")
    assert isinstance(loaded.engine, NativeEngine if request.param else HFEngine)
    return loaded


@pytest.fixture(scope="module")
def loaded(tiny_folder: Callable[[str], Path]) -> LoadedModel:
    """One for tests of what is refused before anything is sampled."""
    return heron.load(tiny_folder("qwen3"), device="cpu")


def test_texts_are_continued_and_conversations_answered(model: LoadedModel) -> None:
    """Prevents: a raw text that is wrapped in a chat template, or a conversation that is not."""
    text, talk = model.fast_generate(["What is 1 + 1?", ASKED], PARAMS)
    assert text.prompt_ids == model.policy.encode("What is 1 + 1?")
    assert talk.prompt_ids == model.policy.render(ASKED)
    for result in (text, talk):
        assert result.text == result.outputs[0].text == model.policy.decode(result.token_ids)
        assert len(result.logprobs) == len(result.token_ids) and all(value <= 0 for value in result.logprobs)
        assert result.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
    assert said(model.fast_generate("What is 1 + 1?", PARAMS)) == said([text]), "one text alone is a list of one"


def test_siblings_and_seeds(model: LoadedModel) -> None:
    """Prevents: equal siblings, and answers that cannot be had again."""
    (result,) = model.fast_generate(["x"], PARAMS, n=4)
    assert len({output.token_ids for output in result.outputs}) > 1
    assert said(model.fast_generate(["x"], PARAMS, n=4)) == said([result])
    assert model.fast_generate(["x", "y"], PARAMS, n=4)[0].outputs[0].token_ids == result.token_ids
    assert said(model.fast_generate(["x"], PARAMS, n=4, seed=1)) != said([result])


@pytest.mark.parametrize("n", [0, True, 2.5, "2", None])
def test_a_number_of_answers_that_is_none(loaded: LoadedModel, n: Any) -> None:
    """Prevents: one answer for True, and a TypeError from the middle."""
    with pytest.raises(ConfigError, match="n must be a whole number, at least 1, but it is"):
        loaded.fast_generate(["x"], n=n)


@pytest.mark.parametrize("params", [{"max_tokens": 4}, {}, 0, 8])
def test_params_that_are_none(loaded: LoadedModel, params: Any) -> None:
    """Prevents: the defaults in the place of something empty, and an AttributeError."""
    with pytest.raises(ConfigError, match=r"params must be SamplingParams or None, but it is .*SamplingParams\(max_tokens=64\)"):
        loaded.fast_generate(["x"], params)


@pytest.mark.parametrize("prompts", [5, None, [5], [None], [b"x"], ["x", [5]], [["x"]], [[]], b"xy"])
def test_prompts_that_are_none(loaded: LoadedModel, prompts: Any) -> None:
    """Prevents: bytes, numbers and lists of texts that reach a template or a tokenizer."""
    with pytest.raises(ConfigError, match="must be a text or a list of messages, but it is"):
        loaded.fast_generate(prompts)


def test_a_message_alone(loaded: LoadedModel) -> None:
    """Prevents: the words "role" and "content", each continued."""
    message: Any = ASKED[0]
    for call in (loaded.fast_generate, loaded.chat):
        with pytest.raises(ConfigError, match=r"is a message and no prompt.*call chat"):
            call(message)


@pytest.mark.parametrize("prompt", ["a\udc80", [{"role": "user", "content": "a\udc80"}]])
def test_half_a_character(loaded: LoadedModel, prompt: Any) -> None:
    """Prevents: a codec's error about a text that nobody has seen."""
    with pytest.raises(ConfigError, match=r"half a character \('\\udc80', a lone surrogate\)"):
        loaded.fast_generate([prompt])


def test_chat(model: LoadedModel) -> None:
    assert model.chat("What is 1 + 1?", GREEDY) == model.chat(ASKED, GREEDY) == model.fast_generate([ASKED], GREEDY)[0].text
    assert model.tokenizer is model.policy.tokenizer


def test_a_conversation_alone_is_no_list_of_prompts(model: LoadedModel) -> None:
    """Prevents: one answer to each message of a conversation."""
    with pytest.raises(ConfigError, match="call chat"):
        model.fast_generate(ASKED)  # type: ignore[arg-type]


def test_a_first_special_token_is_written_once(model: LoadedModel) -> None:
    """Prevents: a text without the token that every text of the model begins with, and one that was rendered and gets it twice."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = model.tokenizer
    tokenizer.bos_token = tokenizer.eos_token
    begin = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<b> $A", special_tokens=[("<b>", begin)])
    plain, rendered = model.fast_generate(["hi", tokenizer.bos_token + "hi"], PARAMS)
    assert plain.prompt_ids == rendered.prompt_ids == (begin, *model.policy.encode("hi"))


def test_both_engines_say_the_same(tiny_folder: Callable[[str], Path]) -> None:
    fast, plain = (heron.load(tiny_folder("qwen3"), fast_inference=kind, device="cpu") for kind in (True, False))
    for params in (PARAMS, GREEDY):
        answers = [said(model.fast_generate(["a", "bcd"], params, n=3)) for model in (fast, plain)]
        assert answers[0] == answers[1]


def test_dtype(tiny_folder: Callable[[str], Path]) -> None:
    for dtype in ("bfloat16", torch.bfloat16):
        assert heron.load(str(tiny_folder("qwen3")), dtype=dtype, device="cpu").policy.dtype is torch.bfloat16
    with pytest.raises(ConfigError, match=r"model\.dtype"):
        heron.load(tiny_folder("qwen3"), dtype="float16")


def test_an_adapter_is_part_of_the_model(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: the base alone, which answers as before training."""
    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    stir_adapter(policy)
    policy.save(tmp_path)
    ids = policy.encode("abc")
    (with_adapter,) = heron.load(tmp_path, device="cpu").fast_generate(["abc"], GREEDY)
    (without,) = heron.load(tiny_folder("qwen3"), device="cpu").fast_generate(["abc"], GREEDY)
    assert with_adapter.prompt_ids == ids and with_adapter.token_ids != without.token_ids


def test_a_run(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: the start of a run instead of what it has learnt, and the dtype of its training that is lost."""
    run = heron.train(
        "arithmetic", model={"name": str(tiny_folder("qwen3")), "device": "cpu"}, data={"limit": 8}, run_dir=tmp_path / "run", quiet=True,
        rollout={"num_generations": 4, "max_completion_length": 6}, train={"max_steps": 1, "prompts_per_step": 2, "learning_rate": 0.1},
        evaluation={"size": 0}, rewards=[lambda completion: float(len(set(completion)))],
    )
    model = heron.load(run.path, device="cpu")
    trained, start = (heron.load(path, device="cpu") for path in (run.path / "model", tiny_folder("qwen3")))
    answers = [said(each.fast_generate(["abc"], PARAMS, n=4)) for each in (model, trained, start)]
    assert answers[0] == answers[1] != answers[2]
