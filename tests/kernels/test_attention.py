"""Packed attention along the branches of a tree against dense attention of every row alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from trees import CPU, LAYOUTS, Rows, dense, gradients, group, grown, size, tensors

from heron.kernels import attention, packed
from heron.kernels.attention import packed_plan
from heron.kernels.packed import PackedPlan


def plan_for(rows: Rows, **settings: Any) -> PackedPlan:
    plan = packed_plan(rows, device=CPU, **settings)
    assert isinstance(plan, PackedPlan)
    return plan


def check(rows: Rows, inputs: tuple[Tensor, ...], *, atol: float = 1e-10, **form: Any) -> None:
    """Outputs and gradients of all inputs equal those of dense attention."""
    plan = plan_for(rows)
    form = {"scaling": 0.3, "window": None} | form

    def ours(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return plan.attend(0, query, key, value, **form)

    def theirs(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return dense(rows, query, key, value, **form)

    torch.testing.assert_close(ours(*inputs), theirs(*inputs), rtol=1e-9, atol=atol)
    for found, expected in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=atol)


@pytest.fixture(params=["grids alone", "spans", "tiles alone", "spans and small tiles"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every tree with its beginnings repeated, and cut off as spans; where it can, with torch's attention, or with many small tiles."""
    monkeypatch.setattr(packed, "SPAN_PAIRS", 100 if "spans" in request.param else 1 << 60)
    if "tiles" in request.param:
        monkeypatch.setattr(packed, "TILE_QUERIES", 4)
        monkeypatch.setattr(packed, "TILE_SCORES", 200)
        monkeypatch.setattr(packed.Form, "is_plain", lambda *_, **__: False)
    return str(request.param)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("window", [None, 1, 2, 5, 28])
def test_packed_equals_dense_row_by_row(layout: str, window: int | None) -> None:
    """Prevents: siblings that see each other, a window that is off by one (those here are shorter than spans and tiles, and longer
    than both), outputs in the wrong order, a prompt's keys without the gradient of one of its siblings."""
    check(LAYOUTS[layout], tensors(LAYOUTS[layout]), window=window)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("layout", ["long prompt", "branches of branches", "any order"])
@pytest.mark.parametrize("window", [None, 6])
def test_capped_scores(layout: str, window: int | None) -> None:
    """Prevents: a cap before the scaling, a gradient without the slope of the cap, a cap on one of grids and spans alone."""
    rows = LAYOUTS[layout]
    plain, capped = (dense(rows, *tensors(rows), scaling=0.3, window=window, softcap=cap).detach() for cap in (None, 1.5))
    assert float((plain - capped).abs().max()) > 0.1, "the cap must matter"
    check(rows, tensors(rows), window=window, softcap=1.5)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("key_heads", [4, 1])
def test_query_heads_share_key_heads(key_heads: int) -> None:
    """Prevents: query heads that are folded in the wrong order, a mask that is repeated for the wrong ones."""
    rows = LAYOUTS["several groups"]
    check(rows, tensors(rows, key_heads=key_heads), window=9)


@pytest.mark.usefixtures("cut")
def test_scores_far_from_zero() -> None:
    """Prevents: overflow where parts are merged by their log-sum-exp, with the largest score in either part."""
    rows = LAYOUTS["long prompt"]
    query, key, value = tensors(rows)
    for inputs in ((query, key * 300, value), (query.abs(), -300 * key.abs(), value)):
        check(rows, tuple(tensor.detach().requires_grad_() for tensor in inputs), atol=1e-7)


@pytest.fixture
def spoilt_memory() -> Iterator[None]:
    """New memory is full of NaN, not of whatever stood there."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("cut", "spoilt_memory")
@pytest.mark.parametrize("window", [None, 26])
def test_memory_is_written_before_it_is_read(window: int | None) -> None:
    """Prevents: garbage in outputs or gradients where some rows go to torch's attention and others to tiles."""
    check(LAYOUTS["several groups"], tensors(LAYOUTS["several groups"]), window=window)


