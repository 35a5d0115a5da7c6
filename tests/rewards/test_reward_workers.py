"""Processes for scoring: rewards that hang, raise, flood, fork, or eat memory cost a bounded time, and no rollout is scored by accident."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from heron.errors import ConfigError, RewardError
from heron.rewards import Rubric, load_functions, worker
from heron.rewards.workers import Pool, WorkerLost, counting
from heron.types import Tags

TAGS = Tags()
BAD = """
    import os, subprocess, sys, time

    def hangs(completion):
        if completion == "bad":
            while True:
                pass
        return 1.0

    def sleeps(completion):
        if completion == "bad":
            time.sleep(1000)
        return 1.0

    def computes(completion):  # holds the interpreter's lock, and hears no signal
        return 1.0 if completion != "bad" else float(len(str(9 ** 9 ** 9)))

    def raises(completion):
        return 1.0 if completion != "bad" else 1 / 0

    def nan(completion):
        return 1.0 if completion != "bad" else float("nan")

    def boolean(completion):
        return 1.0 if completion != "bad" else True

    def complex_number(completion):
        return 1.0 if completion != "bad" else 1j

    def eats(completion):
        return 1.0 if completion != "bad" else float(len(bytearray(1 << 40)))

    def exits(completion):
        if completion == "bad":
            os._exit(0)
        return 1.0

    def floods(completion):
        if completion == "bad":
            while True:
                print("flood " * 10_000)
        return 1.0

    def forks(completion):
        if completion == "bad":
            open("pid", "w").write(str(subprocess.Popen(["sleep", "1000"]).pid))
            time.sleep(1000)
        return 1.0

    def prints_an_answer(completion):
        print('{"raised": null, "returned": 5.0, "recorded": []}', flush=True)
        return 1.0

    def secret(completion):
        return 1.0 if "MY_TOKEN" in os.environ else 0.0

    def copies(completion):
        os.fork()
        return float(completion)

    def copies_twice(completion):
        if os.fork() == 0:
            os.fork()
        return float(completion)

    def copies_late(completion):
        if os.fork() == 0:
            time.sleep(0.3)
        return float(completion)

    def copies_and_raises(completion):
        if os.fork() == 0:
            raise SystemExit(0)
        return float(completion)

    def answers_for_others(completion):
        for end in range(3, 500):
            try:
                os.write(end, b'[2, {"raised": null, "returned": 9.0, "recorded": []}]' + bytes([10]))
            except OSError:
                pass
        return float(completion)

    def detaches(completion):
        if completion == "bad":
            open("pid", "w").write(str(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid))
            time.sleep(1000)
        return 1.0

    def quits(completion):
        sys.exit()

    def recording(completions, log_extra, log_metric, **columns):
        log_extra("length", [len(text) for text in columns["answer"]])
        log_metric("seen", 2.5)
        return [None for _ in completions]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("rewards")
    (path / "bad.py").write_text(textwrap.dedent(BAD))
    return path


def rubric(folder: Path, name: str, *, timeout: float = 0.5, on_error: str = "exclude") -> Rubric:
    return Rubric(load_functions(f"{folder / 'bad.py'}:{name}", timeout=timeout), tags=TAGS, on_error=on_error)


@pytest.mark.parametrize("name", ["hangs", "sleeps", "computes", "raises", "nan", "boolean", "complex_number", "eats", "exits", "floods"])
@pytest.mark.filterwarnings("ignore:The reward function")
def test_a_bad_reward_is_excluded_and_the_others_are_scored(folder, make_rollout, name, capsys) -> None:
    """Prevents: a run that stands still, dies, or trains on a made-up score because of one call of one function."""
    begun = time.perf_counter()
    scored = rubric(folder, name).score([make_rollout("good"), make_rollout("bad", row="rows.jsonl:2"), make_rollout("good")])
    assert [rollout.reward for rollout in scored] == [1.0, None, 1.0]
    assert scored[1].rewards == {name: None} and "rows.jsonl:2" in scored[1].error and name in scored[1].error
    assert scored[0].error is None
    assert time.perf_counter() - begun < 20
    assert len(capsys.readouterr().err) < 200_000


