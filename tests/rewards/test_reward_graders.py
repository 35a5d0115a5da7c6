"""Graders as data, their templates and formulas: what they compute, and what they refuse."""

import json
import random

import pytest

from heron.errors import ConfigError, DataError, RewardError
from heron.rewards import Rubric, load_functions
from heron.rewards.formula import ARGUMENTS, FUNCTIONS, formula
from heron.rewards.similarity import fuzzy_match, rouge_l, rouge_n
from heron.types import Tags

CHECK = {"type": "string_check", "operation": "eq", "input": "{{sample.output_text}}", "reference": "{{ item.answer }}"}
NEAR = {"type": "text_similarity", "evaluation_metric": "fuzzy_match", "input": "{{sample.output_text}}", "reference": "{{item.answer}}"}


def load(folder, data):
    (folder / "mine.json").write_text(json.dumps(data))
    return load_functions(str(folder / "mine.json"))


def scored(folder, make_rollout, data, text="<SOLUTION>a cat</SOLUTION>", **columns):
    return Rubric(load(folder, data), tags=Tags()).score([make_rollout(text, **columns)])[0]


@pytest.mark.parametrize(
    ("operation", "text", "score"),
    [("eq", "a cat", 1), ("eq", "A cat", 0), ("ne", "A cat", 1), ("like", "see a cat here", 1), ("like", "A CAT", 0),
     ("ilike", "A CAT", 1)],
)
def test_string_check(tmp_path, make_rollout, operation, text, score) -> None:
    """Prevents: an operation that means another one."""
    rollout = scored(tmp_path, make_rollout, CHECK | {"operation": operation}, f"<SOLUTION>{text}</SOLUTION>", answer="a cat")
    assert rollout.rewards == {"mine": score}


def test_multi_computes_its_formula_and_is_named(tmp_path, make_rollout) -> None:
    """Prevents: parts that are mixed up."""
    data = {"type": "multi", "name": "both", "graders": {"right": CHECK, "near": NEAR}, "calculate_output": "0.75 * right + near / 4"}
    assert scored(tmp_path, make_rollout, data, answer="a cat").rewards == {"both": 1.0}
    assert scored(tmp_path, make_rollout, data, answer="a dog").reward == pytest.approx(0.25 * fuzzy_match("a cat", "a dog"))


def test_what_is_filled_in_is_not_a_template(tmp_path, make_rollout) -> None:
    """Prevents: a model that writes {{item.answer}} and is right."""
    assert scored(tmp_path, make_rollout, CHECK, "<SOLUTION>{{ item.answer }}</SOLUTION>", answer="a cat").reward == 0.0


def test_python_runs_in_the_sandbox_and_its_failure_is_no_score(tmp_path, make_rollout) -> None:
    """Prevents: an outage that is trained on as a wrong answer, and a grader that runs in here."""
    source = "import os\ndef grade(sample, item):\n    print('noise')\n    return len(sample['output_text']) + item['bonus']"
    assert scored(tmp_path, make_rollout, {"type": "python", "source": source}, bonus=0.5).reward == 5.5
    for bad in ("return 1/0", "return 'x'", "return 10**401", "return None", "exit(0)"):
        with pytest.raises(RewardError, match="gave no number"):
            scored(tmp_path, make_rollout, {"type": "python", "source": f"def grade(sample, item):\n    {bad}"})
    with pytest.raises(RewardError, match=r"(?s)ZeroDivisionError.*line 3, in grade"):
        scored(tmp_path, make_rollout, {"type": "python", "source": "\ndef grade(sample, item):\n    return 1 / 0"})
    with pytest.raises(RewardError, match="cannot be sent to the grader's program"):
        scored(tmp_path, make_rollout, {"type": "python", "source": source}, bonus=1j)


@pytest.mark.parametrize("reply", [
    "print(1.0)\nraise SystemExit(0)", "import os\nprint(1.0, flush=True)\nos._exit(0)", "import os\nos.write(1, b'1.0')\nos._exit(0)",
])  # fmt: skip
def test_graded_code_cannot_print_its_score(tmp_path, make_rollout, reply) -> None:
    """Prevents: a reply that prints a score and ends the program before its grader can speak."""
    source = "def grade(sample, item):\n    exec(sample['output_text'], {})\n    return 0.25"
    with pytest.raises(RewardError, match=r"ended before it returned|raised SystemExit"):
        scored(tmp_path, make_rollout, {"type": "python", "source": source}, reply)
    later = "import atexit\natexit.register(print, 1.0)\nprint(1.0)"
    assert scored(tmp_path, make_rollout, {"type": "python", "source": source}, later).reward == 0.25


