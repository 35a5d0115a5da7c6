"""The sabotage matrix: each fault that leaves the loss finite and the curve plausible, planted, and the named check that it sets off.

Every row is run twice: as it is, in which nothing may be said, and with its fault.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import break_gradients
from small_runs import Engine, make_trainer, small_config, use_engine
from tinymodels import load_tiny, save_tiny, stir_adapter

from heron.engine import NativeEngine, Request, SamplingParams
from heron.errors import HeronError, IdentityError, RewardError
from heron.models import Policy
from heron.rewards import Rubric, resolve
from heron.rollout import Collector
from heron.run import Run
from heron.training import dividing as dividing_module
from heron.training import passes as passes_module
from heron.training import samples as samples_module
from heron.training import update as update_module
from heron.training.assemble import reassemble
from heron.training.batch import Microbatch
from heron.training.samples import Sample
from heron.training.trainer import Trainer
from heron.types import Completion, FinishReason, Group, Rollout

Plant = Callable[[Trainer, pytest.MonkeyPatch], None]


def variety(completion: str) -> float:
    return len(set(completion)) / 10 + len(completion) / 100


class Reporting(Engine):
    """Reports what `change(completion, its number, version)` makes of each completion."""

    def __init__(self, policy: Policy, change: Callable[[Completion, int, int], Completion]) -> None:
        super().__init__(policy, exact_logprobs=True)
        self.change, self.numbers = change, itertools.count()

    def reported(self, completion: Completion) -> Completion:
        return self.change(completion, next(self.numbers), self.policy.version)


def reporting(change: Callable[[Completion, int, int], Completion]) -> Plant:
    return lambda trainer, _: use_engine(trainer, Reporting(trainer.policy, change))


class Copied(NativeEngine):
    """Samples from a copy of the weights, which takes over what `keeps` names at each push, and claims the newest version."""

    def __init__(self, trained: Policy, keeps: Callable[[str], bool]) -> None:
        settings: dict[str, Any] = {"method": "lora", "lora_rank": 4} if trained.is_lora else {}
        super().__init__(load_tiny(Path(trained.source), **settings))
        self.trained, self.keeps = trained, keeps
        with torch.no_grad():
            for (_, own), (_, weight) in zip(self.policy.model.named_parameters(), trained.model.named_parameters(), strict=True):
                own.copy_(weight)

    def stream(self, requests: Sequence[Request], params: SamplingParams, **settings: Any) -> Any:
        """As any engine that holds a copy: after the newest weights were taken over."""
        self.policy.version = self.trained.version
        own = dict(self.policy.model.named_parameters())
        with torch.no_grad():
            for name, weight in self.trained.model.named_parameters():
                if self.keeps(name):
                    own[name].copy_(weight)
        return super().stream(requests, params, **settings)


def copied(keeps: Callable[[str], bool]) -> Plant:
    return lambda trainer, _: use_engine(trainer, Copied(trainer.policy, keeps))  # type: ignore[arg-type]


def at_another_temperature(trainer: Trainer, patch: pytest.MonkeyPatch) -> None:
    kind = type(trainer.collector.engine)
    stream = kind.stream
    patch.setattr(kind, "stream", lambda engine, requests, params, **given: stream(
        engine, requests, replace(params, temperature=1.25 * params.temperature), **given))


def others_logprobs() -> Plant:
    """Those of the completion before, as far as they go."""
    last: list[tuple[float, ...]] = [(-1.0,) * 12]

    def change(completion: Completion, number: int, version: int) -> Completion:
        count, before = len(completion.logprobs), last[0]
        last[0] = completion.logprobs
        return replace(completion, logprobs=(before * 12)[:count])

    return reporting(change)


def lying(by: int) -> Callable[[Completion, int, int], Completion]:
    def change(completion: Completion, number: int, version: int) -> Completion:
        claimed = max(0, version + by)
        return replace(completion, policy_version=claimed, versions=((claimed, len(completion.token_ids)),))

    return change


def without_its_end(completion: Completion, number: int, version: int) -> Completion:
    """As if the last token, the end, were padding; the reason stays."""
    return replace(completion, finish_reason=FinishReason.STOP)


def past_its_end(completion: Completion, number: int, version: int) -> Completion:
    """As if the end token had been taken for padding, and sampling had gone on."""
    tokens = completion.token_ids
    return replace(completion, token_ids=(*tokens[:2], END, *tokens[3:]))


END = 0  # set by the fixture: what ends an answer of the tiny models


def sampling_of(change: Callable[[Sample], Sample]) -> Plant:
    """Every sample of the trainer is another one."""
    made = samples_module._sample

    def plant(trainer: Trainer, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(samples_module, "_sample", lambda *arguments: change(made(*arguments)))

    return plant


def all_in_the_mask(sample: Sample) -> Sample:
    count = len(sample.token_ids)
    padded = (*sample.sampler_logprobs, *(-1.0,) * count)[:count]
    return replace(sample, is_trained=(True,) * count, sampler_logprobs=padded, keep=(True,) * count)


def padding_out_of_the_mask(sample: Sample) -> Sample:
    """The last token is taken for padding."""
    return replace(
        sample, is_trained=(*sample.is_trained[:-1], False), sampler_logprobs=sample.sampler_logprobs[:-1], keep=sample.keep[:-1]
    )


def packed(change: Callable[[Microbatch], Microbatch]) -> Plant:
    """Every micro-batch is another one."""
    pack = passes_module.pack
    return lambda _, patch: patch.setattr(passes_module, "pack", lambda *given, **named: [change(each) for each in pack(*given, **named)])


def an_optimizer_of_copies(trainer: Trainer, patch: pytest.MonkeyPatch) -> None:
    """The model's tensors were replaced after its optimizer was made: nothing moves them, and every gradient seems to be 0."""
    for group in trainer.updater.optimizer.param_groups:
        group["params"] = [torch.nn.Parameter(weight.detach().clone()) for weight in group["params"]]


