"""Adapted layers of 16 bits that keep no float32 copies: the same layers, by another call."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import load_tiny, save_tiny, stir_adapter
from torch import Tensor

from heron.kernels import attention
from heron.models import lean

Gradients = dict[str, Tensor]


def hidden(policy: Any) -> Tensor:
    """Of a row, as the modules give them."""
    plan = attention.packed_plan([range(40)], device=policy.device)
    return policy.forward(torch.arange(1, 41)[None], torch.arange(40)[None], plan)  # type: ignore[no-any-return]


def run(policy: Any, kept: dict[int, int] | None = None) -> tuple[Tensor, Gradients]:
    """Hidden states of a row and the gradient of their mean square; `kept` hears the bytes that autograd saves."""

    def pack(tensor: Tensor) -> Tensor:
        if kept is not None and not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = hidden(policy).float()
    found.square().mean().backward()
    gradients = {name: weight.grad for name, weight in policy.trainable() if weight.grad is not None}
    policy.model.zero_grad(set_to_none=True)
    return found.detach(), gradients


def without(policy: Any) -> Any:
    """The same policy by PEFT's own calls."""
    plain = copy.deepcopy(policy)
    for module in plain.model.modules():
        module.__dict__.pop("forward", None)
    return plain


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
def test_lean_layers_say_what_pefts_say(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Prevents: a scaling, a variant or an adapter that the lean call leaves out."""
    policy = load_tiny(save_tiny("qwen3", tmp_path, dtype=torch.bfloat16), method="lora", lora_rank=4, **settings)
    stir_adapter(policy)
    found, gradients = run(policy)
    expected, wanted = run(without(policy))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * float(expected.abs().max()))
    assert gradients.keys() == wanted.keys() and gradients
    for name, gradient in gradients.items():
        assert float((gradient - wanted[name]).norm() / wanted[name].norm()) < 0.05, name


def test_an_adapter_that_is_off_adds_nothing(tmp_path: Path) -> None:
    """Prevents: a reference that is the trained policy, so that the KL is 0 for ever."""
    policy = load_tiny(save_tiny("qwen3", tmp_path, dtype=torch.bfloat16), method="lora", lora_rank=4)
    bare = run(policy)[0]
    stir_adapter(policy)
    assert not torch.equal(run(policy)[0], bare)
    with policy.model.disable_adapter(), torch.no_grad():
        assert torch.equal(hidden(policy).float(), bare)


def test_less_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: float32 copies for every adapted layer."""
    policy = load_tiny(save_tiny("qwen3", tmp_path, dtype=torch.bfloat16), method="lora", lora_rank=4)
    lean_bytes: dict[int, int] = {}
    plain_bytes: dict[int, int] = {}
    run(policy, lean_bytes)
    run(without(policy), plain_bytes)
    copies = 2 * 40 * 4 * (5 * 32 + 32 + 48)  # two layers, 40 tokens, float32: q, k, v, gate and up read 32, o reads 32, down reads 48
    assert sum(plain_bytes.values()) - sum(lean_bytes.values()) > 0.5 * copies


def test_float32_is_left_to_peft(tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 there is no copy to save, and the results stay what they were, bit for bit."""
    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    monkeypatch.setattr(lean, "with_low_rank", None)
    assert run(policy)[0].isfinite().all()


def test_a_copy_of_a_policy_has_calls_of_its_own(tmp_path: Path) -> None:
    """Prevents: a copied model whose layers compute with the weights of the one that it was copied from."""
    policy = load_tiny(save_tiny("qwen3", tmp_path, dtype=torch.bfloat16), method="lora", lora_rank=4)
    twin = copy.deepcopy(policy)
    before = run(twin)[0]
    stir_adapter(policy)
    assert torch.equal(run(twin)[0], before) and not torch.equal(run(policy)[0], before)
