"""The plan for GPUs, on the CPU: who sees whom, and FlexAttention's forward pass, uncompiled."""

from __future__ import annotations

import pytest
import torch
from trees import CPU, LAYOUTS, ancestors, dense, shuffled, size, tensors

from heron.kernels import attention
from heron.kernels.attention import packed_plan
from heron.kernels.flex import FlexPlan, flex_plan
from heron.kernels.packed_tree import tree_of


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("window", [None, 1, 5, 28])
def test_mask_is_the_tree(layout: str, window: int | None, mixed: bool) -> None:
    """Prevents: siblings that see each other; places taken for packed indices, which differ where the order is free."""
    rows = shuffled(LAYOUTS[layout], seed=3) if mixed else LAYOUTS[layout]
    tokens, first = torch.arange(size(rows)), torch.zeros((), dtype=torch.int64)
    seen = flex_plan(tree_of(rows), device=CPU).visible(window)(first, first, tokens[:, None], tokens)
    assert torch.equal(seen, ancestors(rows, window))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("layout", ["branches of branches", "any order"])
@pytest.mark.parametrize(("window", "softcap", "key_heads"), [(None, None, 2), (5, None, 1), (None, 1.5, 4), (28, 1.5, 2)])
def test_forward_equals_dense(layout: str, window: int | None, softcap: float | None, key_heads: int) -> None:
    """Prevents: a mask of blocks of another window, a cap before the scaling, query heads that read the wrong key head."""
    rows = LAYOUTS[layout]
    query, key, value = (tensor.detach().float() for tensor in tensors(rows, key_heads=key_heads))
    plan = flex_plan(tree_of(rows), device=CPU)
    for reach in (None, window, None):  # no call must find the mask of another window
        output = plan.attend(0, query, key, value, scaling=0.3, window=reach, softcap=softcap)
        expected = dense(rows, query, key, value, scaling=0.3, window=reach, softcap=softcap)
        torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-5)
    assert set(plan.masks) == {None, window}


def test_which_plan_a_device_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: matrix products for each prompt on a GPU, FlexAttention without a backward pass on a CPU."""
    asked: list[torch.device] = []
    monkeypatch.setattr(attention, "flex_plan", lambda tree, *, device: asked.append(device))
    packed_plan([[0]], device=torch.device("cuda", 1))
    assert asked == [torch.device("cuda", 1)]
    assert not isinstance(packed_plan([[0]], device=CPU), FlexPlan)
