"""A loss and an advantage estimator in a file of the user: found by name, used as the built-in ones are, wrong ones refused."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, median

import padded
import pytest
import torch
from padded import SETTINGS, draw, value_and_gradient

from heron.errors import ConfigError
from heron.objective import Loss, LossInputs, Objective, advantages, find_correction, find_estimator, find_loss, register_loss

LOSSES = '''
"""A clip whose bounds widen with the length of the row."""
import torch
from torch import Tensor

from heron.objective import LossInputs, Surrogate, register_loss

@register_loss(weights="row_mean")
def my_clip(inputs: LossInputs, *, epsilon: float, epsilon_high: float, width: float = 0.5) -> Surrogate:
    """A default that is no setting stays as it is."""
    length = inputs.spread(inputs.row_sum(torch.ones_like(inputs.ratio)))
    wide = 1 + width * length.log()
    clipped = torch.clamp(inputs.ratio, 1 - epsilon * wide, 1 + epsilon_high * wide)
    loss = -torch.minimum(inputs.ratio * inputs.advantages, clipped * inputs.advantages)
    return Surrogate(loss=loss, marks={"clip_ratio/region_mean": clipped != inputs.ratio})

def forgotten(inputs: LossInputs) -> Tensor:
    return -inputs.advantages * inputs.logprobs

@register_loss(weights="tokens")
def greedy(inputs: LossInputs, *, epsilo: float) -> Tensor:
    return -inputs.advantages * inputs.logprobs

@register_loss(weights="tokens")
def scalar(inputs: LossInputs) -> Tensor:
    return -(inputs.advantages * inputs.logprobs).mean()

@register_loss(weights="row_mean")
def per_row(inputs: LossInputs) -> Tensor:
    return -inputs.row_sum(inputs.logprobs)
'''
ESTIMATORS = '''
"""Half of the siblings are above the baseline."""
import torch
from torch import Tensor

from heron.objective import Rewards, register_advantage

@register_advantage
def above_median(rewards: Rewards, *, scale_rewards: str) -> Tensor:
    found = torch.zeros_like(rewards.total)
    for group in rewards.groups.unique():
        members = rewards.groups == group
        known = rewards.total[members & ~rewards.total.isnan()]
        found[members] = rewards.total[members] - known.quantile(0.5)
    return found if scale_rewards == "none" else found / (rewards.group_std(rewards.total) + 1e-4)

def forgotten(rewards: Rewards) -> Tensor:
    return rewards.total
'''


@pytest.fixture
def losses(tmp_path: Path) -> str:
    path = tmp_path / "losses.py"
    path.write_text(LOSSES)
    return str(path)


@pytest.fixture
def estimators(tmp_path: Path) -> str:
    path = tmp_path / "advantages.py"
    path.write_text(ESTIMATORS)
    return str(path)


def naive_my_clip(b: padded.Padded, width: float = 0.5) -> torch.Tensor:
    wide = 1 + width * b.n.log()[:, None]
    w, A = torch.exp(b.lp - b.old), b.A[:, None]
    clipped = torch.minimum(torch.maximum(w, 1 - SETTINGS["epsilon"] * wide), 1 + SETTINGS["epsilon_high"] * wide)
    return -torch.minimum(w * A, clipped * A)


def test_a_loss_from_a_file_is_trained_like_a_built_in_one(losses: str) -> None:
    """Prevents: settings that are handed over by place, weights that are ignored, masks and KL that only built-in losses get."""
    loss = find_loss(f"{losses}:my_clip")
    assert isinstance(loss, Loss) and (loss.name, loss.weights) == ("my_clip", "row_mean")
    objective = Objective(loss=loss, settings=SETTINGS, beta=0.1, correction=find_correction("token_truncate", high=1.1))
    for seed in range(6):
        batch = draw(seed)
        rho = torch.where(batch.smp.isnan(), 0.0, batch.old - batch.smp).exp().clamp(max=1.1)
        d = batch.ref - batch.lp
        wanted = padded.reduce("grpo", rho * naive_my_clip(batch) + 0.1 * (d.exp() - d - 1), batch.m)
        found = value_and_gradient(objective, batch)
        torch.testing.assert_close(found[0], wanted.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found[1], torch.autograd.grad(wanted, batch.lp)[0], rtol=1e-12, atol=1e-12)
    assert "clip_ratio/region_mean" in objective(padded.flat(draw(0), "row_mean")).marks


def test_a_setting_reaches_a_parameter_of_its_name_and_a_default_stays(losses: str) -> None:
    """Prevents: a default that wins over a setting."""
    batch = draw(3)
    objective = Objective(loss=find_loss(f"{losses}:my_clip"), settings=SETTINGS | {"width": 2.0})
    wanted = padded.reduce("grpo", naive_my_clip(batch, 2.0), batch.m)
    torch.testing.assert_close(value_and_gradient(objective, batch)[0], wanted.detach(), rtol=1e-12, atol=1e-12)


def test_an_estimator_from_a_file_is_found_by_name(estimators: str) -> None:
    """Prevents: an estimator of one's own that is not told the scale, or whose gaps become NaN."""
    found = advantages([[1.0, None, 4.0, 5.0], [2.0, 2.0]], estimator=f"{estimators}:above_median", scale_rewards="none")
    assert found == [[1.0 - median([1, 4, 5]), 0.0, 0.0, 1.0], [0.0, 0.0]]
    scaled = advantages([[1.0, 4.0, 7.0]], estimator=f"{estimators}:above_median")[0]
    assert scaled == pytest.approx([-3 / 3.0001, 0, 3 / 3.0001]) and fmean(scaled) == pytest.approx(0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("forgotten", r'Put @register_loss\(weights="tokens"\) above'),
        ("my_clipp", 'Did you mean "my_clip"'),
        ("greedy", "asks for 'epsilo', which is no setting. Did you mean \"epsilon\""),
        ("scalar", "scalar returned loss as .*one value per token"),
        ("per_row", r"inputs\.spread\(x\) gives a value per row"),
    ],
)
def test_a_wrong_loss_says_what_to_do(losses: str, name: str, message: str) -> None:
    """Prevents: a traceback from the middle of a training step."""
    with pytest.raises(ConfigError, match=message):
        Objective(loss=find_loss(f"{losses}:{name}"), settings=SETTINGS)(padded.flat(draw(0), "tokens"))


