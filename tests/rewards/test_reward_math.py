"""The verifier `math`: what math-verify is asked, what it is never asked, and what becomes of a text that takes too long."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from heron.errors import DataError, MissingExtra, RewardError
from heron.rewards import Rubric, algebra, reward, verifiers
from heron.rewards.calling import waits
from heron.rewards.workers import WorkerLost
from heron.types import Tags

pytest.importorskip("math_verify")
math = verifiers["math"]


@pytest.mark.parametrize(
    ("answer", "reference", "verdict"),
    [
        (r"$\frac{1}{2}$", "0.5", "right"), ("0.5", r"\frac12", "right"), (r"\boxed{1/2}", r"\dfrac{1}{2}", "right"),
        ("1e3", "1,000", "right"),
        ("− 4", "-4", "right"), (r"\frac{\sqrt2}{2}", r"\frac{1}{\sqrt{2}}", "right"), ("x^2+2x+1", "(x+1)^2", "right"),
        (r"\{2, 1\}", r"\{1, 2\}", "right"), ("x=5", "5", "right"),
        (r"3\sqrt{2}", r"\sqrt{18}", "right"), (r"\pi r^2", r"\pi r^2", "right"),
        ("2^{2015}", "2^{2015}", "right"), ("0.333333", r"\frac{1}{3}", "wrong"), ("4", "-4", "wrong"), (r"\{1, 2\}", "2", "wrong"),
        ("x^2", "(x+1)^2", "wrong"), ("2+2", "4", "unreadable"), (r"(16-3-4)\times 2", "18", "unreadable"), ("36/2", "18", "unreadable"),
        (r"\frac{36}{2}", "18", "unreadable"), ("4!/6", "4", "unreadable"), (r"\sqrt{4}", "2", "unreadable"), ("2^2", "4", "unreadable"),
        (r"2+3+\sqrt3", r"5+\sqrt3", "unreadable"), ("maybe 3, maybe 4", "4", "unreadable"), (r"\boxed{3} \boxed{4}", "4", "unreadable"),
        ("__import__('os')", "4", "unreadable"), ("", "4", "unreadable"), ("9" * 1000 + "x", "4", "unreadable"),
        ("(" * 50 + "4+0" + ")" * 50, "4", "unreadable"),
    ],
)  # fmt: skip
def test_table(answer: str, reference: str, verdict: str) -> None:
    """Prevents: full marks for work left undone, for two answers, for a rounded value, or a lost sign."""
    assert math(answer, reference) == verdict


UNDONE = {
    "18": r"""36/(2); (36)/2; 36/2.0; 36 \div 2; 36:2; \frac{36.0}{2}; \frac{36}{(2)}; \frac{9}{.5}; \frac{9}{\frac12}
        \frac{18}{1}; \frac{1}{2}36; \frac12\cdot 36; \frac{1+35}{2}
        \sqrt{324.0}; 324^{0.5}; \sqrt{18}\sqrt{18}; (\sqrt{18})^2; 2(9); (2)(9); 18(1); 3!3; -(-18); --18; x-x+18; \frac{18x}{x}; 18x^0
        \log_{2}{262144}; \ln e^{18}; 18\cos 0; \binom{18}{1}; |{-18}|; 18 \mod 20; 17 1; 18,18; \{18,18\}; (18,); 18_{10}; 17\frac{2}{2}
        18\text{k}; 18\pi/\pi; 1.8\times 10^1; 17=18; 2=18; 18=18; 2x=18; x+0=18; x=17=18; x=36/(2); \pi=18; y^2=18""",
    r"2\pi": r"\frac{4\pi}{2}; 4\pi/2; (4/2)\pi; \pi+\pi; 3\pi-\pi; \sqrt{4}\pi; 2(1)\pi+\pi-\pi; 17=2\pi; 2x=2\pi; x=1=2\pi",
    r"2\sqrt{3}": r"\sqrt{6+6}; \sqrt{6\cdot2}; \sqrt{\frac{24.0}{2}}; \sqrt{12.0}; \sqrt4\sqrt3; \sqrt3+\sqrt3",
    r"\frac{\sqrt3}{2}": r"\sin(\pi/3); \frac{2\sqrt3}{4}",
    r"\{1,2\}": r"\{1,4/2\}; \{1,4/(2)\}; \{1,1+1\}; \{1,\sqrt4\}; \{1,\sqrt2\sqrt2\}; \{1,2.0\cdot1.0\}",
}


@pytest.mark.parametrize(("answer", "reference"), [
    (answer.strip(), reference) for reference, answers in UNDONE.items() for line in answers.splitlines() for answer in line.split(";")
])  # fmt: skip
def test_a_calculation_left_undone_is_no_answer(answer: str, reference: str) -> None:
    """Prevents: full marks for writing the question as a formula, or for a false equation with the right number in it."""
    assert math(answer, reference) != "right"


FINISHED = {
    "18": r"18.0; +18; (18); \text{18}; x=18; x = 18; f(9)=18; S_{10}=18; a+b=18; \{18\}; 18^\circ; 18\%; \$18;"
          r"18\text{ cm}; 18 kg; 18\text{ m}^2",
    r"\frac{1}{2}": r"1/2; 1 / 2; \frac12; \dfrac{1}{2}; 0.5; x=1/2; \frac{ 1 }{ 2 }; \frac{1}{2}\text{ cm}",
    "-2.5": r"-\frac52; \frac{-5}{2}; \frac{5}{-2}; -2\frac12; -5/2",
    r"\sqrt{2}": r"\sqrt2; 2^{1/2}; x=\sqrt2",
    r"2\sqrt{3}": r"2\sqrt3; 2\cdot\sqrt{3}; \sqrt{12}",
    r"2\pi": r"2 \pi; \pi\cdot2; x=2\pi",
    r"\frac{\pi}{2}": r"\pi/2; \frac12\pi; 0.5\pi",
    r"\frac{1+\sqrt5}{2}": r"\frac12+\frac{\sqrt5}2",
    r"\frac{x}{2}+1": r"\frac{x+2}{2}; 1+x/2; 0.5x+1",
    r"\{1,2\}": r"\{2,1\}; 1,2; x=1,x=2; x=1 or x=2; x\in\{1,2\}",
    "(1,2)": r"(1, 2); \left(1,2\right); (x,y)=(1,2); x\in(1,2); x=1,y=2",
    "A-a": "-a+A",
    "36/2": "18; 36/2",
}


@pytest.mark.parametrize(("answer", "reference"), [
    (answer.strip(), reference) for reference, answers in FINISHED.items() for answer in answers.split(";")
])  # fmt: skip
def test_finished_forms_are_right(answer: str, reference: str) -> None:
    """Prevents: a right answer that is unreadable because it is no plain number."""
    assert math(answer, reference) == "right"


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("(1,2)", r"\{1,2\}"), (r"\{1,2\}", "(1,2)"), ("(1,2)", "1,2"), ("2,1", "(1,2)"), ("[1,2,3]", "1,2,3"), ("X", "x"), ("x", "X"),
     ("ab", "AB"), ("2X", "2x"), ("X=18", "x=18"), ("a-A", "A-a"), ("2a", "a+A"), ("e", "E"), (r"\Pi", r"\pi"), (r"\text{b}", "B")],
)  # fmt: skip
def test_other_things_are_wrong(answer: str, reference: str) -> None:
    """Prevents: a pair for a set or for two answers, and one variable for another that differs by case, as math-verify has them."""
    assert math(answer, reference) == "wrong"


@pytest.mark.parametrize("reference", ["the answer is four", "", "$1$ and $2$", "\x00"])
def test_a_gold_that_cannot_be_read_is_a_mistake_of_the_data(make_rollout, reference: str) -> None:
    """Prevents: a row whose every answer is wrong, found at step 400."""
    with pytest.raises(RewardError, match="reference"):
        math("4", reference)
    rubric = Rubric([reward(math, right=1, wrong=0, unreadable=0)], tags=Tags())
    with pytest.raises(DataError, match=r"rows\.jsonl:1"):
        rubric.check([make_rollout(answer=reference).prompt])


@pytest.mark.filterwarnings("ignore:heron.rewards.algebra has given up")
def test_a_text_that_takes_too_long_is_unreadable_and_the_next_one_is_judged(monkeypatch) -> None:
    """Prevents: one completion that stands still the scoring of a whole step, and a pool that is broken after it."""
    assert math("x+1", "1+x") == "right"
    long = "+".join(["x"] * 150)
    with monkeypatch.context() as impatient:
        impatient.setattr(algebra, "SECONDS", 0.005)
        begun = time.perf_counter()
        assert math(long, "x") == "unreadable"
        assert time.perf_counter() - begun < 2
        with pytest.raises(RewardError, match="cannot be compared with itself: it was killed"):
            math(long, long)
    assert math("x+1", "1+x") == "right"


@pytest.mark.filterwarnings("ignore:heron.rewards.algebra has given up")
def test_late_answers_are_waited_for_together_and_counted(make_rollout, monkeypatch) -> None:
    """Prevents: a step that waits for one deadline after the other; scores that change places; deadlines that nobody sees."""
    running, most, lock = [0], [0], threading.Lock()
    late = "+".join(["x"] * 150)

    def slow(pool, answer, reference):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        return pool.ask({"answer": answer, "reference": reference}, seconds=0.0 if answer == late else 60.0)["equal"]

    monkeypatch.setattr(algebra, "_asked", lambda *given: _none_if_lost(slow, *given))
    correct = reward(math, right=1, wrong=0, unreadable=-1, name="correct")
    said = ["x+1", "x+2", late, "1+x", "x+3", late]
    scored = Rubric([correct], tags=Tags()).score([make_rollout(f"<SOLUTION>{text}</SOLUTION>", answer="x+1") for text in said])
    assert [rollout.reward for rollout in scored] == [1, 0, -1, 1, 0, -1]
    assert most[0] == algebra.CHILDREN > 1
    assert {rollout.logged["correct_given_up"] for rollout in scored} == {2.0}


def _none_if_lost(ask, *given):
    try:
        return ask(*given)
    except WorkerLost:
        return None


def test_an_error_in_a_lane_ends_the_others(make_rollout) -> None:
    """Prevents: a batch that is scored to its end after the run has failed, and an error of another row than the first."""
    calls = []

    @waits(2)
    def raises(completion):
        calls.append(completion)
        time.sleep(0.02)
        return 1 / 0

    with pytest.raises(RewardError, match=r"rows\.jsonl:0"):
        Rubric([raises], tags=Tags()).score([make_rollout("a", row=f"rows.jsonl:{row}") for row in range(40)])
    assert len(calls) < 10


def test_an_absent_package_is_told_of_before_training(monkeypatch) -> None:
    """Prevents: a run that ends at the first answer that is not a plain number."""
    algebra._pool.cache_clear()
    monkeypatch.setattr(algebra.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"heron-rl\[math\]"):
        math("4", "4")


def test_it_works_in_any_thread() -> None:
    """Prevents: a deadline made of signals, which only the main thread hears."""
    with ThreadPoolExecutor(max_workers=4) as threads:
        assert list(threads.map(math, ["x+1", "x+2"] * 4, ["1+x"] * 8)) == ["right", "wrong"] * 4