def counted_by_micro_batch(trainer: Trainer, patch: pytest.MonkeyPatch) -> None:
    """8 micro-batches of 1 are not 1 of 8: every micro-batch divides by its own rows, and by their number."""
    packed = passes_module.pack

    def pack(*arguments: Any, **settings: Any) -> list[Microbatch]:
        batches = packed(*arguments, **settings)
        return [replace(batch, weights=batch.weights / batch.weights.sum() / len(batches)) for batch in batches]

    patch.setattr(passes_module, "pack", pack)


def siblings_shuffled(trainer: Trainer, patch: pytest.MonkeyPatch) -> None:
    """Advantages go to the sibling's neighbour."""
    grouped = Collector._group

    def group(collector: Collector, siblings: Sequence[Rollout], values: Sequence[float]) -> Group:
        return grouped(collector, siblings, [*values[1:], values[0]])

    patch.setattr(Collector, "_group", group)


def rows_lost(trainer: Trainer, patch: pytest.MonkeyPatch) -> None:
    made = dividing_module.make_samples
    patch.setattr(dividing_module, "make_samples", lambda *given, **named: made(*given, **named)[:-1])


def old_logprobs_off(trainer: Trainer, patch: pytest.MonkeyPatch) -> None:
    tokens = update_module._tokens
    patch.setattr(update_module, "_tokens", lambda batch, logprobs, entropy, anchors: tokens(
        batch, logprobs, entropy, replace(anchors, old=anchors.old - 0.05)))


def another_reference(trainer: Trainer, patch: pytest.MonkeyPatch) -> None:
    assert trainer.policy.reference is not None
    with torch.no_grad():
        for weight in trainer.policy.reference.model.parameters():
            weight.mul_(1.2)


def nan_rewards(trainer: Trainer, patch: pytest.MonkeyPatch) -> None:
    trainer.collector = replace(trainer.collector, rubric=Rubric(resolve([not_a_number]), tags=trainer.config.tags))


def not_a_number(completion: str) -> float:
    return float("nan")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault and who must notice it."""

    plant: Plant
    """Puts it into a trainer."""
    named: str
    """The identity."""
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The run that it is put into."""
    error: type[HeronError] = IdentityError
    """What stops the run."""


