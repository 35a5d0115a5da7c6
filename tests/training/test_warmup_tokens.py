"""What of a demonstration is trained: the assistant's words and the token that ends them, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import load_tiny

from heron.data.arithmetic import Demonstration
from heron.errors import DataError, TemplateError
from heron.models import Policy
from heron.training.demonstrations import sample_of, samples_of
from heron.training.samples import Sample
from heron.training.supervised import Course, accumulate, fit, mean_loss, one_cycle
from heron.types import Message, Prompt, Tags

ONE = ("What is 1 + 1?", "<SOLUTION>2</SOLUTION>")
TWO = ("What is 1 + 2?", "three", "Are you sure?", "<SOLUTION>3</SOLUTION>")
LONGER = ("What is 17 + 25? Take your time.", "<start_working_out>7+5=12<end_working_out><SOLUTION>42</SOLUTION>")


@pytest.fixture
def policy(tiny_folder: Callable[[str], Path]) -> Policy:
    return load_tiny(tiny_folder("qwen3"))


def lesson(*said: str, system: str | None = None) -> Demonstration:
    """Questions and answers in turn."""
    messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    messages += [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(said[:-1])]
    return Demonstration(prompt=Prompt(id="rows.jsonl:7", messages=tuple(messages)), completion=said[-1])


def trained(sample: Sample) -> list[int]:
    return [token for token, is_trained in zip(sample.token_ids, sample.is_trained, strict=True) if is_trained]


def text(policy: Policy, tokens: Sequence[int]) -> str:
    return str(policy.tokenizer.decode(tokens))


def naive_gradients(policy: Policy, conversations: Sequence[Sequence[str]]) -> tuple[float, dict[str, torch.Tensor]]:
    """Row by row with cross entropy on transformers' own logits; labels are found by writing the conversation out by hand."""
    rows = []
    for said in conversations:
        ids, labels = [], []
        for number, words in enumerate(said):
            is_answer = number % 2 == 1
            for part, counts in ((("<|user|>", "<|assistant|>")[is_answer], False), (words + "<|end|>", is_answer)):
                tokens = policy.encode(part)
                ids += tokens
                labels += tokens if counts else [-100] * len(tokens)
        rows.append((torch.tensor([ids]), torch.tensor(labels)))
    count = sum(int((labels != -100).sum()) for _, labels in rows)
    policy.model.set_attn_implementation("eager")
    total = sum(
        torch.nn.functional.cross_entropy(policy.model(ids).logits[0, :-1].float(), labels[1:], reduction="sum") for ids, labels in rows
    ) / count
    total.backward()  # type: ignore[union-attr]
    return float(total.detach()), taken(policy)  # type: ignore[union-attr]


def taken(policy: Policy) -> dict[str, torch.Tensor]:
    found = {name: weight.grad for name, weight in policy.trainable() if weight.grad is not None}
    policy.model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("budget", [1 << 30, 90, 1])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradient_is_that_of_cross_entropy_on_the_answers(tiny_folder: Callable[[str], Path], method: str, budget: int) -> None:
    """Prevents: a mean per row or per micro-batch instead of per token, questions that are learnt, and packed rows that see each other."""
    torch.manual_seed(0)
    naive = load_tiny(tiny_folder("qwen3"), method=method)
    torch.manual_seed(0)
    policy = load_tiny(tiny_folder("qwen3"), method=method)
    conversations = (ONE, TWO, LONGER, ONE)
    loss, expected = naive_gradients(naive, conversations)
    samples = [sample_of(policy, lesson(*said)) for said in conversations]
    assert accumulate(policy, samples, budget=budget) == pytest.approx(loss, rel=1e-5)
    found = taken(policy)
    assert found.keys() == expected.keys() and found
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert mean_loss(policy, samples, budget=budget) == pytest.approx(loss, rel=1e-5)


def test_every_answer_of_a_conversation_is_trained_and_no_question(policy: Policy) -> None:
    """Prevents: a model that learns to ask, or of several answers the last one alone."""
    sample = sample_of(policy, lesson(*TWO, system="Be brief."))
    assert text(policy, trained(sample)) == "three<|end|><SOLUTION>3</SOLUTION><|end|>"
    whole = (
        "<|system|>Be brief.<|end|><|user|>What is 1 + 2?<|end|><|assistant|>three<|end|>"
        "<|user|>Are you sure?<|end|><|assistant|><SOLUTION>3</SOLUTION><|end|>"
    )
    assert text(policy, (*sample.prompt_ids, *sample.token_ids)) == whole


@pytest.mark.parametrize("says_tag", [True, False])
def test_a_tag_that_the_prompt_ends_with_is_not_written_again(policy: Policy, says_tag: bool) -> None:
    """Prevents: a model that learns to open its reasoning twice, or to add a line behind the template's."""
    tag = Tags().reasoning_start
    policy.tokenizer.chat_template += "{% if add_generation_prompt %}{{ '" + tag + "\\n' }}{% endif %}"
    sample = sample_of(policy, lesson("What is 1 + 1?", (tag + "\n" if says_tag else "") + "1+1=2<end_working_out>"))
    assert text(policy, trained(sample)) == "1+1=2<end_working_out><|end|>"
    assert text(policy, (*sample.prompt_ids, *sample.token_ids)).count(tag) == 1


