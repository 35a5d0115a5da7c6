"""`heron.train` from end to end with tiny random models: what a user calls, what a user gets, what a user did wrong."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tinymodels import save_tiny

import heron
from heron.errors import ConfigError, DataError, HeronError, ModelError, RunError, TemplateError
from heron.run import Run

GSM8K_REWARDS = ["correctness", "integer", "strict_format", "soft_format", "tag_count"]
ROLLOUT = {"num_generations": 3, "max_completion_length": 16}
TRAIN = {"max_steps": 2, "prompts_per_step": 2, "learning_rate": 1e-3}
EVALUATION = {"size": 4, "samples": 2}
Folder = Callable[[str], Path]


def gsm8k_row(draw: random.Random) -> dict[str, str]:
    """A row in the form of the real files: several lines of working, calculator marks, the answer behind ####."""
    apples, each = draw.randint(2, 90), draw.randint(2, 60)
    total = apples * each
    return {
        "question": f"Nia buys {apples} boxes of {each} apples. How many apples has she?",
        "answer": f"She has {apples} * {each} = <<{apples}*{each}={total}>>{total} apples.\nThat is all.\n#### {total:,}",
    }


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder shaped like GSM8K."""
    folder = tmp_path_factory.mktemp("data") / "gsm8k"
    folder.mkdir()
    draw = random.Random(0)
    for split, count in (("train", 20), ("test", 6)):
        lines = [json.dumps(gsm8k_row(draw)) for _ in range(count)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def spread(completion: str) -> float:
    return len(set(completion)) / 10


class TestGsm8k:
    """The recipe on files of the real form, with a model that knows nothing."""

    @pytest.mark.parametrize("method", ["full", "lora"])
    def test_recipe_runs_and_logs_every_reward(self, tiny_folder: Folder, gsm8k: Path, tmp_path: Path, method: str) -> None:
        """Prevents: a recipe that cannot be run as it is shipped, and reward columns that get lost."""
        run = heron.train(
            "gsm8k", model={"name": str(tiny_folder("qwen3")), "method": method, "device": "cpu"},
            data=str(gsm8k), run_dir=tmp_path / "run", quiet=True, rollout=ROLLOUT, train=TRAIN, evaluation=EVALUATION,
        )
        assert run.status == "finished"
        assert [record["step"] for record in run.metrics()] == [1, 2]
        for record in run.metrics():
            for name in GSM8K_REWARDS:
                assert f"rewards/{name}/mean" in record
                assert f"rewards/{name}/std" in record
        row = run.rollouts(1)[0]
        assert set(row["rewards"]) == set(GSM8K_REWARDS)
        assert row["prompt"].startswith("train.jsonl:")
        assert re.fullmatch(r"\d+", row["answer"])
        assert "boxes" in row["question"]
        assert {r["id"].split(":")[0] for r in run.evaluation("before").rows} == {"test.jsonl"}
        assert run.summary is not None
        assert {"before", "after"} == set(run.summary["evaluation"])
        assert run.settings["tags"]["reasoning_start"] == "<reasoning>"
        saved = {path.name for path in run.model_dir.iterdir()}
        assert ("adapter_model.safetensors" if method == "lora" else "model.safetensors") in saved
        assert "tokenizer.json" in saved

    def test_gold_answers_in_the_asked_format_score_in_full(self, tmp_path: Path) -> None:
        """200 rows of the real form: each of the five gives its full score, multi-line reasoning included."""
        from heron import data
        from heron.config import load_config
        from heron.rewards import Rubric, resolve
        from heron.types import Completion, FinishReason, Rollout, Turn

        draw = random.Random(1)
        (tmp_path / "train.jsonl").write_text("".join(json.dumps(gsm8k_row(draw)) + "\n" for _ in range(200)))
        config = load_config("gsm8k", {"data": {"dataset": str(tmp_path)}})
        rows = data.load(config.data, config.tags, seed=0, eval_size=0).train
        assert len(rows) == 200
        tags = config.tags
        answered = Completion(token_ids=(1,), logprobs=(0.0,), finish_reason=FinishReason.STOP, policy_version=0)
        rollouts = [
            Rollout(
                prompt=row, turns=(Turn(prompt_ids=(1,), completion=answered),),
                text=f"{tags.reasoning_start}\n{str(row.columns['solution']).split('####')[0].strip()}\n{tags.reasoning_end}\n"
                     f"{tags.solution_start}\n{row.answer}\n{tags.solution_end}\n",
            )
            for row in rows
        ]
        assert all("\n" in rollout.text.split(tags.reasoning_end)[0].strip("\n") for rollout in rollouts)
        full = {"correctness": 2.0, "integer": 0.5, "strict_format": 0.5, "soft_format": 0.5, "tag_count": 0.5}
        for scored in Rubric(resolve(config.rewards.functions), tags=tags).score(rollouts):
            assert dict(scored.rewards) == full

    def test_run_answers_and_is_measured_again(self, tiny_folder: Folder, gsm8k: Path, tmp_path: Path) -> None:
        """`heron.chat` and `heron.evaluate` read the run directory alone, from any folder, for the model and for its start."""
        run = heron.train(
            "gsm8k", model={"name": os.path.relpath(tiny_folder("qwen3")), "method": "lora", "device": "cpu"}, data=str(gsm8k),
            run_dir=tmp_path / "run", quiet=True, rollout=ROLLOUT, train=TRAIN, evaluation=EVALUATION,
        )
        here = Path.cwd()
        os.chdir(tmp_path)
        try:
            rows, totals = heron.evaluate("run")
            assert totals == {key: value for key, value in run.evaluation("after").totals.items() if key != "step"}
            assert [row["text"] for row in rows] == [row["text"] for row in run.evaluation("after").rows]
            _, start = heron.evaluate("run", start=True, size=2, samples=0)
            assert start["problems"] == 2
            assert isinstance(heron.chat("run", "How many?"), str)
            assert heron.chat("run", "How many?", start=True, max_tokens=4) is not None
        finally:
            os.chdir(here)


class TestRewardsFromPython:
    """Functions instead of names."""

    def train(self, tiny_folder: Folder, path: Path, rewards: Any, **sections: Any) -> Run:
        settings: dict[str, Any] = {"rollout": ROLLOUT, "train": TRAIN | {"max_steps": 1}, "evaluation": {"size": 0}}
        return heron.train(
            model={"name": str(tiny_folder("qwen3")), "device": "cpu"}, rewards=rewards, run_dir=path, quiet=True, **settings | sections,
        )

    def test_readme_example(self, tiny_folder: Folder, tmp_path: Path) -> None:
        """The lines that a newcomer types first."""

        def correct(completion: str, answer: str) -> float:
            return 1.0 if heron.last_number(completion) == heron.number(answer) else 0.0

        run = self.train(tiny_folder, tmp_path / "run", [correct, (heron.rewards.follows_format, 0.2)])
        assert run.manifest["rewards"] == {"correct": 1.0, "follows_format": 0.2}
        assert {"rewards/correct/mean", "rewards/follows_format/mean"} <= run.metrics()[0].keys()

    def test_row_and_batch_style_and_names_together(self, tiny_folder: Folder, tmp_path: Path) -> None:
        """TRL's form gets lists of messages, ids and columns; the row form gets what it names; both see the same rollouts."""
        seen: dict[str, Any] = {}

        def rows(completion: str, prompt: str, left: int, completion_ids: Any, truncated: bool) -> float:
            seen.setdefault("rows", []).append((completion, prompt, left, list(completion_ids), truncated))
            return len(completion)

        def batch(prompts: Any, completions: Any, completion_ids: Any, left: Any, **columns: Any) -> list[float]:
            together = zip(completions, prompts, left, completion_ids, strict=True)
            seen["batch"] = [(c[-1]["content"], p[-1]["content"], x, list(i)) for c, p, x, i in together]
            assert "answer" in columns
            return [float(len(c[0]["content"])) for c in completions]

        run = self.train(tiny_folder, tmp_path / "run", [rows, (batch, 2), "format.follows_format"])
        assert seen["batch"] == [entry[:4] for entry in seen["rows"]]
        assert len(seen["batch"]) == 6
        for row in run.rollouts(1):
            assert row["rewards"]["rows"] == row["rewards"]["batch"] == len(row["text"])
            assert row["reward"] == pytest.approx(3 * len(row["text"]) + row["rewards"]["follows_format"])

    def test_async_function(self, tiny_folder: Folder, tmp_path: Path) -> None:
        async def later(completion: str) -> float:
            return float(len(completion))

        assert self.train(tiny_folder, tmp_path / "run", [later]).metrics()[0]["rewards/later/mean"] > 0

    def test_weight_zero_is_logged_and_not_trained(self, tiny_folder: Folder, tmp_path: Path) -> None:
        def constant(completion: str) -> float:
            return 1.0

        run = self.train(tiny_folder, tmp_path / "run", [constant, (spread, 0.0)])
        record = run.metrics()[0]
        assert record["rewards/spread/std"] > 0
        assert record["groups/with_signal"] == 0.0

    def test_paths_as_path_objects(self, tiny_folder: Folder, gsm8k: Path, tmp_path: Path) -> None:
        """Notebooks have `Path`s."""
        run = heron.train(
            "gsm8k", model=tiny_folder("qwen3"), data=gsm8k, rewards=[spread], run_dir=tmp_path / "run", quiet=True, rollout=ROLLOUT,
            train=TRAIN | {"max_steps": 1}, evaluation={"size": 0},
        )
        assert run.status == "finished"