@pytest.mark.parametrize(("name", "message"), [("forgotten", "Put @register_advantage above"), ("above", "above_median")])
def test_a_wrong_estimator_says_what_to_do(estimators: str, name: str, message: str) -> None:
    """Prevents: a function that is taken for an estimator, and told nothing of the scale."""
    with pytest.raises(ConfigError, match=message):
        find_estimator(f"{estimators}:{name}")


def test_names_without_a_file_say_what_there_is() -> None:
    """Prevents: a bare KeyError, and a file named without a function."""
    with pytest.raises(ConfigError, match='Did you mean "dr_grpo"'):
        find_loss("drgrpo")
    with pytest.raises(ConfigError, match=r"losses\.py:my_loss"):
        find_loss("my_losses.py")
    with pytest.raises(ConfigError, match="no file"):
        find_loss("absent.py:my_loss")


def test_a_loss_that_wants_settings_by_place_is_refused() -> None:
    """Prevents: a parameter that nothing fills, found out at the first step."""

    def by_place(inputs: LossInputs, epsilon: float) -> torch.Tensor:
        return inputs.logprobs * epsilon

    with pytest.raises(ConfigError, match=r"write def my_loss\(inputs, \*, epsilon\)"):
        register_loss(weights="tokens")(by_place)
    with pytest.raises(ConfigError, match="no level 'row'"):
        register_loss(weights="tokens", level="row")