def test_views_that_are_not_contiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a wrong reading of what models hand over: `[1, T, H, d]` transposed, or one slice of a projection of all three."""
    monkeypatch.setattr(packed, "SPAN_PAIRS", 100)
    for layout in ("long prompt", "any order"):
        inputs = tensors(LAYOUTS[layout])
        plain = plan_for(LAYOUTS[layout]).attend(0, *inputs, scaling=0.3, window=None)
        odd = (tensor.detach().transpose(1, 2).contiguous().transpose(1, 2) for tensor in inputs)
        assert torch.equal(plan_for(LAYOUTS[layout]).attend(0, *odd, scaling=0.3, window=None), plain)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize(("softcap", "short"), [(None, 0), (None, 512), (1.5, 512)])
def test_rounding_of_16_bits_stays_small(monkeypatch: pytest.MonkeyPatch, softcap: float | None, short: int) -> None:
    """Prevents: scores, sums or gradients of a prompt that add up in bfloat16. Dense attention of the same inputs is float64."""
    monkeypatch.setattr(packed, "SHORT", short)
    rows = grown(*group(40, [24] * 8))
    inputs = tensors(rows, dtype=torch.bfloat16)
    form = {"scaling": 0.3, "window": None, "softcap": softcap}
    output = plan_for(rows).attend(0, *inputs, **form)
    assert output.dtype is torch.bfloat16
    exact = dense(rows, *inputs, **form)
    assert float((output - exact).detach().norm() / exact.detach().norm()) < 4e-3
    found = gradients(lambda *x: plan_for(rows).attend(0, *x, **form), inputs)
    expected = gradients(lambda *x: dense(rows, *x, **form), [x.detach().double().requires_grad_() for x in inputs])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype is torch.bfloat16
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-2


@pytest.mark.parametrize("pairs", [100, 1 << 60])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("slack", [1.0, 1.25, 100.0])
def test_every_token_is_answered_once(monkeypatch: pytest.MonkeyPatch, layout: str, slack: float, pairs: int) -> None:
    """Prevents: a token whose output is missing, or comes twice, however rows are cut and sorted into grids."""
    monkeypatch.setattr(packed, "SPAN_PAIRS", pairs)
    rows = LAYOUTS[layout]
    plan = plan_for(rows, slack=slack)
    assert sorted(place for grid in plan.grids for place in grid.gather[grid.kept].tolist()) == list(range(size(rows)))


@pytest.mark.parametrize(
    ("pairs", "dtype", "form", "lengths"),
    [
        (100, torch.float32, {}, [48]), (100, torch.float32, {"window": 48}, [48]), (100, torch.float32, {"window": 47}, []),
        (100, torch.float32, {"softcap": 9.0}, []), (100, torch.bfloat16, {}, [48]),
        (1 << 60, torch.float32, {}, [16, 48, 48, 48]), (1 << 60, torch.float32, {"window": 20}, [16]),
        (1 << 60, torch.bfloat16, {}, [48, 48, 48]),
    ],
)
def test_what_torch_computes(
    monkeypatch: pytest.MonkeyPatch, pairs: int, dtype: torch.dtype, form: dict[str, Any], lengths: list[int]
) -> None:
    """Prevents: torch's attention for rows below a span, under a cap or a shorter window, which it would ignore; or for short rows in
    16 bits and beside spans, where it is slow."""
    monkeypatch.setattr(packed, "SPAN_PAIRS", pairs)
    monkeypatch.setattr(packed, "SHORT", 40)
    rows = grown((None, 32), (0, 9), (0, 14), (None, 48), (None, 16))
    called: list[int] = []

    def spy(query: Tensor, *inputs: Tensor, **settings: Any) -> Tensor:
        called.append(query.shape[2])
        return torch.nn.functional.scaled_dot_product_attention(query, *inputs, **settings)

    monkeypatch.setattr(packed, "scaled_dot_product_attention", spy)
    inputs = tensors(rows, dtype=dtype)
    settings = {"scaling": 0.3, "window": None} | form
    output = plan_for(rows, slack=0.5).attend(0, *inputs, **settings)
    assert called == lengths
    torch.testing.assert_close(output.double(), dense(rows, *inputs, **settings), rtol=0.02, atol=0.02)


def test_only_long_beginnings_are_cut_off() -> None:
    """Prevents: a product for each prompt of a few tokens; a long prompt that is computed once per sibling."""
    assert plan_for(grown(*group(10, [5] * 8))).spans == ()
    rows = grown(*group(208, [16] * 8))
    plan = plan_for(rows)
    assert [(span.begin, span.end, span.stop) for span in plan.spans] == [(0, 208, 336)]
    assert sum(grid.gather.numel() for grid in plan.grids) == size(rows), "no query is computed twice"


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in ("rows within rows", "short prompt")])
def test_spans_in_spans_are_found(monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    """Guards the tests above: trees with long beginnings are cut there, however often they branch."""
    monkeypatch.setattr(packed, "SPAN_PAIRS", 100)
    count = {"one token": 0, "one row": 0, "rows alone": 0, "short beginning, then a long one": 0, "long prompt": 1,
             "siblings that share more": 2, "branches of branches": 3, "several groups": 2, "breadth first": 1, "any order": 2}
    assert len(plan_for(LAYOUTS[layout]).spans) == count[layout]


def test_grids_bound_the_padding() -> None:
    """One long row must not make all the others as long."""
    rows = grown(*group(2, [10] * 20 + [1000]))
    assert sum(grid.gather.numel() for grid in plan_for(rows).grids) < 1.3 * sum(len(row) for row in rows)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 63])
def test_no_product_has_an_odd_width(length: int) -> None:
    """Prevents: answers of 63 tokens that cost a CPU more than answers of 64."""
    assert [grid.gather.shape for grid in plan_for([list(range(length))]).grids] == [(1, -(-length // 16) * 16)]


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("window", [None, 2, 5])
def test_padding_and_other_rows_never_reach_an_output(window: int | None) -> None:
    """Garbage in another row's tokens, NaN even, must not change a row, nor the gradient of its queries."""
    rows = grown((None, 15), (0, 2), (0, 9), (2, 3), (None, 12))
    plan = plan_for(rows, slack=100.0)
    inputs = tensors(rows)
    own, other = rows[1], sorted(set(range(size(rows))) - set(rows[1]))
    spoilt = tuple(tensor.detach().index_fill(2, torch.tensor(other), float("nan")).requires_grad_() for tensor in inputs)
    outputs = [plan.attend(0, *x, scaling=0.3, window=window)[:, :, own] for x in (inputs, spoilt)]
    assert torch.equal(*outputs)
    found, expected = (
        torch.autograd.grad(output[:, :, -2:].sum(), x)[0][:, :, own[-2:]] for output, x in zip(outputs, (inputs, spoilt), strict=True)
    )
    assert torch.equal(found, expected) and bool(found.abs().sum() > 0)