class TestLearning:
    """Learning goes where the reward points."""

    def test_reward_rises(self, tiny_folder: Folder, tmp_path: Path) -> None:
        """The whole loop, sign included: paying for a letter makes it likelier. Prevents: ascent and descent exchanged anywhere."""

        def many_a(completion: str) -> float:
            return completion.count("a")

        run = heron.train(
            model={"name": str(tiny_folder("qwen3")), "device": "cpu"}, rewards=[many_a], run_dir=tmp_path / "run", quiet=True,
            data={"limit": 4}, rollout={"num_generations": 16, "max_completion_length": 12},
            train={"max_steps": 14, "prompts_per_step": 4, "learning_rate": 1e-2, "save_steps": 0}, evaluation={"size": 0},
        )
        rewards = [record["reward"] for record in run.metrics()]
        assert sum(rewards[-3:]) / 3 > 5 * sum(rewards[:3]) / 3 + 0.5, rewards


class TestEmbedded:
    """The default: no model given, none downloaded."""

    def test_default_recipe(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str], capfd: Any) -> None:
        """`heron.train()` with a warm-up of a few steps builds, caches, trains and reports, live view on, and opens no connection."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)
        run = heron.train(
            warmup={"steps": 5, "demonstrations": 32, "batch_size": 8}, rollout={"num_generations": 4, "max_completion_length": 16},
            train={"max_steps": 2, "prompts_per_step": 2}, evaluation={"size": 4, "samples": 2},
        )
        assert run.path.parent.name == "runs"
        assert run.status == "finished"
        assert no_network == []
        assert (tmp_path / "cache" / "heron" / "embedded").is_dir()
        assert run.summary is not None
        assert 0.0 <= run.summary["evaluation"]["after"]["accuracy"] <= 1.0
        shown = capfd.readouterr()
        assert "Traceback" not in shown.err
        assert "Loading weights" not in shown.err, "transformers' own bars would tear the live view"
        for word in ("before", "after", "What is"):
            assert word in shown.out


def small(tiny_folder: Folder) -> dict[str, Any]:
    return {
        "model": {"name": str(tiny_folder("qwen3")), "device": "cpu"}, "rollout": ROLLOUT, "train": TRAIN, "evaluation": EVALUATION,
    }


def laid_on(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Sections merged key by key."""
    return base | {
        key: base.get(key, {}) | value if isinstance(value, dict) and isinstance(base.get(key, {}), dict) else value
        for key, value in changes.items()
    }


