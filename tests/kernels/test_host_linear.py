"""Linear layers in C against products in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from heron.kernels.host.build import built
from heron.kernels.host.linear import MOST_ROWS, Linear, _function, takes

pytestmark = [pytest.mark.skipif(built().code is None, reason=built().reason), pytest.mark.usefixtures("without_gradients")]

TYPES = (torch.float32, torch.bfloat16)
ROUNDING = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}
"""At most, of a result, relative."""
SUMMING = 4e-7
"""At most, of sums in float32, relative to the sum of magnitudes."""


@pytest.fixture
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def made(rows: int, width: int, columns: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x, weight, bias."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator).to(dtype) for shape in ((rows, width), (columns, width), (columns,)))


def assert_near(y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    x, weight, bias = x.double(), weight.double(), None if bias is None else bias.double()
    exact, magnitude = linear(x, weight, bias), linear(x.abs(), weight.abs(), None if bias is None else bias.abs())
    assert ((y.double() - exact).abs() <= ROUNDING[y.dtype] * exact.abs() + SUMMING * magnitude).all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [1, 7, 16, 31, 32, 33, 100, 384])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 8, 21])
def test_tails_of_any_length_are_counted_once(width: int, columns: int, dtype: torch.dtype) -> None:
    for rows in (1, 2, 3, 4, 5, 6, 7, 12, 17):
        x, weight, bias = made(rows, width, columns, dtype)
        assert_near(Linear(weight)(x), x, weight, None)
        assert_near(Linear(weight, bias)(x), x, weight, bias)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [64, 100])
def test_a_row_is_the_same_whatever_else_is_in_the_batch(width: int, dtype: torch.dtype) -> None:
    """Or a completion depends on its siblings, and a run cannot be repeated."""
    x, weight, bias = made(64, width, 23, dtype)
    layer = Linear(weight, bias)
    alone = torch.cat([layer(row[None]) for row in x])
    for rows in (*range(1, 14), 64):
        assert torch.equal(layer(x[:rows]), alone[:rows])


@pytest.mark.parametrize("dtype", TYPES)
def test_a_result_does_not_depend_on_the_number_of_threads(dtype: torch.dtype) -> None:
    x, weight, bias = made(8, 512, 517, dtype)
    layer, before = Linear(weight, bias), torch.get_num_threads()
    try:
        results = [torch.set_num_threads(count) or layer(x) for count in (1, 2, 3)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("dtype", TYPES)
def test_nothing_is_written_behind_the_last_column(dtype: torch.dtype) -> None:
    """A tile has four columns, the result may have fewer."""
    for columns in (1, 2, 3, 5, 7):
        x, weight, _ = made(5, 32, columns, dtype)
        y = torch.full((5 * columns + 8,), 7.0, dtype=dtype)
        _function()(x.data_ptr(), weight.data_ptr(), None, y.data_ptr(), 5, 32, columns, dtype is torch.bfloat16)
        assert (y[5 * columns :] == 7).all() and torch.equal(y[: 5 * columns].view(5, columns), Linear(weight)(x))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [40, 64])
def test_a_number_that_is_none_stays_in_its_row_and_column(width: int, dtype: torch.dtype) -> None:
    x, weight, _ = made(7, width, 6, dtype)
    x[2, -1], x[4, 0], weight[5, 3] = float("nan"), float("inf"), float("nan")
    y = Linear(weight)(x)
    assert y[2].isnan().all() and y[:, 5].isnan().all() and y[4, :5].isinf().all()
    assert y[[0, 1, 3, 5, 6]][:, :5].isfinite().all()


def test_a_tie_is_rounded_to_even() -> None:
    """As torch rounds; sums that are always rounded up drift. One product in 256 is a tie."""
    x, weight, _ = made(100, 1, 300, torch.bfloat16)
    assert torch.equal(Linear(weight)(x), (x.float() @ weight.float().T).bfloat16())


def test_a_nan_of_all_ones_is_not_rounded_to_a_number() -> None:
    """Adding to its bits, as rounding does, could carry into the sign."""
    for bits in (0x7FFF, -1):
        x = torch.full((2, 32), bits, dtype=torch.int16).view(torch.bfloat16)
        ones = torch.ones(5, 32, dtype=torch.bfloat16)
        assert Linear(ones)(x).isnan().all() and Linear(ones, x[0, :5].contiguous())(ones).isnan().all()


@pytest.mark.parametrize("dtype", TYPES)
def test_overflow_is_infinite(dtype: torch.dtype) -> None:
    y = Linear(torch.full((4, 1), 1e30, dtype=dtype))(torch.tensor([[1e30], [-1e30], [0.0]], dtype=dtype))
    assert y.tolist() == [[float("inf")] * 4, [float("-inf")] * 4, [0.0] * 4]


def test_new_weights_are_seen_whether_written_in_place_or_given_as_data() -> None:
    """The optimizer does the one, loading a checkpoint may do the other; old memory would be free by then."""
    x, weight, bias = made(3, 48, 9, torch.float32)
    weight, bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    layer = Linear(weight, bias)
    weight.mul_(2)
    assert_near(layer(x), x, weight, bias)
    weight.data, bias.data = made(3, 48, 9, torch.float32, seed=1)[1:]
    assert_near(layer(x), x, weight, bias)


def test_outer_shapes_and_strides_of_x_are_as_for_torch() -> None:
    x, weight, bias = made(6, 10, 4, torch.float32)
    layer = Linear(weight, bias)
    for view in (x.view(2, 3, 10), x.view(3, 2, 10).transpose(0, 1), x[::2], x[0], x[:0]):
        torch.testing.assert_close(layer(view), linear(view, weight, bias))


def test_many_rows_are_left_to_torch() -> None:
    x, weight, bias = made(MOST_ROWS + 1, 33, 5, torch.float32)
    assert torch.equal(Linear(weight, bias)(x), linear(x, weight, bias))


def test_x_of_another_type_or_width_is_refused() -> None:
    """C would read past its end."""
    x, weight, _ = made(2, 16, 4, torch.float32)
    for wrong in (x.bfloat16(), x.double(), x[:, :8]):
        with pytest.raises(AssertionError, match="for a weight"):
            Linear(weight)(wrong)


def test_what_there_is_no_kernel_for_is_not_taken() -> None:
    _, weight, bias = made(1, 16, 4, torch.float32)
    assert takes(weight) and takes(weight, bias) and takes(weight.bfloat16(), bias.bfloat16())
    strange = weight.T, weight[:, ::2], weight[None], weight[:0], weight.to_sparse()
    for wrong in (weight.double(), weight.half(), weight.to("meta"), *strange):
        assert not takes(wrong)
    for wrong_bias in (bias.bfloat16(), bias[:2], bias.to("meta"), torch.randn(8)[::2], bias[None]):
        assert not takes(weight, wrong_bias)