@pytest.mark.parametrize("name", ["hangs", "raises", "eats", "quits"])
def test_a_bad_reward_stops_the_run_by_default(folder, make_rollout, name) -> None:
    """Prevents: training that goes on without a word."""
    with pytest.raises(RewardError, match=rf"(?s){name}.*rows\.jsonl:1.*bad"):
        rubric(folder, name, on_error="stop").score([make_rollout("bad")])


@pytest.mark.parametrize("name", ["forks", "detaches"])
def test_what_a_killed_reward_started_is_killed_too(folder, make_rollout, monkeypatch, name) -> None:
    """Prevents: processes that pile up behind a reward that starts some, in a session of their own or not, and hangs."""
    monkeypatch.chdir(folder)
    with pytest.warns(UserWarning, match="excluded"):
        rubric(folder, name).score([make_rollout("bad")])
    pid = int((folder / "pid").read_text())
    for _ in range(100):
        if not _runs(pid):
            break
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("name", ["copies", "copies_twice", "copies_late", "copies_and_raises"])
def test_a_reward_that_forks_gives_each_rollout_its_own_score(folder, make_rollout, name) -> None:
    """Prevents: a copy of the process that reads requests and answers them, so that rollouts get one another's scores."""
    scored = rubric(folder, name, timeout=10, on_error="stop").score([make_rollout(str(number)) for number in range(8)])
    assert [rollout.reward for rollout in scored] == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.filterwarnings("ignore:The reward function")
def test_an_answer_that_was_not_asked_for_is_nobodys(folder, make_rollout) -> None:
    """Prevents: a second answer of a process that is read as the score of the next rollout."""
    scored = rubric(folder, "answers_for_others", timeout=10).score([make_rollout(str(number)) for number in range(4)])
    assert [rollout.reward for rollout in scored] == [None] * 4
    assert ["was not asked for" in rollout.error for rollout in scored] == [True] * 4, [rollout.error for rollout in scored]


def test_printing_an_answer_is_not_giving_one(folder, make_rollout) -> None:
    """Prevents: a print in a reward that is read as its score."""
    (scored,) = rubric(folder, "prints_an_answer").score([make_rollout("good")])
    assert scored.reward == 1.0


def test_no_secret_reaches_the_process(folder, make_rollout, monkeypatch) -> None:
    """Prevents: tokens in the environment of a process that is fed hostile text."""
    monkeypatch.setenv("MY_TOKEN", "hunter2")
    (scored,) = rubric(folder, "secret").score([make_rollout("good")])
    assert scored.reward == 0.0


def test_recorders_work_from_the_process(folder, make_rollout) -> None:
    """Prevents: log_extra and log_metric that are lost on the way."""
    scored = rubric(folder, "recording").score([make_rollout(answer="ab"), make_rollout(answer="abc")])
    assert [rollout.extras for rollout in scored] == [{"length": 2}, {"length": 3}]
    assert scored[0].logged == {"seen": 2.5} and scored[0].reward is None and scored[0].error is None


LIKE_TRL = """
    from decimal import Decimal
    from fractions import Fraction
    import numpy as np
    import torch

    def decimal_score(completion):
        return Decimal("0.5")

    def fraction(completion):
        return Fraction(1, 2)

    def numpy_score(completion):
        return np.float32(0.5)

    def tensor(completion):
        return torch.tensor(0.5)

    def decimals(completions, **kwargs):
        return [Decimal("0.5") for _ in completions]

    def array(completions, **kwargs):
        return np.full(len(completions), 0.5, dtype=np.float32)

    def tensors(completions, **kwargs):
        return [torch.tensor(0.5, dtype=torch.bfloat16) for _ in completions]

    def stepwise(completions, trainer_state, **kwargs):
        return [trainer_state.global_step / 2 for _ in completions]

    def recorded(completions, log_extra, log_metric, trainer_state, **kwargs):
        log_extra(column="length", values=np.array([len(text) for text in completions]))
        log_extra("parts", [{"a": np.float32(0.5), "b": (1, None)} for _ in completions])
        log_metric(name="seen", value=np.float32(0.5))
        log_metric("mean", value=torch.tensor(0.25))
        return [0.5 for _ in completions]

    def one_bytes(completion):
        return b"1"

    def all_bytes(completions, **kwargs):
        return bytes(len(completions))

    def byte_array(completions, **kwargs):
        return bytearray(len(completions))

    def view(completions, **kwargs):
        return memoryview(bytes(len(completions)))

    def signalling(completion):
        return Decimal("sNaN")

    def huge(completion):
        return 10 ** 5000

    def huge_decimal(completion):
        return Decimal("1e999")

    def huge_fractions(completions, **kwargs):
        return [Fraction(10) ** 999 for _ in completions]

    def text(completion):
        return "0.5"

    def complex_score(completion):
        return np.complex64(1)

    def truth(completion):
        return np.bool_(True)

    def mapping(completions, **kwargs):
        return {0: 1.0}

    def later(completions, trainer_state, **kwargs):
        return [trainer_state.max_steps for _ in completions]
"""