def test_half_of_a_character_reaches_the_program(tmp_path, make_rollout) -> None:
    """Prevents: a lone surrogate in an answer that ends the run with a traceback."""
    source = "def grade(sample, item):\n    return len(sample['output_text']) + ord(item['given'])"
    assert scored(tmp_path, make_rollout, {"type": "python", "source": source}, "a\ud83d", given="\udfff").reward == 2.0 + 0xDFFF


def test_null_is_no_text(tmp_path, make_rollout) -> None:
    """Prevents: a row without an answer, on which a model is paid for the word null."""
    deep = CHECK | {"reference": "{{ item.answer.text }}"}
    for grader, answer in ((CHECK, None), (NEAR, None), (deep, {"text": None})):
        with pytest.raises(RewardError, match="is null"):
            scored(tmp_path, make_rollout, grader, "null", answer=answer)
        nested = {"type": "multi", "graders": {"a": grader}, "calculate_output": "a"}
        for each in (grader, nested):
            with pytest.raises(DataError, match=r"Row rows\.jsonl:1 cannot be scored by mine.*is null"):
                Rubric(load(tmp_path, each), tags=Tags()).check([make_rollout(answer=answer).prompt])
    with pytest.raises(DataError, match=r"has no item\.answer\.text"):
        Rubric(load(tmp_path, deep), tags=Tags()).check([make_rollout(answer={"txt": "a"}).prompt])
    assert scored(tmp_path, make_rollout, CHECK, "5", answer=5).reward == 1.0


@pytest.mark.parametrize("operation", ["like", "ilike"])
def test_nothing_contains_an_empty_text(tmp_path, make_rollout, operation) -> None:
    """Prevents: a row with an empty reference that pays every reply, and a broken or empty reply that is found in every reference."""
    rubric = Rubric(load(tmp_path, CHECK | {"operation": operation}), tags=Tags())
    with pytest.raises(DataError, match="is empty in this row"):
        rubric.check([make_rollout(answer="").prompt])
    rubric.check([make_rollout(answer="a cat").prompt])
    assert rubric.score([make_rollout("anything", answer="")])[0].reward == 0.0
    turned = {"type": "string_check", "operation": operation, "input": "{{item.answer}}", "reference": "{{sample.output_text}}"}
    for text, score in (("", 0.0), ("<SOLUTION>a</SOLUTION><SOLUTION>b</SOLUTION>", 0.0), ("cat", 1.0)):
        assert scored(tmp_path, make_rollout, turned, text, answer="a cat").reward == score
    Rubric(load(tmp_path, turned), tags=Tags()).check([make_rollout(answer="a cat").prompt])


def test_columns_of_templates_are_checked_before_training(tmp_path, make_rollout) -> None:
    """Prevents: a misspelt column found out in the first step."""
    rubric = Rubric(load(tmp_path, {"type": "multi", "graders": {"a": CHECK}, "calculate_output": "a"}), tags=Tags())
    with pytest.raises(DataError, match="asks for 'answer'"):
        rubric.check([make_rollout(anser="a cat").prompt])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (CHECK | {"operation": "equal"}, "operation must be one of eq"), (CHECK | {"input": "{{ item.__class__.x() }}"}, "not known"),
        (CHECK | {"input": "{{ config.secret }}"}, "not known"), (CHECK | {"input": 3}, 'needs "input"'),
        (NEAR | {"evaluation_metric": "bleu"}, "must be one of fuzzy_match"), ({"type": "score_model"}, 'needs "input"'),
        ({"type": "strng_check"}, 'Did you mean "string_check"'), ([], "type of a grader"), ({"type": ["x"]}, "type of a grader"),
        ({"type": "multi", "graders": {}, "calculate_output": "1"}, 'needs "graders"'),
        ({"type": "multi", "graders": {"a": CHECK}, "calculate_output": "a + b"}, "'b', which is not allowed"),
        ({"type": "multi", "graders": {"a": CHECK, "b": NEAR}, "calculate_output": "a"}, "'b' does not stand in"),
        ({"type": "multi", "graders": {"a-b": CHECK, "a": NEAR}, "calculate_output": "a"}, "'a-b' does not stand in"),
        ({"type": "multi", "graders": {"a": CHECK}, "calculate_output": "min(a)"}, "min takes two or more arguments"),
        (CHECK | {"operation": "like", "reference": ""}, "every text contains"),
        (CHECK | {"operation": "ilike", "reference": ""}, "every text contains"),
        (CHECK | {"pass_threshold": 1}, "no setting 'pass_threshold'"),
        (CHECK | {"opperation": "eq"}, 'Did you mean "operation"'), ({"type": "python", "source": "", "image_tag": "x"}, "'image_tag'"),
        ({"type": "score_model", "input": [], "sampling_params": {}}, "'sampling_params'"),
        ({"type": "score_model", "input": [{"role": "usr", "content": "x"}]}, 'Did you mean "user"'),
        ({"type": "score_model", "input": [{"role": "user", "content": {"type": "input_text", "text": "x"}}]}, 'needs "content", a text'),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_when_loaded(tmp_path, data, message) -> None:
    """Prevents: a grader that fails, or pays nothing, in the middle of a run."""
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, data)