def test_windows_wider_than_all_rows_are_no_windows() -> None:
    rows = LAYOUTS["branches of branches"]
    query, key, value = tensors(rows)
    plan = plan_for(rows)
    plain = plan.attend(0, query, key, value, scaling=0.4, window=None)
    longest = max(map(len, rows))
    torch.testing.assert_close(plan.attend(0, query, key, value, scaling=0.4, window=longest), plain)
    assert not torch.allclose(plan.attend(0, query, key, value, scaling=0.4, window=longest - 1), plain)


@pytest.mark.parametrize(("layout", "copied"), [("several groups", False), ("breadth first", True), ("any order", True)])
def test_copies_only_where_the_order_asks_for_it(layout: str, copied: bool) -> None:
    """Prevents: a copy of queries, keys and values for tokens that stand in depth-first order already."""
    assert (plan_for(LAYOUTS[layout]).order is not None) == copied


@pytest.mark.parametrize("rows", [[[0, 1], [2, 0, 3]], [[0, 2]], [[0, 1], [1]]])
def test_rows_that_are_no_tree(rows: Rows) -> None:
    """Prevents: a token at two positions, or one that nobody answers for."""
    with pytest.raises(AssertionError, match=r"a token has one place|every packed token"):
        packed_plan(rows, device=CPU)


def test_what_transformers_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a window, a cap, a scale or sinks of the model that gets lost on the way to the plan."""
    seen: dict[str, Any] = {}

    class Plan:
        def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, **form: Any) -> Tensor:
            seen.update(form, layer=layer)
            return query

    module = torch.nn.Module()
    module.layer_idx = 3
    query, key, value = tensors(LAYOUTS["one row"])
    output, _ = attention._attention(
        module, query, key, value, None, scaling=0.7, sliding_window=9, softcap=50.0, s_aux=key, dropout=0.0, plan=Plan()
    )
    assert seen.pop("sinks") is key
    assert seen == {"layer": 3, "scaling": 0.7, "window": 9, "softcap": 50.0}
    assert torch.equal(output, query.transpose(1, 2))
    attention._attention(module, query, key, value, None, plan=Plan())
    assert seen == {"layer": 3, "scaling": query.shape[-1] ** -0.5, "window": None, "softcap": None, "sinks": None}


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("window", [None, 5])
def test_nothing_is_read_that_was_not_written(layout: str, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: gradients that are NaN now and then, where rows of one tree are computed in two ways and share tokens: memory that
    nobody has written holds what the last user left there."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        check(LAYOUTS[layout], tensors(LAYOUTS[layout]), window=window)
    finally:
        torch.use_deterministic_algorithms(False)
