"""Every optimizer by name: what it trains, what it refuses, that it resumes bit for bit, and that small updates arrive in 16 bits."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import heron_gradient
from small_runs import small_config, some_flat
from tinymodels import load_tiny, ragged_groups, save_tiny
from torch import Tensor, nn

import heron.training.optimizer as module
from heron.config import Config
from heron.config.objective import ObjectiveConfig
from heron.config.schema import OPTIMIZERS, TrainConfig
from heron.errors import ConfigError, MissingExtra
from heron.rewards import resolve
from heron.training.assemble import assemble, reassemble
from heron.training.optimizer import Together, check_optimizer, make_optimizer, move_state, resting, set_learning_rate, tables_of
from heron.training.update import clip_and_step

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ON_CPU = [name for name in OPTIMIZERS if not name.startswith("paged_")]
RATES = {"adafactor": 0.1}
"""Of the weights' own size, where the others' is of an update."""


class TestRuns:
    """Whole runs, killed and resumed."""

    @pytest.fixture(scope="class")
    def folders(self, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
        """A tiny model in each type; its embedding is large enough for moments of 8 bits."""
        folder = tmp_path_factory.mktemp("optimizers")
        return {
            "float32": save_tiny("qwen3", folder / "float32"), "bfloat16": save_tiny("qwen3", folder / "bfloat16", dtype=torch.bfloat16),
        }

    @pytest.mark.parametrize("name", ON_CPU)
    def test_a_killed_run_goes_on_bit_for_bit(self, folders: Mapping[str, Path], tmp_path: Path, name: str) -> None:
        """Prevents: moments, rests or step counts of an optimizer that are lost, rounded or mixed up by a checkpoint."""
        start = folders["bfloat16" if name == "adamw_kahan" else "float32"]
        config = small_config(
            start, model={"method": "full"},
            train={"optimizer": name, "weight_decay": 0.1, "save_steps": 1, "max_steps": 4, "learning_rate": RATES.get(name, 3e-3)},
        )
        assert run(config, tmp_path / "whole") is None
        assert isinstance(run(config, tmp_path / "cut", die_after=2), KeyboardInterrupt)
        reassemble(tmp_path / "cut", rewards=resolve([some_flat])).train()
        whole, cut, before = (path / "model.safetensors" for path in (tmp_path / "whole" / "model", tmp_path / "cut" / "model", start))
        assert whole.read_bytes() == cut.read_bytes() != before.read_bytes()


def run(config: Config, path: Path, *, die_after: int | None = None) -> BaseException | None:
    """Train; what ended it early."""

    def listener(kind: str, payload: Mapping[str, Any]) -> None:
        if kind == "metrics" and payload["step"] == die_after:
            raise KeyboardInterrupt

    try:
        assemble(config, path, rewards=resolve([some_flat]), listeners=[listener]).train()
    except KeyboardInterrupt as end:
        return end
    return None


class TestChoice:
    """The right weights under the right rule."""

    @pytest.mark.parametrize("name", ON_CPU)
    def test_a_step_goes_downhill_and_norms_do_not_decay(self, tiny_folder: Callable[[str], Path], name: str) -> None:
        """Prevents: an optimizer that leaves weights out, climbs, or pulls norms to zero."""
        policy = load_tiny(tiny_folder("qwen3"))
        optimizer = make_optimizer(
            policy.trainable(), TrainConfig(optimizer=name, weight_decay=0.1, learning_rate=RATES.get(name, 1e-3)),
            tables=tables_of(policy.model),
        )
        decays = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
        assert {key: decays[id(weight)] for key, weight in policy.trainable()} == {
            key: 0.1 if weight.dim() >= 2 else 0.0 for key, weight in policy.trainable()
        }
        before = {key: weight.detach().clone() for key, weight in policy.trainable()}
        gradient, _, _ = heron_gradient(policy, ragged_groups(3), ObjectiveConfig())
        gradient = {key: value.clone() for key, value in gradient.items()}
        clip_and_step(optimizer, max_grad_norm=1.0)
        moved = {key: (weight.detach() - before[key]) for key, weight in policy.trainable()}
        assert all(float((moved[key] * gradient[key]).sum()) < 0 for key in gradient)

    @pytest.mark.parametrize("name", ON_CPU)
    def test_the_learning_rate_is_the_one_that_was_set(self, name: str) -> None:
        """Prevents: a schedule that an optimizer, or a part of one, does not hear of; after a checkpoint was loaded, too."""
        weights = [("w", nn.Parameter(torch.ones(8, 8))), ("b", nn.Parameter(torch.ones(8)))]
        optimizer = make_optimizer(weights, TrainConfig(optimizer=name, learning_rate=1e-2))
        for restored in (False, True):
            if restored:
                optimizer.load_state_dict(optimizer.state_dict())
            set_learning_rate(optimizer, 0.0)
            before = [weight.detach().clone() for _, weight in weights]
            for _, weight in weights:
                weight.grad = torch.ones_like(weight)
            clip_and_step(optimizer, max_grad_norm=1.0)
            assert all(torch.equal(weight, old) for (_, weight), old in zip(weights, before, strict=True))
            assert all(weight.grad is None for _, weight in weights)

    @pytest.mark.parametrize(("method", "kind"), [("full", "qwen3"), ("full", "untied"), ("lora", "qwen3")])
    def test_muon_has_the_matrices_inside(self, tiny_folder: Callable[[str], Path], method: str, kind: str) -> None:
        """Prevents: embeddings or a head whose rows are made orthogonal, and adapters that only AdamW trains."""
        policy = load_tiny(tiny_folder(kind), method=method)
        optimizer = make_optimizer(policy.trainable(), TrainConfig(optimizer="muon"), tables=tables_of(policy.model))
        assert isinstance(optimizer, Together)
        inside = {id(weight) for part in optimizer.parts if isinstance(part, torch.optim.Muon)
                  for group in part.param_groups for weight in group["params"]}
        names = {name for name, weight in policy.trainable() if id(weight) in inside}
        assert names == {name for name, weight in policy.trainable() if weight.dim() == 2 and "embed" not in name and "head" not in name}
        assert names and sum(len(group["params"]) for group in optimizer.param_groups) == len(policy.trainable())

    def test_moments_of_8_bits_have_8_bits(self) -> None:
        """Prevents: the memory of AdamW under another name."""
        weight = nn.Parameter(torch.ones(128, 64))
        optimizer = make_optimizer([("w", weight)], TrainConfig(optimizer="adamw_8bit"))
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        large = [value for value in optimizer.state[weight].values() if isinstance(value, Tensor) and value.numel() >= weight.numel()]
        assert [value.dtype for value in large] == [torch.uint8, torch.uint8]


class TestRefusals:
    """Found before anything is loaded."""

    @pytest.mark.parametrize(("settings", "device", "advice"), [
        ({"optimizer": "paged_adamw_8bit"}, CPU, 'Use "adamw_8bit"'),
        ({"offload_optimizer": True}, CPU, "Leave it out"),
        ({"optimizer": "paged_adamw_8bit", "offload_optimizer": True}, CUDA, "Leave one out"),
        ({"optimizer": "adafactor", "adam_beta2": 0.95}, CPU, "Leave them out"),
    ])
    def test_settings_that_could_do_nothing(self, settings: dict[str, Any], device: torch.device, advice: str) -> None:
        """Prevents: a dial that turns nothing."""
        with pytest.raises(ConfigError, match=advice):
            check_optimizer(TrainConfig(**settings), device)

    @pytest.mark.parametrize(("name", "extra"), [
        ("adamw_8bit", "qlora"), ("paged_adamw_8bit", "qlora"), ("adamw_kahan", "optim"),
    ])
    def test_an_absent_package_is_named_before_a_run_begins(
        self, tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: str
    ) -> None:
        """Prevents: an import that fails after minutes of loading, without a word of what to install."""
        find = importlib.util.find_spec
        monkeypatch.setattr(module, "find_spec", lambda wanted: None if wanted in ("bitsandbytes", "optimi") else find(wanted))
        config = small_config(tiny_folder("qwen3"), train={"optimizer": name})
        with pytest.raises(MissingExtra, match=rf"heron-rl\[{extra}\]"):
            run(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "adamw_kahan"])
    def test_weights_of_16_bits_and_the_way_out(self, name: str) -> None:
        """Prevents: training in which no weight moves."""
        with pytest.raises(ConfigError, match=r"bfloat16.*adamw_kahan"):
            make_optimizer([("w", nn.Parameter(torch.zeros(2, 2, dtype=torch.bfloat16)))], TrainConfig(optimizer=name))

    def test_running_means_that_never_fade(self) -> None:
        """Prevents: a variance in bfloat16 that stays at its greatest value, for 0.999 of it is rounded back to all of it."""
        weights = [("w", nn.Parameter(torch.zeros(2, 2, dtype=torch.bfloat16)))]
        with pytest.raises(ConfigError, match=r"adam_beta2 is 0\.999.*0\.99"):
            make_optimizer(weights, TrainConfig(optimizer="adamw_kahan", adam_beta2=0.999))
        make_optimizer([("w", nn.Parameter(torch.zeros(2, 2)))], TrainConfig(optimizer="adamw_kahan", adam_beta2=0.999))


class TestSmallUpdates:
    """Weights of 16 bits."""

    def test_kahan_moves_what_plain_rounding_leaves(self) -> None:
        """Prevents: full fine-tuning in bfloat16 at 1e-6 in which no weight ever moves: 500 updates must be there in the sum."""
        start, steps, rate = torch.linspace(0.01, 0.03, 256).bfloat16().reshape(16, 16), 500, 1e-6
        moved = {}
        for name in ("adamw", "adamw_kahan"):
            weight = nn.Parameter(start.clone())
            kahan = make_optimizer([("w", weight)], TrainConfig(optimizer="adamw_kahan", learning_rate=rate))
            optimizer = kahan if name == "adamw_kahan" else torch.optim.AdamW([weight], lr=rate, weight_decay=0.0)
            for _ in range(steps):
                weight.grad = torch.ones_like(weight)
                optimizer.step()
            moved[name] = (start.double() - weight.detach().double()).mean()
        assert moved["adamw"] == 0
        assert moved["adamw_kahan"] == pytest.approx(steps * rate, rel=0.1)


class TestRest:
    """State that leaves the GPU while answers are sampled."""

    @pytest.mark.parametrize("name", ON_CPU)
    def test_all_of_a_large_state_is_moved(self, name: str) -> None:
        """Prevents: parts of a state, or of one of two optimizers, that stay."""
        weight = nn.Parameter(torch.ones(128, 64, dtype=torch.bfloat16 if name == "adamw_kahan" else torch.float32))
        table = nn.Parameter(weight.detach().clone())
        optimizer = make_optimizer([("w", weight), ("t", table)], TrainConfig(optimizer=name), tables=[table])
        for each in (weight, table):
            each.grad = torch.ones_like(each)
        optimizer.step()
        seen: list[Tensor] = []

        def move(owner: Tensor, value: Tensor) -> Tensor:
            assert owner is weight or owner is table
            seen.append(value)
            return value.clone()

        move_state(optimizer, move)
        parts = optimizer.parts if isinstance(optimizer, Together) else [optimizer]
        held = [value for part in parts for state in part.state.values() for value in state.values() if isinstance(value, Tensor)]
        assert not {id(value) for value in held} & {id(value) for value in seen}
        least = {"adafactor": 0, "muon": 3}.get(name, 4)  # row and column means are small; two moments of two weights are not
        assert len(seen) >= least

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU; not yet run on a GPU")
    @pytest.mark.parametrize("name", ON_CPU)
    def test_it_comes_back_to_the_gpu_as_it_was(self, name: str) -> None:
        """Not yet run on a GPU. Prevents: state that stays away, or is changed by the way."""
        weight = nn.Parameter(torch.ones(256, 256, dtype=torch.bfloat16 if name == "adamw_kahan" else torch.float32, device=CUDA))
        optimizer = make_optimizer([("w", weight)], TrainConfig(optimizer=name))
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        kept: list[Tensor] = []
        move_state(optimizer, lambda _, value: kept.append(value.clone()) or value)
        before = torch.cuda.memory_allocated()
        with resting(optimizer):
            assert torch.cuda.memory_allocated() < before
        back: list[Tensor] = []
        move_state(optimizer, lambda _, value: back.append(value) or value)
        assert all(torch.equal(*pair) and pair[1].is_cuda for pair in zip(kept, back, strict=True))
