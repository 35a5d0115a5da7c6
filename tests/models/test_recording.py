"""A recorded decode step against the modules that it was recorded from."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import KINDS, load_tiny, stir_adapter
from torch import Tensor

from heron.kernels.host.build import built
from heron.models import Policy
from heron.models.recording import Recorder, Replay

pytestmark = [
    pytest.mark.filterwarnings("error:.* runs module by module"),
    pytest.mark.skipif(built().library is None, reason=f"no compiled kernels: {built().reason}"),
]
FUSED = ("normed", "rotated", "gated", "__call__", "_attend")


class Mixing:
    """Stands for attention: each of a layer's inputs and constants changes what comes out."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None
    ) -> Tensor:
        group = query.shape[1] // key.shape[1]
        weight = torch.sigmoid((query * key.repeat_interleave(group, 1)).sum(-1, keepdim=True) * scaling + (window or 0) - (softcap or 0))
        return value.repeat_interleave(group, 1) * weight * (1 + layer)


def recorded(policy: Policy) -> Replay:
    replay = Recorder(policy).replay()
    assert replay is not None
    return replay


def assert_same(policy: Policy, replay: Replay, *, error: float = 1e-5) -> None:
    """For one row, some and many."""
    with policy.sampling():
        for rows in (1, 2, 5, 67):
            tokens, positions = torch.randint(0, 250, (1, rows)), torch.randint(0, 400, (1, rows))
            expected = policy.forward(tokens, positions, Mixing())
            worst = (replay(tokens, positions, Mixing()) - expected).abs().max() / expected.abs().max()
            assert worst <= error, (rows, worst)


def calls(replay: Any) -> Counter[str]:
    """How often the graph calls what."""
    return Counter(getattr(node.target, "__name__", str(node.target)) for node in replay.graph.nodes if node.op == "call_function")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_says_what_the_modules_say(tiny_folder: Callable[[str], Path], kind: str, dtype: str) -> None:
    """Prevents: a group of operations taken for another one, and numbers of rows that were recorded as constants."""
    policy = load_tiny(tiny_folder(kind), dtype=dtype)
    assert_same(policy, recorded(policy), error=1e-5 if dtype == "float32" else 2e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["qwen3", "llama", "untied", "mistral-window", "gemma2", "gemma3", "granite"])
def test_recognises_what_it_should(tiny_folder: Callable[[str], Path], kind: str, dtype: str) -> None:
    """Prevents: a release of transformers that writes a norm in another way, so that everything is right and slow."""
    replay = recorded(load_tiny(tiny_folder(kind), dtype=dtype))
    norms = {"qwen3": 9, "gemma2": 9, "gemma3": 13}.get(kind, 5)
    assert {name: calls(replay)[name] for name in FUSED} == {"normed": norms, "rotated": 4, "gated": 2, "__call__": 14, "_attend": 2}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_reads_an_adapter_and_its_changes(tiny_folder: Callable[[str], Path], dtype: str) -> None:
    """Prevents: a recording that keeps the weights of the step in which it was made, or leaves the adapter out."""
    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4, dtype=dtype)
    recorder, error = Recorder(policy), 1e-5 if dtype == "float32" else 2e-2
    before = recorder.replay()
    for seed in (1, 2):
        stir_adapter(policy, seed=seed)
        assert recorder.replay() is before is not None
        assert_same(policy, before, error=error)


def test_is_made_anew_for_what_it_cannot_see(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: answers of an adapter that was switched off, or of weights that were replaced."""
    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    stir_adapter(policy)
    recorder = Recorder(policy)
    with_adapter = recorder.replay()
    with policy.model.disable_adapter():
        without = recorder.replay()
        assert without is not with_adapter and without is not None
        assert_same(policy, without)
    assert recorder.replay() is with_adapter
    with policy.model.disable_adapter():
        assert recorder.replay() is without
    weight = policy.model.get_input_embeddings().weight
    weight.data = torch.randn_like(weight)
    replaced = recorder.replay()
    assert replaced is not None
    assert_same(policy, replaced)


def test_a_model_that_cannot_be_recorded_says_so(tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a run that stops, or gets slow without a word, for a forward pass that looks at its data."""
    policy = load_tiny(tiny_folder("llama"))
    plain = policy.forward

    def curious(tokens: Tensor, positions: Tensor, plan: Any) -> Tensor:
        return plain(tokens, positions if int(positions.max()) < 100 else positions - 100, plan)

    monkeypatch.setattr(policy, "forward", curious)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert Recorder(policy).replay() is None
    assert "could not be recorded" in str(caught[-1].message)
