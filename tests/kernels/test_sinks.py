"""Attention sinks (gpt-oss) wherever tokens meet: a key of value 0 for each head, against a softmax with one column more, in float64."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import load_tiny, random_ids, save_model
from torch import Tensor
from trees import CPU, HEADS, LAYOUTS, dense, gradients, tensors

from heron.engine import NativeEngine, Request, SamplingParams
from heron.kernels import packed
from heron.kernels.attention import packed_plan
from heron.kernels.flex import flex_plan
from heron.kernels.packed_tree import tree_of


def sinks_of(**settings: Any) -> Tensor:
    """From one that changes nothing to one that leaves nothing."""
    return torch.linspace(-4, 12, HEADS, dtype=torch.float64, **settings)


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("layout", ["long prompt", "any order", "branches of branches"])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (5, None), (None, 1.5)])
def test_packed(monkeypatch: pytest.MonkeyPatch, layout: str, spans: bool, window: int | None, softcap: float | None) -> None:
    """Prevents: a sink per tile and not per token, rows that go to torch's own attention without it, a gradient that misses its weight."""
    monkeypatch.setattr(packed, "SPAN_PAIRS", 100 if spans else 1 << 60)
    rows, form = LAYOUTS[layout], {"scaling": 0.3, "window": window, "softcap": softcap}
    inputs, plan = (*tensors(rows), sinks_of(requires_grad=True)), packed_plan(rows, device=CPU)

    def ours(*given: Tensor) -> Tensor:
        return plan.attend(0, *given[:3], sinks=given[3], **form)

    def theirs(*given: Tensor) -> Tensor:
        return dense(rows, *given[:3], sinks=given[3], **form)

    torch.testing.assert_close(ours(*inputs), theirs(*inputs), rtol=1e-9, atol=1e-10)
    for found, expected in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        assert float(expected.abs().max()) > 1e-3
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [None, 5])
def test_flex(window: int | None) -> None:
    """Prevents: a log-sum-exp in another unit, or of other heads."""
    rows = LAYOUTS["any order"]
    inputs = tuple(tensor.detach().float() for tensor in tensors(rows))
    output = flex_plan(tree_of(rows), device=CPU).attend(0, *inputs, scaling=0.3, window=window, sinks=sinks_of().float())
    torch.testing.assert_close(output.double(), dense(rows, *inputs, scaling=0.3, window=window, sinks=sinks_of()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hosted", [True, False])
def test_sampled_in_chunks_and_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosted: bool) -> None:
    """Prevents: a sink that is left out where a prompt goes on behind its own pages, in the compiled kernel, or in torch's products."""
    from transformers import AutoModelForCausalLM

    from heron.models import Policy

    if not hosted:
        monkeypatch.setattr(Policy, "is_hosted", False)
    save_model("GptOss", tmp_path, stirred=True, num_local_experts=4, num_experts_per_tok=2, head_dim=8, sliding_window=5)
    policy, draw = load_tiny(tmp_path), random.Random(0)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    requests = [Request(prompt_ids=random_ids(draw, length), seeds=(1, 2, 3)) for length in (13, 1, 9)]
    answers = NativeEngine(policy, chunk_tokens=4, page_size=4, max_concurrent=5).generate(requests, SamplingParams(max_tokens=9))
    for request, siblings in zip(requests, answers, strict=True):
        for answer in siblings:
            whole = torch.tensor([(*request.prompt_ids, *answer.token_ids)])
            with torch.no_grad():
                logp = plain(input_ids=whole).logits[0, len(request.prompt_ids) - 1 : -1].log_softmax(-1)
            expected = logp.gather(-1, torch.tensor(answer.token_ids)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(answer.logprobs), expected, rtol=0, atol=5e-5)
