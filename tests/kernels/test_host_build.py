"""The C library: made where there is a compiler, and a reason where there is none. Tiny sources, so that compiling takes no time."""

from __future__ import annotations

import ctypes
import shutil
import tomllib
from pathlib import Path

import pytest
import torch

from heron.kernels.host import build
from heron.kernels.host.build import Built, built

COMPILER = next(filter(None, map(shutil.which, build.COMPILERS)), None)
HEADER = build.SOURCES / "vectors.h"
ANSWER = "int answer(void) { return 42; }"
THREADS = """
int omp_get_num_threads(void);
int threads(void) {
    int most = 0;
#pragma omp parallel reduction(max : most)
    most = omp_get_num_threads();
    return most;
}
"""
VECTORS = """
#include "vectors.h"
void powers(float *x, long n) { for (long i = 0; i < n; i += LANES) store(x + i, power_of_two(load(x + i))); }
void roundings(const float *x, bf16 *y, long n) {
    for (long i = 0; i < n; i += LANES) { narrow v = rounded_all(load(x + i)); memcpy(y + i, &v, sizeof v); }
}
void widenings(const bf16 *x, float *y, long n) {
    for (long i = 0; i < n; i += LANES) { narrow v; memcpy(&v, x + i, sizeof v); store(y + i, widened_all(v)); }
}
void totals(const float *x, float *y, long n) {
    for (long i = 0; i < n; i += LANES) {
        vec4 four = sums(load(x + i), load(x + i) * all(2), load(x + i) * all(4), load(x + i) * all(8));
        y[i / LANES] = sum(load(x + i));
        for (int j = 0; j < 4; j++) if (four[j] != y[i / LANES] * (1 << j)) y[i / LANES] = -1;
    }
}
long lanes(void) { return LANES; }
"""

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "answer.c").write_text(ANSWER)
    monkeypatch.setattr(build, "SOURCES", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def afresh() -> Built:
    return built.__wrapped__()


def compiler_of(monkeypatch: pytest.MonkeyPatch, folder: Path, **scripts: str) -> None:
    """Put shell scripts in the place of compilers."""
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(build, "COMPILERS", tuple(scripts))
    monkeypatch.setattr(build.shutil, "which", lambda name: str(folder / name))


@needs_compiler
def test_the_kernels_themselves_compile_where_there_is_a_compiler() -> None:
    """Or a mistake in a C file shows only as a slow engine."""
    assert built().code is not None, built().reason


@needs_compiler
def test_functions_can_be_called(sources: Path) -> None:
    library = afresh().code
    assert library is not None and library.answer() == 42


@needs_compiler
def test_a_second_process_takes_the_library_of_the_first(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each run waits for the compiler."""
    afresh()
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("compiled again"))
    assert afresh().code is not None


@needs_compiler
def test_a_changed_source_is_compiled_again(sources: Path) -> None:
    """Or an upgrade runs the code of the old version."""
    afresh()
    (sources / "answer.c").write_text(ANSWER.replace("42", "43"))
    library = afresh().code
    assert library is not None and library.answer() == 43


@needs_compiler
def test_nothing_is_left_in_the_cache_but_the_library(sources: Path, tmp_path: Path) -> None:
    afresh()
    assert [path.suffix for path in (tmp_path / "cache").rglob("*") if path.name not in ("heron", "host")] == [".so"]


def test_without_a_compiler_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda _: None)
    assert afresh().code is None and "no C compiler" in afresh().reason


def test_a_compiler_that_fails_is_a_reason_not_an_error(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler_of(monkeypatch, tmp_path, gcc="echo no licence >&2; exit 1")
    assert afresh().code is None and "no licence" in afresh().reason


@needs_compiler
def test_a_cache_that_cannot_be_written_is_a_reason_not_an_error(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert afresh().code is None and str(tmp_path / "file") in afresh().reason


@needs_compiler
def test_a_second_compiler_is_tried_if_the_first_fails(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old gcc without the vectors that are used must not hide a newer clang."""
    compiler_of(monkeypatch, tmp_path, gcc="exit 1", clang=f'exec {COMPILER} "$@"')
    assert afresh().code is not None


@needs_compiler
def test_a_compiler_without_openmp_makes_a_library_of_one_thread(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler_of(monkeypatch, tmp_path, gcc=f'case "$*" in *-fopenmp*) exit 1;; esac; exec {COMPILER} "$@"')
    made = afresh()
    assert made.code is not None and not made.is_parallel


@needs_compiler
@pytest.mark.skipif(not built().is_parallel, reason="no OpenMP")
def test_threads_are_as_many_as_torch_was_told(sources: Path) -> None:
    """Or two pools of threads fight for the same cores."""
    (sources / "answer.c").write_text(THREADS)
    library, before = afresh().code, torch.get_num_threads()
    assert library is not None
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert library.threads() == count
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def vectors(sources: Path) -> ctypes.CDLL:
    shutil.copy(HEADER, sources)
    (sources / "answer.c").write_text(VECTORS)
    library = afresh().code
    assert library is not None, afresh().reason
    return library


def given(library: ctypes.CDLL, name: str, *tensors: torch.Tensor) -> None:
    getattr(library, name)(*(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors), ctypes.c_long(tensors[0].numel()))


@needs_compiler
def test_powers_of_two_are_exact_enough_and_nan_for_any_nan(vectors: ctypes.CDLL) -> None:
    """A NaN whose low bits are set would be shifted into a number."""
    x = torch.linspace(-140, 127, 1 << 16)
    powers = x.clone()
    given(vectors, "powers", powers)
    assert (powers[x < -126] == 0).all()
    torch.testing.assert_close(powers[x >= -126].double(), x[x >= -126].double().exp2(), rtol=3e-7, atol=0)
    nan = torch.tensor([0x7FFFFFFF, -1, 0x7FC00001, 0x7FC00000] * 16, dtype=torch.int32).view(torch.float32)
    given(vectors, "powers", nan)
    assert nan.isnan().all()


@needs_compiler
def test_vectors_are_rounded_and_widened_as_torch_does(vectors: ctypes.CDLL) -> None:
    x = torch.randint(-(1 << 31), 1 << 31, (1 << 16,), generator=torch.Generator().manual_seed(0)).to(torch.int32)
    x[::3] = x[::3] & ~0xFFFF | 0x8000  # ties
    x[:3] = torch.tensor([0x7FFFFFFF, -1, 0x7F7FFFFF])
    x = x.view(torch.float32)
    rounded, widened = torch.empty(len(x), dtype=torch.bfloat16), torch.empty_like(x)
    given(vectors, "roundings", x, rounded)
    given(vectors, "widenings", rounded, widened)
    torch.testing.assert_close(rounded, x.bfloat16(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(widened, rounded.float(), rtol=0, atol=0, equal_nan=True)


@needs_compiler
def test_four_sums_side_by_side_are_those_of_one(vectors: ctypes.CDLL) -> None:
    """A tile of four columns and a single sum must agree bit for bit."""
    x = torch.randn(64, vectors.lanes(), generator=torch.Generator().manual_seed(0))
    totals = torch.empty(64)
    given(vectors, "totals", x, totals)
    torch.testing.assert_close(totals, x.sum(1))


def test_an_installed_package_has_the_sources() -> None:
    """A wheel holds no file that is not named there."""
    patterns = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["heron"]
    package = build.SOURCES.parents[1]
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    assert {path for path in build.SOURCES.iterdir() if path.suffix in (".c", ".h")} <= packed
