"""The route of float32 products: chosen by what it does, switched back afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from heron.kernels import matmul
from heron.kernels.matmul import DEFAULT, ONEDNN, Route, choose_route, is_available, using

SHAPES = [(8, 32, 48), (64, 32, 48)]


def trials(monkeypatch: pytest.MonkeyPatch, *measured: tuple[float, float, float]) -> Route:
    """The route that is chosen where the products measure so: seconds of the default, of oneDNN, and the latter's error."""
    found = iter(measured)
    monkeypatch.setattr(matmul, "_trial", lambda shape: next(found))
    monkeypatch.setattr(matmul, "is_available", lambda: True)
    return choose_route([(number + 1, 4, 4) for number in range(len(measured))])


@pytest.mark.parametrize(
    ("measured", "name"),
    [
        (((2.0, 1.0, 3e-7),), ONEDNN),
        (((2.0, 1.0, 3e-3),), DEFAULT),  # an AMX unit that really computes in bfloat16
        (((2.0, 1.0, 3e-7), (2.0, 1.0, 3e-3)), DEFAULT),  # exact on one shape is not exact
        (((1.0, 0.95, 3e-7),), DEFAULT),  # too little to be sure of
        (((9.0, 4.0, 3e-7), (1.0, 1.3, 3e-7)), DEFAULT),  # faster on the whole, slower where small products decode
        (((9.0, 4.0, 3e-7), (1.0, 1.05, 3e-7)), ONEDNN),
    ],
)
def test_only_an_exact_and_much_faster_route_is_taken(
    monkeypatch: pytest.MonkeyPatch, measured: tuple[tuple[float, float, float], ...], name: str
) -> None:
    """Prevents: bfloat16 products in a float32 run, and a step that becomes slower."""
    assert trials(monkeypatch, *measured).name == name


def test_the_check_measures_both_routes_and_their_error() -> None:
    """Prevents: a verdict about nothing. Both libraries are exact to float32 on any CPU without bfloat16 tiles."""
    route = choose_route(SHAPES)
    assert route.speedup > 0
    assert "float32 products" in route.verdict
    if is_available():
        assert 0 < route.error < 1e-2


def test_the_switch_is_put_back_even_after_an_error() -> None:
    """Prevents: a process whose later models run on a route that was chosen for another one."""
    if not is_available():
        pytest.skip("this build of torch has no oneDNN switch")
    before = torch.backends.mkldnn.matmul.fp32_precision
    with pytest.raises(KeyError), using(Route(name=ONEDNN)):
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        raise KeyError
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_the_default_touches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: overwriting what a user has chosen for the whole process."""
    class Guarded:
        def __setattr__(self, name: str, value: Any) -> None:
            raise AssertionError("the switch was written")

    monkeypatch.setattr(torch.backends.mkldnn, "matmul", Guarded(), raising=False)
    with using(Route()):
        pass


def test_no_switch_no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "is_available", lambda: False)
    assert choose_route(SHAPES) == Route()


def test_large_layers_are_checked_on_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a check that takes minutes on a model with a wide vocabulary; equal parts are measured once."""
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(matmul, "_trial", lambda shape: seen.append(shape) or (1.0, 1.0, 1e-7))
    monkeypatch.setattr(matmul, "is_available", lambda: True)
    choose_route([(512, 4096, 128_000), (512, 4096, 4096)])
    assert seen == [(512, 1024, 1024)]
