"""Drawing in C: torch's tokens, the sums of float64, nothing read that was not given. `test_sampling` asks more, of both ways."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from heron.kernels import sampling
from heron.kernels.host import draw
from heron.kernels.host.build import SOURCES, built

pytestmark = pytest.mark.skipif(built().code is None, reason=f"without C: {built().reason}")

ALMOST_ONE = 1 - 2.0**-53
BLOCK, TILE = 128, 2048
SIZES = [1, 17, BLOCK, BLOCK + 1, TILE - 1, TILE, TILE + 1, 2 * TILE + 4 * BLOCK, 20_001]


def random_logits(rows: int, size: int, *, scale: float = 3.0) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(size)) * scale


def random_uniforms(count: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def in_c(
    logits: Tensor, uniforms: Tensor, rows: Tensor | None = None, temperature: float = 1.0, at_least: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    assert draw.takes(logits, at_least)
    return draw.sample(logits, uniforms, rows, temperature=temperature, at_least=at_least)


def assert_same(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> None:
    """Bit for bit."""
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one, other)


@pytest.fixture
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_what_c_cannot_read_goes_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: bytes of another type or place read as float32; and C that is there but never used."""
    logits = random_logits(3, 300)
    made = torch.zeros(3), torch.ones(3), torch.ones(3)
    monkeypatch.setattr(draw, "sample", lambda *_, **__: made)
    monkeypatch.setattr(draw, "spread", lambda *_, **__: made[:2])
    assert sampling.sample(logits, random_uniforms(3)) is made
    assert (sampling.spread(logits).log_total, sampling.spread(logits).entropy) == made[:2]
    for other in (logits.double(), logits.bfloat16(), logits.T, logits.to("meta"), logits[:, :0]):
        assert not draw.takes(other, None)
    assert not draw.takes(logits, torch.zeros(3, dtype=torch.float64))
    assert draw.takes(logits, torch.zeros(3))
    assert draw.takes(logits[:, 3:40], None)