@pytest.fixture(scope="module")
def like_trl(tmp_path_factory):
    path = tmp_path_factory.mktemp("rewards") / "like_trl.py"
    path.write_text(textwrap.dedent(LIKE_TRL))
    return path


@pytest.mark.parametrize("timeout", [0, 60])
def test_a_score_is_a_score_in_either_process(like_trl, make_rollout, timeout) -> None:
    """Prevents: a function that is paid in one process and refused in the other, or that dies at what TRL gives it."""
    good = ("decimal_score", "fraction", "numpy_score", "tensor", "decimals", "array", "tensors", "stepwise", "recorded")
    functions = [each for name in good for each in load_functions(f"{like_trl}:{name}", timeout=timeout)]
    rollout = make_rollout("abc")
    completion = replace(rollout.turns[0].completion, policy_version=1)
    rollout = replace(rollout, turns=(replace(rollout.turns[0], completion=completion),), prompt=replace(rollout.prompt, plain=True))
    scored, _ = Rubric(functions, tags=TAGS).score([rollout, rollout])
    assert scored.rewards == dict.fromkeys(good, 0.5)
    assert json.loads(json.dumps(dict(scored.extras))) == {"length": 3, "parts": {"a": 0.5, "b": [1, None]}}
    assert scored.logged == {"seen": 0.5, "mean": 0.25}


@pytest.mark.parametrize("timeout", [0, 60])
@pytest.mark.filterwarnings("ignore:The reward function")
def test_what_is_no_score_is_none_in_either_process(like_trl, make_rollout, timeout) -> None:
    """Prevents: bytes that are paid as numbers, and a value that ends the run instead of being named."""
    bad = ("one_bytes", "all_bytes", "byte_array", "view", "signalling", "huge", "huge_decimal", "huge_fractions", "text", "complex_score",
           "truth", "mapping", "later")
    for name in bad:
        functions = load_functions(f"{like_trl}:{name}", timeout=timeout)
        (scored,) = Rubric(functions, tags=TAGS, on_error="exclude").score([make_rollout("abc")])
        assert scored.reward is None and scored.error is not None and name in scored.error, name
        assert name != "later" or "no 'max_steps'" in scored.error


def test_async_functions_and_python_ones_are_refused(tmp_path) -> None:
    """Prevents: a deadline that is set and not kept."""
    (tmp_path / "later.py").write_text("async def judged(completion):\n    return 1.0\n")
    with pytest.raises(ConfigError, match="async"):
        load_functions(f"{tmp_path / 'later.py'}:judged", timeout=1.0)
    from heron.rewards import resolve

    with pytest.raises(ConfigError, match="another process"):
        resolve([lambda completion: 1.0], timeout=1.0)


def test_a_process_that_cannot_start_says_why(tmp_path) -> None:
    """Prevents: a missing package in the process that looks like a wrong answer."""
    with pytest.raises(RewardError, match="No module named 'nowhere'"):
        Pool("nowhere:serve", size=1, memory_bytes=1 << 30).ask({}, seconds=5)


