"""Every accepted shape of a row, and what each refusal says."""

import pytest

from heron.data.rows import Row, fill_tags, to_prompt, with_system_prompt
from heron.errors import ConfigError, DataError
from heron.types import Tags

USER = {"role": "user", "content": "What is 2 + 2?"}


def prompt(columns, **settings):
    return to_prompt(Row(id="train.jsonl:7", columns=columns), **settings)


GSM8K = [
    (
        "Tom has 3 bags of 1,000 marbles. How many marbles has he?",
        "Each bag has 1,000.\nTom has 3*1000 = <<3*1000=3000>>3,000 marbles.\n#### 3,000",
        "3000",
    ),
    ("Ann earns $12 an hour for 2.5 hours. How much?", "12*2.5=$<<12*2.5=30>>30.\n#### $30", "30"),
    ("How much warmer is 0 than -5?", "It was -5.\n#### -5", "-5"),
    ("Half of 5?", "5/2=<<5/2=2.5>>2.5\n####2.5 ", "2.5"),
    ("Which symbol comes first?", "The mark #### comes first.\n#### 7", "7"),
]


@pytest.mark.parametrize(("question", "answer", "number"), GSM8K)
def test_gsm8k_rows_give_the_number_and_keep_the_solution(question, answer, number):
    """With the whole solution as reference no answer is ever right; without it the demonstration is lost."""
    made = prompt({"question": question, "answer": answer})
    assert made.answer == number
    assert made.columns == {"question": question, "answer": number, "solution": answer}
    assert made.messages == ({"role": "user", "content": question},)
    assert made.id == "train.jsonl:7"


def test_a_final_answer_that_is_no_number_keeps_its_commas():
    """`Paris, France` is not a number with a thousands comma."""
    assert prompt({"question": "Where?", "answer": "There.\n#### Paris, France"}).answer == "Paris, France"


def test_a_solution_column_of_the_row_is_not_overwritten():
    made = prompt({"question": "2?", "answer": "#### 2", "solution": "mine"})
    assert made.columns["solution"] == "mine" and made.answer == "2"


def test_an_empty_final_answer_is_refused():
    """An empty reference would make every answer wrong, silently."""
    with pytest.raises(DataError, match=r'train.jsonl:7: nothing stands after "####"'):
        prompt({"question": "2 + 2?", "answer": "so it is\n#### "})


@pytest.mark.parametrize(
    ("columns", "answer", "plain"),
    [
        ({"messages": [USER]}, None, False),
        ({"messages": [USER], "answer": "4"}, "4", False),
        ({"messages": [USER, {"role": "assistant", "content": "4"}]}, "4", False),
        ({"messages": [USER, {"role": "assistant", "content": "four"}], "answer": 4}, "4", False),
        ({"messages": [USER, {"role": "assistant", "content": "four"}], "solution": "4"}, "4", False),
        ({"prompt": "What is 2 + 2?"}, None, True),
        ({"prompt": "What is 2 + 2?", "answer": 4}, "4", True),
        ({"prompt": [USER], "answer": "4"}, "4", False),
        ({"question": "What is 2 + 2?"}, None, False),
        ({"question": "What is 2 + 2?", "answer": "4"}, "4", False),
        ({"problem": "What is 2 + 2?", "solution": "4"}, "4", False),
        ({"problem": "What is 2 + 2?", "solution": "so\n#### 4"}, "4", False),
        ({"messages": None, "prompt": None, "question": "What is 2 + 2?", "answer": None}, None, False),
    ],
)
def test_accepted_shapes(columns, answer, plain):
    """A shape that is read wrongly trains on the wrong question, or against the wrong reference."""
    made = prompt(columns)
    assert made.messages == (USER,)
    assert made.answer == answer
    assert made.plain is plain


def test_every_other_column_reaches_the_rewards():
    """A reward asks for its columns by name; an OpenAI RFT row keeps them beside its messages."""
    made = prompt({"messages": [{"role": "developer", "content": "Be brief."}, USER], "unit": "m", "hints": ["a"]})
    assert made.columns["unit"] == "m" and made.columns["hints"] == ["a"]
    assert made.messages == ({"role": "system", "content": "Be brief."}, USER)