def test_an_answer_ends_as_the_template_ends_it(policy: Policy) -> None:
    """Prevents: families that close a turn with another token than the tokenizer's end of text: such a model would never stop."""
    (other,) = policy.encode("<|system|>")
    policy.end_ids |= {other}
    policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace("<|end|>", "<|system|>")
    assert trained(sample_of(policy, lesson(*ONE)))[-1] == other


@pytest.mark.parametrize("template", [
    "{{ messages[-1]['content'] }}<|assistant|>",
    "{% for message in messages %}{{ message['content'] * 2 }}{% endfor %}<|assistant|>",
])
def test_a_template_that_drops_or_repeats_answers_is_refused_by_row(policy: Policy, template: str) -> None:
    """Prevents: a second answer that is learnt behind something else than the first."""
    policy.tokenizer.chat_template = template
    with pytest.raises(TemplateError, match=r"rows.jsonl:7: .* drops or repeats"):
        sample_of(policy, lesson(*TWO))


def test_a_template_cannot_rewrite_an_answer(policy: Policy) -> None:
    """Prevents: templates that strip the reasoning of earlier turns, as Qwen3's does, from taking it out of what is learnt."""
    policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace(
        'message["content"]', 'message["content"].split("<end_working_out>")[-1]'
    )
    sample = sample_of(policy, lesson("q", "<start_working_out>a<end_working_out>b", "r", "<start_working_out>c<end_working_out>d"))
    assert text(policy, trained(sample)) == (
        "<start_working_out>a<end_working_out>b<|end|><start_working_out>c<end_working_out>d<|end|>"
    )


def test_a_token_that_ends_answers_in_the_middle_of_one_is_refused(policy: Policy) -> None:
    """Prevents: a model that learns to go on behind its end."""
    with pytest.raises(DataError, match=r"rows.jsonl:7: an answer goes on"):
        sample_of(policy, lesson("q", "two<|end|>three"))
    assert trained(sample_of(policy, lesson("q", "two<|end|>"))) == trained(sample_of(policy, lesson("q", "two")))


def test_demonstrations_beyond_the_context_are_counted(policy: Policy) -> None:
    """Prevents: positions that the model has never seen, and rows that vanish without a word."""
    policy.context_length = length(policy, TWO)
    samples, left_out = samples_of(policy, [lesson(*ONE), lesson(*TWO), lesson(*TWO[:3], TWO[3] + "!")])
    assert (len(samples), left_out) == (2, 1)
    with pytest.raises(DataError, match="All 1 demonstrations are longer"):
        samples_of(policy, [lesson("x" * 200, "y")])


def length(policy: Policy, said: Sequence[str]) -> int:
    return 1 + len(sample_of(policy, lesson(*said)).token_ids)


@pytest.mark.parametrize("steps", [1, 2, 7, 10, 25])
def test_the_rate_rises_and_falls_whatever_the_number_of_steps(steps: int) -> None:
    """Prevents: a division by 0 where a tenth of the steps is exactly one, and a single step of a 500th of the rate."""
    rates = [one_cycle(step, steps, 1.0)[0] for step in range(1, steps + 1)]
    assert all(0 < rate <= 1.0 for rate in rates) and max(rates) > 0.4
    assert steps == 1 or rates[-1] == pytest.approx(1 / 500)


def test_the_schedule_is_the_one_cycle_of_torch() -> None:
    """Prevents: the embedded start, which was made by torch's schedule, becoming another one."""
    optimizer = torch.optim.AdamW([torch.zeros(2, requires_grad=True)], betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.2e-3, total_steps=37, pct_start=0.1, div_factor=25.0, final_div_factor=20.0
    )
    for step in range(1, 38):
        group: dict[str, Any] = optimizer.param_groups[0]
        assert one_cycle(step, 37, 1.2e-3) == (group["lr"], group["betas"][0])
        optimizer.step()
        if step < 37:
            schedule.step()


def test_a_batch_that_ends_an_epoch_goes_on_in_the_next(policy: Policy) -> None:
    """Prevents: rows at the end of an epoch that are never learnt from."""
    samples = [sample_of(policy, lesson("q", letter)) for letter in "abcde"]
    seen: list[int] = []

    class Spy(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            pass

    optimizer = Spy([weight for _, weight in policy.trainable()], lr=0.0)
    hidden = policy.logprobs

    def spying(*args: Any, **kwargs: Any) -> Any:
        seen.extend(token for token in args[1].tolist() if token not in policy.end_ids)
        return hidden(*args, **kwargs)

    policy.logprobs = spying  # type: ignore[method-assign]
    fit(policy, samples, optimizer, Course(steps=5, batch_size=2, learning_rate=1.0, seed=0), lambda done, total: None)
    assert len(seen) == 10 and all(seen[:5].count(token) == seen[5:].count(token) == 1 for token in set(seen)) and len(set(seen)) == 5