def needs_colour(completion: str, colour: str) -> float:
    return 0.0


WRONG: dict[str, tuple[dict[str, Any], type[HeronError], str]] = {
    "unknown recipe": ({"recipe": "gsm8"}, ConfigError, 'Did you mean "gsm8k"'),
    "unknown key": ({"train": {"learning_rat": 1}}, ConfigError, 'Did you mean "learning_rate"'),
    "unknown section": ({"trian": {"max_steps": 1}}, ConfigError, "train"),
    "one sibling": ({"rollout": {"num_generations": 1}}, ConfigError, "num_generations must be at least 2"),
    "filtered sampling": ({"rollout": {"top_p": 0.9}}, ConfigError, "top_p"),
    "missing file": ({"data": {"dataset": "{tmp}/nope.jsonl"}}, DataError, "nope.jsonl"),
    "malformed line": ({"data": {"dataset": "{tmp}/malformed.jsonl"}}, DataError, "malformed.jsonl:2"),
    "empty dataset": ({"data": {"dataset": "{tmp}/empty.jsonl"}}, DataError, "empty.jsonl"),
    "no prompt in a row": ({"data": {"dataset": "{tmp}/noprompt.jsonl"}}, DataError, "noprompt.jsonl:2"),
    "column of a reward missing": ({"rewards": [needs_colour]}, DataError, "needs_colour.*'colour'"),
    "unknown reward": ({"rewards": ["gsm8k.corectness"]}, ConfigError, "gsm8k.correctness"),
    "two rewards of one name": ({"rewards": [spread, spread]}, ConfigError, "spread"),
    "nothing rewarded": ({"rewards": [(spread, 0.0)]}, ConfigError, "weight other than 0"),
    "no rewards": ({"rewards": []}, ConfigError, "reward"),
    "unknown verifier": ({"evaluation": {"verifier": "nombre"}}, ConfigError, "nombre"),
    "reference that cannot be verified": (
        {"data": {"dataset": "{tmp}/words.jsonl"}, "rewards": [spread], "evaluation": {"size": 1}}, DataError, "words.jsonl:"),
    "prompt longer than the context": (
        {"data": {"dataset": "{tmp}/long.jsonl"}, "rewards": [spread]}, DataError, "long.jsonl:3 has 6.. tokens"),
    "completion longer than the context": ({"rollout": {"max_completion_length": 600}}, DataError, "max_completion_length"),
    "missing model": ({"model": {"name": "{tmp}/nomodel"}}, ModelError, "nomodel"),
    "folder that is no model": ({"model": {"name": "{tmp}"}}, ModelError, "could be loaded"),
    "no chat template": ({"model": {"name": "{tmp}/base"}}, TemplateError, "--model.chat_template=heron"),
    "16-bit full training": ({"model": {"dtype": "bfloat16"}}, ConfigError, "--model.dtype=float32"),
    "unknown lora modules": ({"model": {"method": "lora", "lora_target_modules": ["wq"]}}, ConfigError, "wq"),
    "tokenizer of another model": ({"model": {"name": "{tmp}/narrow"}}, HeronError, "260"),
    "used run directory": ({"run_dir": "{tmp}/used"}, RunError, "not empty"),
}


