"""The loop: the same twice, the same after an interruption, and honest about failures."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import load_tiny

import heron
from heron.config import Config, load_config
from heron.errors import GuardStop, RewardError, RunError
from heron.rewards import resolve
from heron.run import Run
from heron.training.assemble import assemble, reassemble

STEPS = 5
VARIES = ("time/", "throughput/", "memory/")


def spread(completion: str) -> float:
    """Pays for different characters: any model gets other scores for other answers."""
    return len(set(completion)) / 10


def vowels(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
    """The batch form, with messages."""
    return [sum(letter in "aeiou" for letter in answer[-1]["content"]) / 5 for answer in completions]


REWARDS = resolve([spread, (vowels, 0.5)])

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "full": {},
    "full with KL": {"objective": {"beta": 0.05, "loss_type": "grpo"}},
    "lora with KL, two iterations": {
        "model": {"method": "lora", "lora_rank": 4}, "objective": {"beta": 0.05, "num_iterations": 2, "epsilon_high": 0.28},
        "train": {"lr_scheduler_type": "cosine", "warmup_steps": 2},
    },
    "adaptive entropy, minibatches": {
        "objective": {
            "use_adaptive_entropy": True, "entropy_coef": 0.01, "entropy_target": 6.0, "num_minibatches": 2, "top_entropy_quantile": 0.7,
        },
    },
    "lora, masked": {"model": {"method": "lora", "lora_rank": 4}, "objective": {"mask_truncated_completions": True}},
}


@pytest.fixture(scope="module")
def settings(tiny_folder: Callable[[str], Path]) -> Callable[..., Config]:
    """A config of a run that takes a second."""

    def make(variant: str = "full", **sections: Mapping[str, Any]) -> Config:
        small = {
            "model": {"name": str(tiny_folder("qwen3")), "device": "cpu"}, "data": {"limit": 40},
            "rollout": {"num_generations": 4, "max_completion_length": 8, "max_concurrent": 7},
            "train": {"max_steps": STEPS, "prompts_per_step": 2, "learning_rate": 3e-3, "save_steps": 2, "micro_batch_tokens": 100},
            "evaluation": {"size": 2, "samples": 2, "steps": 3},
        }
        return load_config("arithmetic", small, VARIANTS[variant], sections)

    return make


def stable(run: Run) -> list[dict[str, Any]]:
    """The metrics of a run without what depends on the clock."""
    return [{key: value for key, value in record.items() if not key.startswith(VARIES)} for record in run.metrics()]


def assert_same(left: Run, right: Run) -> None:
    """Bit for bit: metrics, rollouts, evaluations, weights."""
    assert stable(left) == stable(right)
    assert left.rollout_steps() == right.rollout_steps()
    assert all(left.rollouts(step) == right.rollouts(step) for step in left.rollout_steps())
    assert left.evaluations().keys() == right.evaluations().keys()
    for name in left.evaluations():
        assert left.evaluation(name).rows == right.evaluation(name).rows
        assert left.evaluation(name).totals == right.evaluation(name).totals
    files = [path.name for path in left.model_dir.glob("*.safetensors")]
    assert files
    for file in files:
        assert (left.model_dir / file).read_bytes() == (right.model_dir / file).read_bytes()


def interrupt_at(step: int, how: Callable[[], object]) -> Callable[[str, Mapping[str, Any]], None]:
    """A listener that interrupts when a step's metrics are recorded."""

    def listener(kind: str, payload: Mapping[str, Any]) -> None:
        if kind == "metrics" and payload["step"] == step:
            how()

    return listener


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def die() -> None:
    raise KeyboardInterrupt


def uninterrupted(config: Config, path: Path) -> Run:
    assemble(config, path, rewards=REWARDS).train()
    return Run(path)


