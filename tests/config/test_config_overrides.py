"""Command line arguments become the values that the user meant."""

import pytest

from heron.config import load_config, parse_overrides
from heron.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("3e-4", 3e-4),
        ("true", True),
        ('["a", "b"]', ["a", "b"]),
        ("[1, 0.5]", [1, 0.5]),
        ("cosine", "cosine"),
        ("a = b", "a = b"),
        ("3 # three", 3),
        ("", ""),
        ("none", "none"),
    ],
)
def test_values_are_toml_or_else_text(text, value):
    """Quotes that the shell has taken away must not be needed."""
    assert parse_overrides([f"--train.x={text}"]) == {"train": {"x": value}}
    assert parse_overrides(["--train.x", text]) == {"train": {"x": value}}


@pytest.mark.parametrize("text", ["0123", "1e5", "true", "2024-01-02", "[x]", "/data/gsm8k", "a=b", "C:\\data"])
def test_a_setting_that_holds_text_keeps_the_text(text):
    """A commit such as 1e5 would become a number, and then be refused."""
    assert parse_overrides([f"--model.name={text}", f"--model.revision={text}"]) == {
        "model": {"name": text, "revision": text}
    }


def test_quoted_text_loses_its_quotes():
    assert parse_overrides(['--data.system_prompt="one\\ntwo"']) == {"data": {"system_prompt": "one\ntwo"}}


def test_a_line_break_smuggles_in_no_second_setting():
    assert parse_overrides(["--train.x=3\ny = 4"]) == {"train": {"x": "3\ny = 4"}}


def test_both_forms_mix_and_the_last_one_wins():
    given = ["--train.seed=1", "--data.limit", "5", "--train.seed", "2"]
    assert parse_overrides(given) == {"train": {"seed": 2}, "data": {"limit": 5}}
    config = load_config("gsm8k", parse_overrides(given))
    assert (config.train.seed, config.data.limit) == (2, 5)


def test_nothing_overrides_nothing():
    assert parse_overrides([]) == {}
    assert load_config("gsm8k", parse_overrides([])) == load_config("gsm8k")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train.seed=3"], "'train.seed=3' is not a setting"),
        (["-x"], "'-x' is not a setting"),
        (["--"], "'--' is not a setting"),
        (["--train.seed"], "--train.seed has no value"),
        (["--train.seed", "--train.max_steps=3"], "--train.seed has no value"),
        (["--seed=3"], "Did you mean --train.seed=VALUE?"),
        (["--zzz=3"], "--section.key=value"),
        (["--train.=3"], "does not name a setting"),
        (["--.seed=3"], "does not name a setting"),
        (["--a.b.c=3"], "does not name a setting"),
        (["--=3"], "does not name a setting"),
    ],
)
def test_malformed_arguments_are_refused(arguments, words):
    """An argument that is skipped trains something else than was asked for."""
    with pytest.raises(ConfigError) as error:
        parse_overrides(arguments)
    assert words in str(error.value)


def test_a_typo_is_found_when_the_override_is_laid_on():
    with pytest.raises(ConfigError, match=r'no setting "train.max-steps".*Did you mean "max_steps"'):
        load_config("gsm8k", parse_overrides(["--train.max-steps=3"]))


def test_a_list_given_as_text_says_how_to_write_it():
    with pytest.raises(ConfigError, match=r'Write \["my.py"\]'):
        load_config("gsm8k", parse_overrides(["--rewards.functions=my.py"]))