def test_without_a_reference_there_is_no_answer_column():
    """A reward that asks for `answer` must hear of it before training, also where the file says null."""
    assert "answer" not in prompt({"question": "2?", "answer": None}).columns


def test_earlier_turns_stay():
    earlier = [USER, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Sure?", "name": None}]
    made = prompt({"messages": earlier})
    assert made.messages == (*earlier[:2], {"role": "user", "content": "Sure?"})
    assert made.question == "Sure?" and made.answer is None


def test_named_columns_are_used():
    columns = {"question": "no", "task": "What is 2 + 2?", "target": 4, "answer": "no"}
    made = prompt(columns, prompt_column="task", answer_column="target")
    assert made.messages == (USER,) and made.answer == "4"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "its columns (none)"),
        ({"text": "2 + 2?"}, "none of messages, prompt, question, problem is among its columns (text)"),
        ({"question": ""}, "does not end with a user message that asks something"),
        ({"question": "  \n"}, "does not end with a user message that asks something"),
        ({"question": 4}, '"question" must be text or a list of messages, but it is 4'),
        ({"messages": "hello"}, '"messages" must be a list of messages'),
        ({"messages": []}, '"messages" must be a list of messages'),
        ({"messages": [{"role": "assistant", "content": "4"}]}, "does not end with a user message"),
        ({"messages": [USER, *[{"role": "assistant", "content": "4"}] * 2]}, "At most one assistant message"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "does not end with a user message"),
        ({"messages": [{"role": "human", "content": "2?"}]}, "which is not a message"),
        ({"messages": [{"from": "user", "value": "2?"}]}, "which is not a message"),
        ({"messages": ["2?"]}, "which is not a message"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "which is not a message"),
        ({"messages": [{"role": "user", "content": None}]}, "which is not a message"),
    ],
)
def test_a_row_without_a_usable_prompt_is_named(columns, words):
    """Among a million rows, only the id tells which one to repair."""
    with pytest.raises(DataError) as error:
        prompt(columns)
    assert "train.jsonl:7" in str(error.value) and words in str(error.value)


@pytest.mark.parametrize("setting", ["prompt_column", "answer_column"])
def test_a_missing_named_column_lists_those_at_hand(setting):
    with pytest.raises(DataError) as error:
        prompt({"question": "2?", "target": "2"}, **{setting: "targt"})
    assert f'train.jsonl:7 has no column "targt" (data.{setting})' in str(error.value)
    assert 'question, target. Did you mean "target"?' in str(error.value)


def test_a_long_row_does_not_flood_the_error():
    with pytest.raises(DataError) as error:
        prompt({"messages": "x" * 100_000})
    assert len(str(error.value)) < 300


def test_the_system_prompt_comes_first_and_only_once():
    """Many chat templates refuse a second system message, or one that is not the first."""
    made = with_system_prompt(prompt({"question": "What is 2 + 2?"}), "Think.")
    assert made.messages == ({"role": "system", "content": "Think."}, USER)
    own = prompt({"messages": [{"role": "system", "content": "Be brief."}, USER]})
    assert with_system_prompt(own, "Think.").messages == ({"role": "system", "content": "Think.\n\nBe brief."}, USER)


def test_tags_are_filled_in_and_other_braces_are_left():
    """`str.format` would stop at the first JSON example in a system prompt."""
    tags = Tags(reasoning_start="<a>", reasoning_end="</a>", solution_start="{reasoning_end}", solution_end="</b>")
    text = '{reasoning_start}..{reasoning_end} {solution_start}{solution_end} {"x": 1} {} {x} {{'
    assert fill_tags(text, tags) == '<a>..</a> {reasoning_end}</b> {"x": 1} {} {x} {{'


def test_a_misspelt_tag_name_is_refused():
    """The model would be asked to write the placeholder itself."""
    with pytest.raises(ConfigError, match='Did you mean "reasoning_start"'):
        fill_tags("{reasoning_strat}", Tags())