@pytest.fixture(scope="module")
def whole(settings: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The run of a variant that nobody interrupted, made once."""
    made: dict[str, Run] = {}

    def run(variant: str) -> Run:
        if variant not in made:
            made[variant] = uninterrupted(settings(variant), tmp_path_factory.mktemp("whole") / "run")
        return made[variant]

    return run


Whole = Callable[[str], Run]


class TestDeterminism:
    """Same seed, same machine: the same files."""

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_two_runs_are_equal(self, settings: Callable[..., Config], whole: Whole, tmp_path: Path, variant: str) -> None:
        """Prevents: global random state, sets, clocks or dict orders that leak into what is learnt."""
        first = whole(variant)
        torch.manual_seed(12345)
        assert_same(first, uninterrupted(settings(variant), tmp_path / "again"))
        assert len(first.metrics()) == STEPS
        assert all(re.fullmatch(r'\{"step":\d+,.*\}', line) for line in (first.path / "metrics.jsonl").read_text().splitlines())

    def test_another_seed_is_another_run(self, settings: Callable[..., Config], tmp_path: Path) -> None:
        runs = [
            uninterrupted(settings(train={"seed": seed, "max_steps": 1}, evaluation={"size": 0}), tmp_path / str(seed)) for seed in (0, 1)
        ]
        assert stable(runs[0]) != stable(runs[1])

    def test_every_step_draws_anew(self, settings: Callable[..., Config], tmp_path: Path) -> None:
        """Prevents: the same random numbers in every step, so that a question met again gets the same answers again."""
        config = settings(
            data={"limit": 2, "shuffle": False}, train={"max_steps": 2, "learning_rate": 1e-12}, evaluation={"size": 0}
        )
        run = uninterrupted(config, tmp_path / "run")
        first, second = run.rollouts(1), run.rollouts(2)
        assert [row["prompt"] for row in first] == [row["prompt"] for row in second]
        assert all(a["text"] != b["text"] for a, b in zip(first, second, strict=True))

    def test_training_moves_the_weights_and_is_logged(self, whole: Whole, tiny_folder: Any) -> None:
        """Guards the tests above: equal files must not be equal because nothing happened."""
        run = whole("full with KL")
        last = run.metrics()[-1]
        assert last["grad_norm"] > 0
        assert last["kl"] > 0
        assert last["groups/with_signal"] > 0
        assert last["sampling/logp_difference_max"] < 1e-4, "sampler and trainer are one policy"
        assert {"rewards/spread/mean", "rewards/spread/std", "rewards/vowels/mean", "entropy", "num_tokens"} <= last.keys()
        assert last["num_tokens"] == sum(row["length"] for step in run.rollout_steps() for row in run.rollouts(step))
        start, end = load_tiny(tiny_folder("qwen3")), load_tiny(run.model_dir)
        assert any(not torch.equal(a, b) for a, b in zip(start.model.parameters(), end.model.parameters(), strict=True))

    def test_several_iterations_leave_the_ratio(self, whole: Whole) -> None:
        """The second optimizer step on one batch of rollouts compares with the policy before the first."""
        records = whole("lora with KL, two iterations").metrics()
        assert all(record["ratio/max"] > 1.0 for record in records)
        assert all(record["ratio/max"] == 1.0 for record in whole("full").metrics())

    def test_the_entropy_bonus_moves(self, whole: Whole) -> None:
        """Guards the comparisons of resumed runs: the state that they must carry over is not constant."""
        records = whole("adaptive entropy, minibatches").metrics()
        assert len({record["entropy_coef"] for record in records}) == STEPS

    def test_old_logprobs_are_those_before_the_first_iteration(
        self, settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Prevents: a third iteration that is compared with the second, so that nothing bounds how far a batch can pull."""
        from heron.training import updater as module

        calls: list[tuple[Any, Any]] = []
        accumulate = module.accumulate

        def watched(*arguments: Any, anchors: Any, **settings: Any) -> Any:
            measured, fixed = accumulate(*arguments, anchors=anchors, **settings)
            calls.append((anchors, fixed))
            return measured, fixed

        monkeypatch.setattr(module, "accumulate", watched)
        config = settings(
            objective={"num_iterations": 3}, train={"max_steps": 1, "micro_batch_tokens": 60}, evaluation={"size": 0}
        )
        run = uninterrupted(config, tmp_path / "run")
        batches = len(calls) // 3
        assert batches > 1
        assert all(given is None for given, _ in calls[:batches])
        for number, (given, fixed) in enumerate(calls[batches:]):
            assert given is calls[number % batches][1] and given.old is fixed.old
        assert run.metrics()[0]["ratio/max"] > 1.0, "the weights moved between the passes"

    def test_record_is_complete(self, whole: Whole) -> None:
        run = whole("full")
        assert run.status == "finished"
        assert list(run.evaluations()) == ["before", "step-000003", "after"]
        summary = run.summary
        assert summary is not None
        assert (summary["status"], summary["steps"]) == ("finished", STEPS)
        assert summary["seconds"] > 0
        assert set(summary["evaluation"]["before"]) == set(summary["evaluation"]["after"])
        assert [path.name for path in sorted((run.path / "checkpoints").iterdir())] == ["latest", "step-000004", "step-000005"]
        assert (run.path / "checkpoints" / "latest").read_text() == "step-000005\n"
        row = run.rollouts(1)[0]
        assert row["reward"] == pytest.approx(row["rewards"]["spread"] + 0.5 * row["rewards"]["vowels"])


class TestInterruption:
    """Killed at any moment, a run goes on to the same weights."""

    @pytest.mark.parametrize(("variant", "step"), [*((variant, 3) for variant in VARIANTS), ("full with KL", 1)])
    def test_ctrl_c_and_resume(self, settings: Callable[..., Config], whole: Whole, tmp_path: Path, variant: str, step: int) -> None:
        """Prevents: a reference, an optimizer moment, a random stream or a counter that is not carried over."""
        summary = assemble(settings(variant), tmp_path / "cut", rewards=REWARDS, listeners=[interrupt_at(step, press_ctrl_c)]).train()
        cut = Run(tmp_path / "cut")
        assert (summary["status"], summary["steps"]) == ("interrupted", step)
        assert cut.status == "interrupted"
        assert cut.summary == json.loads(json.dumps(summary))
        assert "after" not in cut.evaluations()
        resumed = reassemble(cut.path, rewards=REWARDS)
        assert resumed.policy.version == resumed.state.policy_version > 0
        resumed.train()
        assert cut.status == "finished"
        assert_same(whole(variant), cut)

    @pytest.mark.parametrize("variant", ["lora with KL, two iterations", "adaptive entropy, minibatches"])
    def test_death_in_the_middle_goes_back_to_the_last_checkpoint(
        self, settings: Callable[..., Config], whole: Whole, tmp_path: Path, variant: str
    ) -> None:
        """Prevents: steps behind the checkpoint that are recorded twice, or trained twice; an entropy bonus that begins anew."""
        trainer = assemble(settings(variant), tmp_path / "cut", rewards=REWARDS, listeners=[interrupt_at(4, die)])
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        cut = Run(tmp_path / "cut")
        assert [record["step"] for record in cut.metrics()] == [1, 2, 3, 4]
        assert [path.name for path in sorted((cut.path / "checkpoints").iterdir())] == ["latest", "step-000002"]
        reassemble(cut.path, rewards=REWARDS).train()
        assert_same(whole(variant), cut)

    def test_interrupted_twice_and_a_checkpoint_damaged(self, settings: Callable[..., Config], whole: Whole, tmp_path: Path) -> None:
        cut = tmp_path / "cut"
        assemble(settings(), cut, rewards=REWARDS, listeners=[interrupt_at(1, press_ctrl_c)]).train()
        reassemble(cut, rewards=REWARDS, listeners=[interrupt_at(4, press_ctrl_c)]).train()
        newest = cut / "checkpoints" / "step-000004" / "optimizer.pt"
        newest.write_bytes(newest.read_bytes()[:-10])
        reassemble(cut, rewards=REWARDS).train()
        assert_same(whole("full"), Run(cut))

    def test_ctrl_c_during_the_first_evaluation(self, settings: Callable[..., Config], whole: Whole, tmp_path: Path) -> None:
        """Prevents: an interrupted run that cannot be resumed since no step was finished."""

        def listener(kind: str, payload: Mapping[str, Any]) -> None:
            if kind == "evaluation":
                press_ctrl_c()

        cut = tmp_path / "cut"
        summary = assemble(settings(), cut, rewards=REWARDS, listeners=[listener]).train()
        assert (summary["status"], summary["steps"]) == ("interrupted", 0)
        reassemble(cut, rewards=REWARDS).train()
        assert_same(whole("full"), Run(cut))

    @pytest.mark.parametrize("variant", ["full with KL", "lora with KL, two iterations", "adaptive entropy, minibatches"])
    def test_death_before_the_first_checkpoint(self, settings: Callable[..., Config], whole: Whole, tmp_path: Path, variant: str) -> None:
        """Prevents: a run that is lost because it died young; an adapter that is drawn anew."""
        trainer = assemble(settings(variant), tmp_path / "cut", rewards=REWARDS, listeners=[interrupt_at(1, die)])
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        assert not list((tmp_path / "cut" / "checkpoints").iterdir())
        torch.rand(3)
        reassemble(tmp_path / "cut", rewards=REWARDS).train()
        assert_same(whole(variant), Run(tmp_path / "cut"))

    def test_resuming_does_not_write_its_checkpoint_again(self, settings: Callable[..., Config], tmp_path: Path) -> None:
        """Prevents: the only checkpoint being deleted and rewritten, and lost if the second death comes then."""
        cut = tmp_path / "cut"
        assemble(settings(), cut, rewards=REWARDS, listeners=[interrupt_at(2, press_ctrl_c)]).train()
        before = (cut / "checkpoints" / "step-000002" / "MANIFEST.json").stat()
        trainer = reassemble(cut, rewards=REWARDS)
        trainer._save()
        after = (cut / "checkpoints" / "step-000002" / "MANIFEST.json").stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        trainer.run.close()

    def test_second_ctrl_c_saves_what_is_finished(self, settings: Callable[..., Config], tmp_path: Path) -> None:
        """Prevents: steps since the last checkpoint that are lost to impatience, and a screen that says otherwise."""

        def twice(kind: str, payload: Mapping[str, Any]) -> None:
            if kind == "progress" and trainer.state.step == 3 and not trainer.stop.is_set:
                press_ctrl_c()
                press_ctrl_c()

        trainer = assemble(settings(), tmp_path / "cut", rewards=REWARDS, listeners=[])
        trainer.run.subscribe(twice)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        messages = [event["text"] for event in Run(tmp_path / "cut").events("message")]
        assert messages[-1] == "Stopped in step 4; resuming goes on after step 3."

    def test_data_that_changed_is_noticed(self, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
        """Prevents: a resumed run whose rewards read other columns than before."""
        file = tmp_path / "rows.jsonl"

        def write(value: int) -> None:
            rows = [{"question": f"What is {n}?", "answer": n, "bonus": value} for n in range(20)]
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))

        def paid(completion: str, bonus: int) -> float:
            return bonus + len(set(completion)) / 10

        write(1)
        config = load_config("arithmetic", {
            "model": {"name": str(tiny_folder("qwen3")), "device": "cpu"}, "data": {"dataset": str(file)},
            "rollout": {"num_generations": 2, "max_completion_length": 4}, "train": {"max_steps": 3, "prompts_per_step": 2},
            "evaluation": {"size": 0},
        })
        assemble(config, tmp_path / "cut", rewards=resolve([paid]), listeners=[interrupt_at(1, press_ctrl_c)]).train()
        write(2)
        with pytest.raises(RunError, match="data"):
            reassemble(tmp_path / "cut", rewards=resolve([paid]))

    def test_finished_run_is_not_resumed(self, settings: Callable[..., Config], tmp_path: Path) -> None:
        run = uninterrupted(settings(train={"max_steps": 1}, evaluation={"size": 0}), tmp_path / "run")
        with pytest.raises(RunError, match="finished"):
            reassemble(run.path, rewards=REWARDS)

    def test_python_rewards_are_asked_for_again(self, settings: Callable[..., Config], tmp_path: Path) -> None:
        """Prevents: a resumed run that goes on with other rewards than it began with."""
        cut = tmp_path / "cut"
        assemble(settings(evaluation={"size": 0}), cut, rewards=REWARDS, listeners=[interrupt_at(1, press_ctrl_c)]).train()
        with pytest.raises(RunError, match=r"heron\.resume\(run_dir, rewards="):
            heron.resume(cut, quiet=True)
        assert Run(cut).status == "interrupted"
        with pytest.raises(RunError, match="spread"):
            heron.resume(cut, rewards=[vowels], quiet=True)

    def test_command_line_says_interrupted(self, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C ends `heron train` with exit code 130, the summary, and a run that `heron resume` finishes."""
        from heron.cli.main import main

        monkeypatch.setenv("STRIKE", f"{int(signal.SIGINT)}:{tmp_path}/mark")
        monkeypatch.setattr(sys, "argv", ["heron", "train", str(recipe), "--run-dir", str(tmp_path / "cut")])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 130
        cut = Run(tmp_path / "cut")
        assert (cut.status, len(cut.metrics())) == ("interrupted", 3)
        assert cut.summary is not None
        monkeypatch.setenv("STRIKE", f"0:{tmp_path}/mark")
        monkeypatch.setattr(sys, "argv", ["heron", "resume", str(cut.path)])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code in (0, None)
        assert cut.status == "finished"

    def test_process_is_killed_for_real(self, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The whole program in a process of its own, struck by SIGKILL in its third step; then resumed, and compared with another run."""
        strike = {"STRIKE": f"{int(signal.SIGKILL)}:{tmp_path}/mark", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [sys.executable, "-m", "heron.cli.main", "train", str(recipe), "--run-dir", str(tmp_path / "cut")],
            env=os.environ | strike, capture_output=True, text=True, timeout=120, check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        cut = Run(tmp_path / "cut")
        assert (cut.status, len(cut.metrics())) == ("interrupted", 2)
        monkeypatch.setenv("STRIKE", f"0:{tmp_path}/mark")
        heron.resume(cut.path, quiet=True)
        assert_same(heron.train(recipe, run_dir=tmp_path / "whole", quiet=True), cut)


@pytest.fixture
def recipe(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A file whose reward function sends a signal to its own process in the third step; `STRIKE` is `signal:file that counts calls`."""
    (tmp_path / "rewards.py").write_text(
        "import os, pathlib\n"
        "def spread(completion):\n"
        "    number, path = os.environ['STRIKE'].split(':')\n"
        "    with open(path, 'a') as mark:\n"
        "        mark.write('.')\n"
        "    if os.stat(path).st_size == 20 and int(number): os.kill(os.getpid(), int(number))\n"
        "    return len(set(completion)) / 10\n"
    )
    file = tmp_path / "small.toml"
    file.write_text(
        f'recipe = "arithmetic"\n[model]\nname = "{tiny_folder("qwen3")}"\ndevice = "cpu"\n[data]\nlimit = 40\n'
        f'[rewards]\nfunctions = ["{tmp_path}/rewards.py:spread"]\nweights = [1.0]\n'
        "[rollout]\nnum_generations = 4\nmax_completion_length = 8\n"
        "[train]\nmax_steps = 5\nprompts_per_step = 2\nsave_steps = 1\n[evaluation]\nsize = 0\n"
    )
    return file


class TestFailures:
    """What stops a run says why, and loses nothing."""

    def test_reward_that_raises(self, settings: Callable[..., Config], tmp_path: Path) -> None:
        """The message has the function, the row, the completion and the place; the cause keeps its traceback; the run can be mended."""
        calls: list[str] = []

        def spread(completion: str) -> float:
            calls.append(completion)
            if len(calls) == 4 * 2 * 3 + 5:
                raise ZeroDivisionError("my bug")
            return len(set(completion)) / 10

        config = settings(evaluation={"size": 0})
        message = r"spread raised ZeroDivisionError.*test_trainer\.py:\d+.*my bug.*row arithmetic:\d+\+\d+"
        with pytest.raises(RewardError, match=message) as caught:
            assemble(config, tmp_path / "run", rewards=resolve([spread])).train()
        assert repr(calls[-1])[1:20] in str(caught.value)
        cause = caught.value.__cause__
        assert isinstance(cause, ZeroDivisionError)
        assert cause.__traceback__ is not None
        run = Run(tmp_path / "run")
        assert run.status == "failed"
        assert run.summary is not None
        assert "my bug" in run.summary["error"]
        assert [record["step"] for record in run.metrics()] == [1, 2, 3]
        mended = resolve([spread])
        reassemble(run.path, rewards=mended).train()
        assemble(config, tmp_path / "whole", rewards=mended).train()
        assert_same(Run(tmp_path / "whole"), run)

    @pytest.mark.parametrize(
        "value", [float("nan"), float("inf"), "1.0", True, 1j, [1.0], object()],
        ids=["nan", "inf", "text", "bool", "complex", "list", "object"],
    )
    def test_row_score_that_is_no_number(self, settings: Callable[..., Config], tmp_path: Path, value: Any) -> None:
        """Prevents: NaN in every weight, and True that is meant as something else."""

        def wrong(completion: str) -> Any:
            return value

        with pytest.raises(RewardError, match=r"wrong.*row arithmetic:"):
            assemble(settings(evaluation={"size": 0}), tmp_path / "run", rewards=resolve([wrong])).train()
        assert Run(tmp_path / "run").metrics() == []

    @pytest.mark.parametrize("scores", [[1.0], [], 1.0, "x" * 12, None], ids=["short", "empty", "number", "text", "none"])
    def test_batch_scores_of_wrong_length_or_kind(self, settings: Callable[..., Config], tmp_path: Path, scores: Any) -> None:
        def wrong(completions: list[Any], **columns: Any) -> Any:
            return scores

        with pytest.raises(RewardError, match="wrong"):
            assemble(settings(evaluation={"size": 0}), tmp_path / "run", rewards=resolve([wrong])).train()

    def test_rewards_without_signal_are_no_error(self, settings: Callable[..., Config], tmp_path: Path) -> None:
        """All siblings equal, or nothing scored: the step is recorded, no optimizer step is taken, the weights stay."""

        def same(completion: str) -> float:
            return 1.0

        def nothing(completion: str) -> None:
            return None

        for function in (same, nothing):
            run = tmp_path / function.__name__
            trainer = assemble(settings(train={"max_steps": 2}, evaluation={"size": 2}), run, rewards=resolve([function]))
            before = [weight.detach().clone() for _, weight in trainer.policy.trainable()]
            trainer.train()
            assert trainer.state.policy_version == 0
            assert all(torch.equal(a, b) for a, (_, b) in zip(before, trainer.policy.trainable(), strict=True))
            assert [record["groups/with_signal"] for record in Run(run).metrics()] == [0.0, 0.0]

    def test_gradients_that_are_not_finite_stop_the_run(
        self, settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Three in a row, and no earlier weights to go back to: the run is marked failed, with the last good state saved."""
        trainer = assemble(settings(evaluation={"size": 0}), tmp_path / "run", rewards=REWARDS)

        def poison(kind: str, payload: Mapping[str, Any]) -> None:
            if kind == "metrics" and payload["step"] == 2:
                weight = next(iter(trainer.policy.trainable()))[1]
                weight.register_hook(lambda gradient: gradient * float("nan"))

        trainer.run.subscribe(poison)
        with pytest.raises(GuardStop, match="third time in a row"):
            trainer.train()
        run = Run(tmp_path / "run")
        assert run.status == "failed"
        assert all(torch.isfinite(weight).all() for _, weight in trainer.policy.trainable())
        assert [path.name for path in sorted((run.path / "checkpoints").iterdir())] == ["latest", "step-000002"]

    def test_weights_that_are_not_finite_stop_the_run(self, settings: Callable[..., Config], tmp_path: Path) -> None:
        """Prevents: an index error, or nonsense tokens, sampled from NaN."""
        trainer = assemble(settings(evaluation={"size": 0}), tmp_path / "run", rewards=REWARDS)
        with torch.no_grad():
            trainer.policy.trainable()[-1][1].fill_(float("nan"))
        with pytest.raises(GuardStop, match="finite"):
            trainer.train()
        assert Run(tmp_path / "run").status == "failed"

    def test_viewer_that_fails_does_not_stop_the_run(self, settings: Callable[..., Config], tmp_path: Path) -> None:
        def broken(kind: str, payload: Mapping[str, Any]) -> None:
            raise ValueError("viewer")

        config = settings(train={"max_steps": 1}, evaluation={"size": 0})
        with pytest.warns(UserWarning, match="viewer"):
            assemble(config, tmp_path / "run", rewards=REWARDS, listeners=[broken]).train()
        assert Run(tmp_path / "run").status == "finished"