@pytest.mark.parametrize("size", [300, 5000, 70_001])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("masked", [False, True])
def test_draws_the_tokens_of_torch(size: int, temperature: float, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines, with a compiler and without one, continue a run alike: only rounding at a border may tell them apart."""
    logits, uniforms = random_logits(5, size), random_uniforms(4000)
    logits[2, ::2] = -math.inf
    at_least = torch.linspace(-3, 1, 5) if masked else None
    rows = torch.arange(4000) % 5
    ours = in_c(logits, uniforms, rows, temperature, at_least)
    totals = sampling.spread(logits, temperature=temperature, at_least=at_least)
    monkeypatch.setattr(draw, "takes", lambda logits, at_least: False)
    theirs = sampling.sample(logits, uniforms, rows, temperature=temperature, at_least=at_least)
    same = ours[0] == theirs[0]
    assert float(same.double().mean()) >= 0.999
    torch.testing.assert_close(ours[1][same], theirs[1][same], atol=2e-6, rtol=0)
    torch.testing.assert_close(ours[2], theirs[2], atol=2e-5, rtol=0)
    expected = sampling.spread(logits, temperature=temperature, at_least=at_least)
    torch.testing.assert_close(totals.log_total, expected.log_total, atol=2e-6, rtol=0)
    torch.testing.assert_close(totals.entropy, expected.entropy, atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_every_token_has_its_place(size: int) -> None:
    """Equal logits and one uniform in the middle of each token's share: a tile, block or offset that is off by one shows up."""
    middles = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    tokens, logprobs, entropy = in_c(torch.full((1, size), -7.0), middles, torch.zeros(size, dtype=torch.int64))
    assert torch.equal(tokens, torch.arange(size))
    torch.testing.assert_close(logprobs, torch.full_like(logprobs, -math.log(size)), atol=1e-12, rtol=0)
    torch.testing.assert_close(entropy, torch.full_like(entropy, math.log(size)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", SIZES[2:])
@pytest.mark.parametrize("uniform", [0.0, 5e-324, ALMOST_ONE, 1.0, 2.0, -1.0, math.nan])
def test_no_uniform_draws_what_is_impossible(size: int, uniform: float) -> None:
    """Prevents: a token of probability zero at the edges, and memory read outside for a number that is no uniform."""
    logits = random_logits(50, size).masked_fill(torch.rand(50, size, generator=torch.Generator().manual_seed(3)) < 0.7, -math.inf)
    logits[:, size // 2] = 0.0
    logits[:, 0] = logits[:, -1] = -math.inf
    at_least = torch.full((50,), -1.0)
    tokens, logprobs, _ = in_c(logits, torch.full((50,), uniform, dtype=torch.float64), at_least=at_least)
    assert bool((logits.gather(-1, tokens[:, None]) >= -1).all())
    assert bool(logprobs.isfinite().all())


@pytest.mark.parametrize("size", [17, 1000, 32_768])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.05, 30.0])
@pytest.mark.parametrize(("scale", "rounding"), [(0.01, 1.5e-6), (3.0, 6e-7), (50.0, 6e-7)])
def test_sums_are_those_of_float64(size: int, temperature: float, scale: float, rounding: float) -> None:
    """Prevents: sums in float32 alone, and a coarse exponential, whose errors add up where nearly all logits are equal (0.01)."""
    logits = random_logits(8, size, scale=scale)
    logits[4:, 3] = 10  # all others far below
    tokens, logprobs, entropy = in_c(logits, random_uniforms(8), temperature=temperature)
    expected = torch.distributions.Categorical(logits=logits.double() / temperature)
    torch.testing.assert_close(logprobs, expected.log_prob(tokens), atol=rounding, rtol=0)
    torch.testing.assert_close(entropy, expected.entropy(), atol=2e-6, rtol=0)


@pytest.mark.parametrize("lowest", [-math.inf, torch.finfo(torch.float32).min, -1e30, -1e5])
@pytest.mark.parametrize("offset", [0.0, -1e5, 1e6])
def test_logits_of_any_size(lowest: float, offset: float) -> None:
    """Prevents: exponents that overflow, in tiles where nothing else is, and zero times infinity in the entropy."""
    logits = torch.full((1, 3 * TILE), lowest)
    logits[0, [TILE + 5, TILE + 6]] = offset
    tokens, logprobs, entropy = in_c(logits, torch.tensor([0.2, 0.9], dtype=torch.float64), torch.tensor([0, 0]))
    if lowest == offset:
        return
    assert tokens.tolist() == [TILE + 5, TILE + 6]
    torch.testing.assert_close(logprobs, torch.full((2,), -math.log(2), dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(entropy, torch.full((2,), math.log(2), dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF, 0x7FC001FF, 0x7F800000])
@pytest.mark.parametrize("place", [0, 16, TILE - 1, TILE + 700, 2 * TILE + 3])
@pytest.mark.parametrize("others_possible", [True, False])
def test_a_broken_row_is_not_finite(bits: int, place: int, others_possible: bool) -> None:
    """NaN of any bits, and +inf, wherever they stand. Neighbours stay as they were."""
    logits = random_logits(3, 2 * TILE + 4)
    before = in_c(logits, random_uniforms(3))
    if not others_possible:
        logits[1] = -math.inf
    logits.view(torch.int32)[1, place] = struct.unpack("i", struct.pack("I", bits))[0]
    after = in_c(logits, random_uniforms(3))
    totals = sampling.spread(logits)
    for values in (*after[1:], totals.log_total, totals.entropy):
        assert values.isfinite().tolist() == [True, False, True]
    assert 0 <= int(after[0][1]) < logits.shape[1]
    assert_same(tuple(values[[0, 2]] for values in before), tuple(values[[0, 2]] for values in after))


def test_a_row_in_which_nothing_is_possible_is_not_finite() -> None:
    """By logits, or by their bound."""
    logits = random_logits(3, 3000)
    logits[0] = -math.inf
    _, logprobs, entropy = in_c(logits, random_uniforms(3), at_least=torch.tensor([-9.0, 1e9, -9.0]))
    assert logprobs.isfinite().tolist() == entropy.isfinite().tolist() == [False, False, True]


@pytest.mark.parametrize("size", [5, 129, TILE + 1, 70_001])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_row_depends_neither_on_others_nor_on_its_place(size: int, temperature: float, two_threads: None) -> None:
    """Bit for bit: in a crowd and with two threads, or alone with one; in a wider tensor, whose other columns are not read."""
    logits, uniforms, at_least = random_logits(19, size), random_uniforms(19), torch.full((19,), -50.0)
    crowd = in_c(logits, uniforms, None, temperature)
    wide = torch.full((19, size + 7), math.nan)
    wide[:, 3 : size + 3] = logits
    assert_same(crowd, in_c(wide[:, 3 : size + 3], uniforms, None, temperature))
    assert_same(crowd, in_c(logits, uniforms, None, temperature, at_least))
    torch.set_num_threads(1)
    for row in (0, 4, 18):
        alone = in_c(logits[row : row + 1], uniforms[row : row + 1], None, temperature)
        assert_same(alone, tuple(values[row : row + 1] for values in crowd))


def test_arguments_may_lie_anyhow() -> None:
    """Prevents: steps of 1 taken for granted: bounds are often a column of a wider tensor, rows int32."""
    logits, uniforms, rows, bounds = random_logits(4, 500), random_uniforms(6), torch.tensor([3, 0, 0, 2, 1, 3]), torch.randn(4, 3)
    expected = in_c(logits, uniforms, rows, 1.0, bounds[:, 1].clone())
    apart = torch.stack([uniforms, -uniforms], -1)[:, 0]
    assert_same(expected, in_c(logits, apart, rows.int(), 1.0, bounds[:, 1]))


@pytest.mark.parametrize("row", [-1, 4, 2**40])
def test_a_row_that_is_not_there_is_an_error(row: int) -> None:
    """Prevents: memory read outside of the logits."""
    with pytest.raises(IndexError, match="4 rows"):
        in_c(random_logits(4, 500), random_uniforms(2), torch.tensor([0, row]))
    with pytest.raises(AssertionError):
        in_c(random_logits(4, 500), random_uniforms(5))


def test_sizes_are_those_of_c() -> None:
    """Guards this file: sizes around the borders of a tile have to be around its borders."""
    source = (SOURCES / "draw.c").read_text(encoding="utf-8")
    assert f"#define TILE {TILE} " in source
    assert f"#define BLOCK {BLOCK} " in source