def test_pool_answers_from_any_thread_and_replaces_what_was_killed(folder) -> None:
    """Prevents: a deadline that works in the main thread alone, and a pool that is empty after the first kill."""
    pool = Pool("heron.rewards.isolating:serve", argument=f"{folder / 'bad.py'}:hangs", size=2, memory_bytes=1 << 32, is_pure=False)
    said: list[object] = []

    def ask(text: str) -> None:
        try:
            said.append(pool.ask({"arguments": {"completion": {"value": text}}, "recorders": []}, seconds=0.5)["returned"])
        except WorkerLost as lost:
            said.append(lost.late)

    threads = [threading.Thread(target=ask, args=(text,)) for text in ("bad", "good", "bad", "good")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(map(str, said)) == ["1.0", "1.0", "True", "True"]
    pool.close()


def test_children_end_with_a_parent_that_is_killed(folder) -> None:
    """Prevents: processes that outlive a training run that was killed with -9, also in the middle of a long computation."""
    program = textwrap.dedent(f"""
        import threading, time
        from heron.rewards.workers import Pool
        pool = Pool("heron.rewards.isolating:serve", argument={str(folder / 'bad.py') + ':computes'!r}, size=1, memory_bytes=1 << 32)
        request = {{"arguments": {{"completion": {{"value": "good"}}}}, "recorders": []}}
        pool.ask(request, seconds=60)
        print(pool._idle[0]._child.process.pid, flush=True)
        request["arguments"]["completion"]["value"] = "bad"
        pool.ask(request, seconds=1000)
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    child = int(parent.stdout.readline())
    time.sleep(0.5)
    assert _runs(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not _runs(child):
            break
        time.sleep(0.05)
    assert not _runs(child)


COUNTED = """
    import os, signal, time
    from pathlib import Path

    def serve(argument):
        def answer(request):
            Path(argument, "calls").open("a").write("x")
            if request == "late":
                time.sleep(1000)
            if request == "abort":
                os.abort()
            if request == "killed" or (request == "killed once" and not Path(argument, "killed").exists()):
                Path(argument, "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return request
        return answer
"""


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A pool of one child, and how often it was asked."""
    (tmp_path / "counted_work.py").write_text(textwrap.dedent(COUNTED))
    monkeypatch.setattr(worker, "PACKAGES", str(tmp_path))
    pool = Pool("counted_work:serve", argument=str(tmp_path), size=1, memory_bytes=1 << 32)
    yield pool, lambda: len((tmp_path / "calls").read_text())
    pool.close()


def test_a_request_that_was_given_up_costs_its_deadline_once(counted) -> None:
    """Prevents: eight rollouts with the same endless expression, each of which costs the whole deadline."""
    pool, calls = counted
    with pytest.warns(UserWarning, match=r"counted_work has given up 1 request so far.*0\.3 seconds.*killed at its deadline: \"late\""):
        for _ in range(8):
            with pytest.raises(WorkerLost, match="deadline") as lost:
                pool.ask("late", seconds=0.3)
            assert lost.value.late
    assert calls() == 1
    with pytest.raises(WorkerLost):
        pool.ask("late", seconds=0.4)
    assert calls() == 2, "more time is another question"
    assert pool.ask("good", seconds=5) == "good"


@pytest.mark.filterwarnings("ignore:counted_work has given up")
def test_what_was_given_up_is_counted(counted) -> None:
    """Prevents: deadlines that nobody can see in the figures of a run."""
    pool, _ = counted
    with counting() as outer:
        for request in ("late", "late", "abort", "good"):
            with counting() as inner, contextlib.suppress(WorkerLost):
                pool.ask(request, seconds=0.3)
            assert inner.count == (request != "good")
    assert outer.count == 3


def test_a_child_that_somebody_killed_is_no_verdict(counted) -> None:
    """Prevents: right answers that count as unreadable, without a word, because the machine ran out of memory."""
    pool, calls = counted
    assert pool.ask("killed once", seconds=5) == "killed once" and calls() == 2
    with pytest.raises(RewardError, match=r"twice its process was killed from outside.*SIGKILL"):
        pool.ask("killed", seconds=5)
    with pytest.raises(WorkerLost, match="died"), pytest.warns(UserWarning, match="abort"):
        pool.ask("abort", seconds=5)


@pytest.mark.filterwarnings("ignore:The reward function")
def test_calls_that_were_ended_stand_among_the_metrics(folder, make_rollout) -> None:
    """Prevents: a step that lasts minutes, and no figure that says why."""
    scored = rubric(folder, "sleeps").score([make_rollout("good"), make_rollout("bad"), make_rollout("bad")])
    assert [rollout.logged for rollout in scored] == [{"sleeps_given_up": 2}] * 3