TURNS = {"environment": {"name": "retry"}}
MATRIX = {
    "stale weights in the engine": Row(plant=copied(lambda name: False), named="log-probs"),
    "a LoRA tensor that a push dropped": Row(
        plant=copied(lambda name: "layers.1.mlp.down_proj.lora_B" not in name), named="log-probs",
        sections={"model": {"method": "lora", "lora_rank": 4}, "train": {"learning_rate": 0.03}},
    ),
    "log-probs at the wrong temperature": Row(plant=at_another_temperature, named="log-probs"),
    "log-probs at the wrong temperature, by transformers' generate": Row(
        plant=at_another_temperature, named="log-probs", sections={"rollout": {"engine": "hf"}},
    ),
    "log-probs of a sibling": Row(plant=others_logprobs(), named="log-probs"),
    "old log-probs that are not the policy's": Row(plant=old_logprobs_off, named="ratio"),
    "a reference that is not the start": Row(plant=another_reference, named="reference", sections={"objective": {"beta": 0.1}}),
    "an environment's token in the mask": Row(plant=sampling_of(all_in_the_mask), named="masks", sections=TURNS),
    "padding that is also the end: out of the mask": Row(plant=sampling_of(padding_out_of_the_mask), named="masks"),
    "padding that is also the end: cut off": Row(plant=reporting(without_its_end), named="ends"),
    "padding that is also the end: sampled past it": Row(plant=reporting(past_its_end), named="ends"),
    "1 micro-batch of 8 against 8 of 1": Row(plant=counted_by_micro_batch, named="weights", sections={"objective": {"loss_type": "dapo"}}),
    "shuffled siblings": Row(plant=siblings_shuffled, named="advantages"),
    "advantages of other rows": Row(plant=sampling_of(lambda sample: replace(sample, advantage=-sample.advantage)), named="advantages"),
    "advantages of other packed tokens": Row(
        plant=packed(lambda batch: replace(batch, advantages=batch.advantages.flip(0))), named="advantages",
    ),
    "weights of other packed tokens": Row(
        plant=packed(lambda batch: replace(batch, weights=batch.weights * torch.tensor((0.5, 1.5)).repeat(len(batch.weights) // 2))),
        named="weights",
    ),
    "an optimizer of other tensors": Row(plant=an_optimizer_of_copies, named="optimizer"),
    "rows that are lost": Row(plant=rows_lost, named="masks"),
    "a version that is not there yet": Row(plant=reporting(lying(1)), named="version"),
    "a version that was before": Row(plant=reporting(lying(-1)), named="version"),
    "a reward of NaN": Row(plant=nan_rewards, named="reward", error=RewardError),
}


@pytest.fixture
def make(tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trainer]:
    def trainer(**sections: Any) -> Trainer:
        sections["train"] = {"learning_rate": 3e-2, "max_steps": 3, "micro_batch_tokens": 100, "save_steps": 1, **sections.get("train", {})}
        made = make_trainer(small_config(tiny_folder("qwen3"), **sections), tmp_path / "run", rewards=[variety])
        monkeypatch.setitem(globals(), "END", min(made.policy.end_ids))
        if "environment" in sections:
            made.policy.end_ids = frozenset(range(0, 256, 4))  # or hardly an answer of a tiny model would end, and get a reply
        return made

    return trainer


@pytest.mark.parametrize("fault", MATRIX)
def test_each_fault_sets_off_its_check(make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    row = MATRIX[fault]
    trainer = make(**row.sections)
    row.plant(trainer, monkeypatch)
    with pytest.raises(row.error) as caught:
        trainer.train()
    assert row.named in str(caught.value)
    if isinstance(caught.value, IdentityError):
        assert caught.value.name == row.named and caught.value.exit_code == 4
    run = Run(trainer.run.path)
    assert run.status == "failed" and trainer.state.step == len(run.metrics()) <= 2
    assert trainer.state.policy_version == trainer.state.step and not trainer.is_torn, "nothing was trained on it"
    assert not list(run.path.glob(f"checkpoints/step-{trainer.state.step + 1:06d}"))


@pytest.mark.parametrize("sections", [
    *{repr(row.sections): row.sections for row in MATRIX.values()}.values(),
    {"objective": {"num_iterations": 2, "num_minibatches": 2, "beta": 0.05}, "model": {"method": "lora", "lora_rank": 4, "use_dora": True}},
    {"rollout": {"engine": "hf"}, "objective": {"importance_sampling_correction": "token_truncate", "num_iterations": 2}},
    {"rollout": {"partial_tokens": 5}}, {"rewards": {"overlap": True}}, {"rollout": {"resample_zero_signal": 2}},
    {"objective": {"loss_type": "dr_grpo", "mask_truncated_completions": True}}, {"objective": {"token_weights": "trl",
     "rows_per_micro_batch": 4}}, {"objective": {"loss_type": "gspo", "entropy_coef": 0.01, "top_entropy_quantile": 0.5}},
], ids=repr)
def test_a_healthy_run_is_left_alone(make: Callable[..., Trainer], sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Prevents: a check that is switched off because it cries wolf."""
    trainer = make(**sections)
    assert trainer.train()["status"] == "finished"
    if "environment" in sections:
        assert any("conversation" in row for row in Run(trainer.run.path).rollouts(1)), "the test needs replies"


@pytest.mark.parametrize(("method", "temperature"), [("lora", 0.8), ("full", 0.8), ("lora", 0.01)])
def test_16_bits_are_left_alone(tmp_path: Path, method: str, temperature: float) -> None:
    """At a low temperature, too, which divides the rounding of the logits."""
    folder = save_tiny("qwen3", tmp_path / "model", dtype=torch.bfloat16)
    given = {"optimizer": "adamw_kahan"} if method == "full" else {}
    if given:
        pytest.importorskip("optimi")
    config = small_config(folder, model={"method": method, "lora_rank": 4}, objective={"beta": 0.05}, train=given,
                          rollout={"temperature": temperature})
    trainer = make_trainer(config, tmp_path / "run", rewards=[variety])
    assert trainer.train()["status"] == "finished"


def test_a_start_that_is_an_adapter_is_its_own_reference(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Prevents: an alarm in a run that goes on from an adapter, whose start is not the bare base."""
    policy = load_tiny(tiny_folder("qwen3"), method="lora", lora_rank=4)
    stir_adapter(policy)
    policy.save(tmp_path / "adapter")
    model = {"method": "lora", "lora_rank": 4, "adapter": str(tmp_path / "adapter")}
    trainer = make_trainer(small_config(tiny_folder("qwen3"), model=model, objective={"beta": 0.05}), tmp_path / "run", rewards=[variety])
    assert trainer.train()["status"] == "finished"


def test_the_checks_can_be_switched_off(make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(train={"check_identities": False})
    copied(lambda name: False)(trainer, monkeypatch)
    assert trainer.train()["status"] == "finished"


def test_numbers_that_are_not_finite_are_the_guards(make: Callable[..., Trainer]) -> None:
    """Prevents: two checks of one fault, of which the wrong one speaks first."""
    trainer = make()
    break_gradients(trainer, {2})
    trainer.train()
    assert [record.get("guard/skipped_steps") for record in Run(trainer.run.path).metrics()] == [None, 1.0, None]


@pytest.mark.parametrize("damage", ["half-written", "bit-flipped"])
def test_a_damaged_checkpoint_is_passed_over(make: Callable[..., Trainer], damage: str) -> None:
    trainer = make(train={"save_steps": 1, "save_total_limit": 3})
    trainer.step()
    trainer._save_if_due()
    trainer.step()
    trainer._save_if_due()
    trainer._abandon(KeyboardInterrupt(), 0.0)
    newest = trainer.run.path / "checkpoints" / "step-000002" / "model" / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-9] ^= 1
    newest.write_bytes(content[: len(content) // 2] if damage == "half-written" else content)
    assert reassemble(trainer.run.path, rewards=resolve([variety])).state.step == 1
