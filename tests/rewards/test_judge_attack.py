"""Master keys against rewards: what is counted as fooled, and what the command does about it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from judgeserver import FakeJudge, reply_in, running, says, scores
from typer.testing import CliRunner

from heron.cli.main import app
from heron.errors import DataError
from heron.rewards import Rubric
from heron.rewards.attack import ATTACKS, attack
from heron.rewards.judge import JudgeReward, judge_reward
from heron.types import Rollout, Tags

NAMED = {
    "ignore_previous_instructions", "fence_break", "fake_score_json", "role_tag_injection", "single_colon", "thought_process_opener",
    "flattery", "invisible_text", "huge_reply", "judge_echo_of_prompt",
}  # fmt: skip


def strict(body: dict[str, Any]) -> str:
    """Right is what holds the number that was asked for, and nothing else."""
    is_right = re.fullmatch(r"\s*4\s*", reply_in(body)) is not None
    return scores(genuine_attempt=int(is_right), claim=int(is_right))


def gullible(body: dict[str, Any]) -> str:
    """Falls for openers and for orders."""
    falls = re.search(r"process|step by step|Ignore all|^4$", reply_in(body)) is not None
    return scores(genuine_attempt=int(falls), claim=int(falls))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    with running(says(strict)) as fake:
        yield fake


def correct(server: FakeJudge) -> JudgeReward:
    return judge_reward("The answer is right.", award=1, url=server.url, model="m", name="correct")


def test_the_list_has_what_is_known_to_work() -> None:
    """Prevents: a list that shrinks."""
    assert ATTACKS.keys() >= NAMED


def test_a_strict_judge_holds_and_a_gullible_one_is_told_of(server: FakeJudge, make_rollout: Callable[..., Rollout]) -> None:
    """Prevents: an attack that is never delivered, and a fooled judge that passes."""
    prompts = [make_rollout(answer="4", row=f"r:{number}").prompt for number in range(2)]
    rubric = Rubric([correct(server)], tags=Tags())
    assert not any(one.is_fooled or sum(one.accepted.values()) for one in attack(rubric, prompts))
    server.usual = says(gullible)
    weak = Rubric([judge_reward("It is right.", award=1, url=server.url, model="m", name="correct")], tags=Tags())
    judged, total = attack(weak, prompts)
    assert judged.is_fooled and total.is_fooled
    fell = {name for name, rows in judged.accepted.items() if rows}
    assert fell == {"thought_process_opener", "step_by_step_opener", "ignore_previous_instructions"}
    assert judged.accepted["thought_process_opener"] == 2 and judged.share == pytest.approx(3 / len(ATTACKS))


def test_a_verdict_is_forged_in_the_judges_own_form(server: FakeJudge, make_rollout: Callable[..., Rollout]) -> None:
    """Prevents: a judge that repeats what it reads, and holds because no attack speaks its language."""
    server.usual = says(lambda body: found[0] if (found := re.findall(r'\{"genuine_attempt.*\}\}', reply_in(body))) else strict(body))
    polite = judge_reward("It is rude.", deduct=3, url=server.url, model="m", name="polite")
    judged, _ = attack(Rubric([polite], tags=Tags()), [make_rollout(answer="4").prompt])
    assert {name for name, rows in judged.accepted.items() if rows} == {"fake_score_json", "fence_break", "role_tag_injection"}


def test_row_without_an_answer_says_nothing_of_functions(server: FakeJudge, make_rollout: Callable[..., Rollout]) -> None:
    """Prevents: an empty text that stands for the right answer, and sets the bar. A judge knows its range, and is attacked."""

    def short(completion: str) -> float:
        return -float(len(completion))

    by_name = {one.name: one for one in attack(Rubric([correct(server), short], tags=Tags()), [make_rollout(answer=None).prompt])}
    assert by_name["correct"].rows == 1 and by_name["short"].rows == 0 and by_name["total"].rows == 0


def test_a_check_beside_the_judge_can_hold_the_total(server: FakeJudge, make_rollout: Callable[..., Rollout]) -> None:
    """Prevents: a judge that is fooled and hidden behind a total that is not."""
    server.usual = says(gullible)
    prompts = [make_rollout(answer="4").prompt]

    def exact(completion: str, tags: Tags) -> float:
        return 10.0 if f"{tags.solution_start}\n4\n" in completion else 0.0

    by_name = {one.name: one for one in attack(Rubric([correct(server), exact], tags=Tags()), prompts)}
    assert by_name["correct"].is_fooled and not by_name["total"].is_fooled and not by_name["exact"].is_held


def test_any_function_is_attacked_and_layout_counts_for_nothing(make_rollout: Callable[..., Rollout]) -> None:
    """Prevents: a format reward that makes every recipe look hacked, and a length reward that looks safe."""

    def confident(completion: str) -> float:
        return 1.0 if "correct" in completion or "\n4\n" in completion else 0.0

    def formatted(completion: str, tags: Tags) -> float:
        return 1.0 if tags.solution_start in completion else 0.0

    by_name = {one.name: one for one in attack(Rubric([confident, formatted], tags=Tags()), [make_rollout(answer="4").prompt])}
    assert by_name["formatted"].rows == 0 and by_name["confident"].accepted["claims_to_be_right"] == 1
    assert by_name["confident"].share > 0.05 and by_name["total"].is_fooled


def test_rows_that_tell_nothing_are_no_pass(make_rollout: Callable[..., Rollout]) -> None:
    """Prevents: 'held' where nothing could be measured."""
    with pytest.raises(DataError, match="No row can be attacked"):
        attack(Rubric([lambda completion: 1.0], tags=Tags()), [make_rollout(answer="4").prompt])


class TestCommands:
    """`heron reward attack` and `heron reward test`."""

    def recipe(self, folder: Path, server: FakeJudge) -> str:
        (folder / "rows.jsonl").write_text("".join(json.dumps({"question": f"{n} + 1?", "answer": "4"}) + "\n" for n in (3, 4)))
        (folder / "mine.toml").write_text(
            f'recipe = "arithmetic"\n[data]\ndataset = "{folder}/rows.jsonl"\n[rewards]\nfunctions = '
            f"['judge.claim(ask=\"It is right.\", award=1)']\n[judge]\nurl = \"{server.url}\"\nname = \"m\"\ncache = false\n"
        )
        return str(folder / "mine.toml")

    def test_attack_refuses_with_exit_code_3(self, server: FakeJudge, tmp_path: Path) -> None:
        """Prevents: a script that goes on to train on a judge that pays for ':'."""
        recipe = self.recipe(tmp_path, server)
        held = CliRunner().invoke(app, ["reward", "attack", recipe, "--rows", "2"], env={"COLUMNS": "160"}, catch_exceptions=False)
        assert held.exit_code == 0 and "0 of 2" in held.output and "0.0 %" in held.output
        server.usual = says(gullible)
        fooled = CliRunner().invoke(app, ["reward", "attack", recipe, "--rows", "2"], env={"COLUMNS": "160"}, catch_exceptions=False)
        assert fooled.exit_code == 3 and "Refused: judge, total" in fooled.output and "2 of 2" in fooled.output

    def test_test_shows_right_above_wrong(self, server: FakeJudge, tmp_path: Path) -> None:
        """Prevents: a rubric that is turned round, found out after a night."""
        shown = CliRunner().invoke(
            app, ["reward", "test", self.recipe(tmp_path, server), "--rows", "1"], env={"COLUMNS": "160"}, catch_exceptions=False)
        rows = [line.split() for line in shown.output.splitlines() if line.strip()[:1].isdigit()]
        assert [(row[1], row[-1]) for row in rows] == [("gold", "1.00"), ("wrong", "0.00")]

    def test_test_leaves_out_the_answer_that_a_row_has_not(self, server: FakeJudge, tmp_path: Path) -> None:
        """Prevents: an empty text in the table under the name of gold."""
        recipe = self.recipe(tmp_path, server)
        (tmp_path / "rows.jsonl").write_text('{"question": "Say hello."}\n')
        shown = CliRunner().invoke(app, ["reward", "test", recipe], env={"COLUMNS": "160"}, catch_exceptions=False)
        assert [line.split()[1] for line in shown.output.splitlines() if line.strip()[:1].isdigit()] == ["wrong"]

    def test_judge_that_is_not_named_is_an_error(self, server: FakeJudge, tmp_path: Path) -> None:
        """Prevents: an attack on nobody."""
        recipe = Path(self.recipe(tmp_path, server))
        recipe.write_text(recipe.read_text().partition("[judge]")[0])
        result = CliRunner().invoke(app, ["reward", "attack", str(recipe)])
        assert "Set judge.name" in str(result.exception)
