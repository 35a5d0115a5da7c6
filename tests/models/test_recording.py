"""A recorded decode step against the modules that it was recorded from."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    pytest.mark.skipif(built().code is None, reason=f"no compiled kernels: {built().reason}"),
]
FUSED = ("normed", "rotated", "gated", "__call__", "_attend")


class Mixing:
    """Stands for attention: each of a layer's inputs and constants changes what comes out."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, window: int | None, softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        group = query.shape[1] // key.shape[1]
        weight = torch.sigmoid((query * key.repeat_interleave(group, 1)).sum(-1, keepdim=True) * scaling + (window or 0) - (softcap or 0))
        return value.repeat_interleave(group, 1) * weight * (1 + layer)


def recorded(policy: Policy) -> Replay:
    replay = Recorder(policy).replay()
    assert replay is not None
    return replay


def assert_same(policy: Policy, replay: Replay, *, error: float = 2e-5) -> None:
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
    assert_same(policy, recorded(policy), error=2e-5 if dtype == "float32" else 2e-2)


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
    recorder, error = Recorder(policy), 2e-5 if dtype == "float32" else 2e-2
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


def test_an_adapter_that_is_merged_is_not_added_twice(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a recording that adds an adapter to weights that hold it already; merging leaves them where they are."""
    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    stir_adapter(policy)
    assert_same(policy, recorded(policy))
    policy.model.merge_adapter()
    merged = policy.recorder.replay()
    assert merged is not None
    assert_same(policy, merged)


def test_hooks_are_run(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a user's hook that is silently left out."""
    policy = load_tiny(tiny_folder("qwen3"))
    assert policy.recorder.replay() is not None
    hook = policy.model.get_input_embeddings().register_forward_hook(lambda *_: None)
    assert policy.recorder.replay() is None
    hook.remove()
    assert policy.recorder.replay() is not None


def test_several_threads_record_at_once(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a tracer that two threads enter, and a policy that stays slow because of it."""
    policies = [load_tiny(tiny_folder(kind)) for kind in ("qwen3", "llama", "qwen3")]
    with ThreadPoolExecutor(4) as pool:
        replays = list(pool.map(lambda policy: policy.recorder.replay(), [*policies, policies[0]]))
    assert None not in replays
    assert replays[0] is replays[3]


def test_logits_follow_weights_into_another_type(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: a kernel that goes on reading float32 where `model.to` has put bfloat16 under the same parameter."""
    policy = load_tiny(tiny_folder("untied"))
    hidden = torch.randn(3, 32)
    with torch.inference_mode():
        wide = policy.logits(hidden)
        policy.model.to(torch.bfloat16)
        narrow = policy.logits(hidden.bfloat16())
    assert float((wide - narrow).abs().max() / wide.abs().max()) < 2e-2


def test_a_copy_is_a_policy_of_its_own(tiny_folder: Callable[[str], Path]) -> None:
    """Prevents: deep copies and pickles that fail as soon as something was sampled, or replay the weights they were copied from."""
    policy = load_tiny(tiny_folder("qwen3"))
    replay = policy.recorder.replay()
    with torch.inference_mode():
        policy.logits(torch.randn(2, 32))
    for other in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert other.recorder.replay() is not replay
        with torch.no_grad():
            other.model.get_input_embeddings().weight.mul_(2)
        assert_same(other, other.recorder.replay())


def test_gradients_that_stop_are_not_recorded(tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: gradients through what a family computes without them, since a recording knows no switches."""
    policy = load_tiny(tiny_folder("llama"))
    plain = policy.forward

    def stopping(tokens: Tensor, positions: Tensor, plan: Any) -> Tensor:
        with torch.no_grad():
            return plain(tokens, positions, plan)

    monkeypatch.setattr(policy, "forward", stopping)
    with pytest.warns(UserWarning, match="gradients are switched off"):
        assert Recorder(policy).replay() is None


@pytest.mark.parametrize("kind", ["qwen3", "gemma3"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradients_are_those_of_the_modules(tiny_folder: Callable[[str], Path], kind: str, method: str) -> None:
    """Prevents: a weight left out of the gradient by a kernel, or one that is frozen in the recording."""
    policy = load_tiny(tiny_folder(kind), method=method)
    if method == "lora":
        stir_adapter(policy)
    replay = recorded(policy)
    tokens, positions, direction = torch.randint(0, 250, (1, 40)), torch.randint(0, 400, (1, 40)), torch.randn(1, 40, 32)
    found = []
    for forward in (replay, policy.forward):
        policy.model.zero_grad()
        (forward(tokens, positions, Mixing()) * direction).sum().backward()
        found.append({name: weight.grad.clone() for name, weight in policy.trainable() if weight.grad is not None})
    assert found[0].keys() == found[1].keys() and found[0]
    for name, expected in found[1].items():
        assert float((found[0][name] - expected).norm()) <= 1e-4 * float(expected.norm()), name


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