@pytest.fixture(scope="module")
def mistakes(tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that is wrong in a way of its own."""
    folder = tmp_path_factory.mktemp("mistakes")
    good = json.dumps({"question": "What is 1 + 1?", "answer": "2"})
    (folder / "malformed.jsonl").write_text(good + '\n{"question": "x", \n' + good + "\n")
    (folder / "empty.jsonl").write_text("")
    (folder / "noprompt.jsonl").write_text(good + '\n{"text": "x"}\n')
    (folder / "words.jsonl").write_text("".join(json.dumps({"question": f"Capital {n}?", "answer": "Paris"}) + "\n" for n in range(10)))
    (folder / "long.jsonl").write_text("".join(
        json.dumps({"question": f"{n} " + "x" * (600 if n == 2 else 5), "answer": "2"}) + "\n" for n in range(10)))
    shutil.copytree(tiny_folder("qwen3"), folder / "base")
    (folder / "base" / "chat_template.jinja").unlink()
    save_tiny("qwen3", folder / "narrow", vocab_size=260)
    (folder / "used").mkdir()
    (folder / "used" / "thesis.tex").write_text("important")
    return folder


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_refused_before_anything_is_written(
    mistake: str, tiny_folder: Folder, mistakes: Path, tmp_path: Path, no_network: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong is named, before time is spent, and no run directory is left behind."""
    monkeypatch.chdir(tmp_path)
    changes, kind, words = WRONG[mistake]
    changes = json.loads(json.dumps(changes).replace("{tmp}", str(mistakes))) if "rewards" not in changes else {
        key: value if key == "rewards" else json.loads(json.dumps(value).replace("{tmp}", str(mistakes))) for key, value in changes.items()
    }
    arguments = laid_on(small(tiny_folder), changes)
    recipe = arguments.pop("recipe", "arithmetic")
    run_dir = arguments.pop("run_dir", str(tmp_path / "run"))
    with pytest.raises(kind, match=words) as caught:
        heron.train(recipe, run_dir=run_dir, quiet=True, **arguments)
    assert isinstance(caught.value, HeronError)
    assert list(tmp_path.iterdir()) == []
    assert no_network == []
    assert [path.name for path in (mistakes / "used").iterdir()] == ["thesis.tex"]


def test_mistakes_on_the_command_line_have_exit_codes_and_no_traceback(tmp_path: Path) -> None:
    """One process for the way that errors reach a shell."""
    done = subprocess.run(
        [sys.executable, "-m", "heron.cli.main", "train", "--train.max_stepz=3", "--run-dir", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "max_steps" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []
