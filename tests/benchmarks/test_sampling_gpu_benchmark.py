"""What the GPU's sampling benchmark says without a GPU, and that its models have the shapes they are named after."""

from __future__ import annotations

import pytest
import torch

from benchmarks import sampling_gpu
from benchmarks.sampling_gpu import LLAMA, QWEN, Load, Shape, bound, row_of


def test_without_a_gpu_it_says_so_and_succeeds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a crash on a laptop, and a bar about nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sampling_gpu.main(["--quick"]) == 0
    assert capsys.readouterr().out.startswith("no GPU here")


@pytest.mark.parametrize(("shape", "parameters"), [(QWEN, 596_049_920), (LLAMA, 8_030_261_248)])
def test_shapes(shape: Shape, parameters: int) -> None:
    """Prevents: a table about another model than it says. The counts are those of the published weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape.config())
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    products = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert shape.bytes_of_products() == 2 * sum(module.weight.numel() for module in products)


def test_bound_is_weights_and_cache_read_once() -> None:
    """Prevents: a share of the bandwidth that leaves out keys and values, or counts them once for all sequences."""
    assert LLAMA.bytes_of_token() == 131_072
    load = Load(sequences=10, prompt_tokens=100, new_tokens=200)
    step = LLAMA.bytes_of_products() + 10 * 200 * 131_072
    assert bound(LLAMA, load, bandwidth=float(step)) == 10
    assert row_of("x", LLAMA, load, 5.0, float(step)) == ("x", "Llama-3.1-8B", "10", "5", "10", "50%")


def test_speed_counts_what_was_asked_for() -> None:
    """Prevents: a side that stops early and looks fast."""
    load = Load(sequences=2, prompt_tokens=3, new_tokens=4)
    assert sampling_gpu.speed(lambda load, prompts, seed: len(prompts) * load.new_tokens, load, 100) > 0
    with pytest.raises(AssertionError, match="7 tokens came"):
        sampling_gpu.speed(lambda load, prompts, seed: 7, load, 100)