@pytest.mark.parametrize(
    ("text", "result"),
    [("2 + 3 * a", 8), ("2 ^ 3 ^ 2", 512), ("-a ** 2", -4), ("min(a, 1) + max(1, 2, 3)", 4), ("floor(2.7) / ceil(1.2)", 1),
     ("sqrt(4) - abs(-1)", 1)],
)
def test_formulas(text: str, result: float) -> None:
    """Prevents: powers that bind like an exclusive or."""
    assert formula(text, ["a"])({"a": 2.0}) == result


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "a.__class__", "(lambda: 1)()", "[1][0]", "'x' * 9", "a if a else 1", "a < 2", "eval('1')", "min(a, key=a)",
     "True", "1 +", "", "-" * 100_000 + "1", "print(a)", "a := 1", "f'{a}'", "*a"],
)
def test_formulas_that_are_programs_are_refused(text: str) -> None:
    """Prevents: code that is run because it stood in a data file."""
    with pytest.raises(ConfigError):
        formula(text, ["a"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((f"{name}(a, a)", f"{name} takes one argument") for name in ("abs", "floor", "ceil", "exp", "sqrt")),
        ("abs()", "takes one argument"), ("max()", "two or more"), ("min(a)", "two or more"), ("log()", "one or two"),
        ("log(a, a, a)", "one or two"), ("1 + 2 * max(3, sqrt(a, 2))", "sqrt takes one"), ("1e999 * a", "not allowed"),
        ("9" * 400 + " * a", "not allowed"), ("-" * 400 + "a", "more than 50 operations"), ("abs(a, b=1)", "not allowed"),
        ("abs(*a)", "not allowed"),
    ],
)
def test_formulas_that_never_have_a_value_are_refused(text: str, message: str) -> None:
    """Prevents: a call with too few or too many arguments, or a number beyond every float, found at the first score."""
    with pytest.raises(ConfigError, match=message):
        formula(text, ["a"])


def test_every_function_of_a_formula_has_a_value() -> None:
    """Prevents: a check of arguments that refuses what the function takes, or takes what it refuses."""
    for name in FUNCTIONS:
        least, most = ARGUMENTS.get(name, (1, 1))
        for count in {least, min(most, 3)}:
            assert isinstance(formula(f"{name}({', '.join('a' * count)})", ["a"])({"a": 2.0}), float)


@pytest.mark.parametrize("text", ["9 ^ 9 ^ 9 ^ 9", "1 / (a - a)", "sqrt(-a)", "log(0)"])
def test_formulas_without_a_value_are_errors(text: str) -> None:
    """Prevents: an infinite loop, or a made-up number."""
    with pytest.raises(RewardError, match="no value"):
        formula(text, ["a"])({"a": 2.0})


def test_similarity_is_twice_the_common_subsequence() -> None:
    """Prevents: a fast algorithm that computes something else."""

    def longest(a, b):
        rows = [0] * (len(b) + 1)
        for x in a:
            before = rows[:]
            for place, y in enumerate(b):
                rows[place + 1] = before[place] + 1 if x == y else max(rows[place], before[place + 1])
        return rows[-1]

    draw = random.Random(0)
    for _ in range(200):
        a, b = ("".join(draw.choices("abc", k=draw.randint(1, 30))) for _ in range(2))
        assert fuzzy_match(a, b) == 2 * longest(a, b) / (len(a) + len(b))
    assert fuzzy_match("", "") == 0.0 and rouge_l("the cat sat", "the cat") == 0.8
    assert rouge_n(2)("the cat sat down", "the cat sat") == 0.8 and rouge_n(5)("a b", "a b") == 0.0
