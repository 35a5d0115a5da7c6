"""Layers are merged in order, errors say where, and what is written is read back."""

import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import heron.config
from heron.config import Config, config_from_dict, load_config, to_toml
from heron.errors import ConfigError


def written(folder, text, name="my.toml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_importing_config_and_data_loads_nothing_heavy():
    """`heron --help` would take seconds instead of a fraction of one."""
    heavy = "{'torch', 'transformers', 'datasets', 'pyarrow', 'numpy'}"
    program = f"import sys, heron.config, heron.data; print(sorted({heavy} & set(sys.modules)))"
    root = Path(heron.config.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_source_the_default_recipe_is_loaded():
    assert load_config() == load_config("arithmetic")
    assert load_config().data.dataset == "arithmetic"


def test_recipe_then_file_then_overrides(tmp_path):
    """Layers in another order would let a recipe undo what the user asked for."""
    path = written(tmp_path, 'recipe = "gsm8k"\n[train]\nmax_steps = 7\nseed = 1\n[rewards]\nfunctions = ["a"]\n')
    config = load_config(path, {"train": {"seed": 2}}, {"train": {"seed": 3}})
    assert config.train.max_steps == 7
    assert config.train.seed == 3
    assert config.train.warmup_steps == load_config("gsm8k").train.warmup_steps
    assert config.rewards.functions == ("a",), "lists are replaced, not joined"
    assert config.recipe == "my.toml"


def test_a_file_without_a_recipe_lies_on_the_defaults(tmp_path):
    """The default recipe must not leak into a config that did not ask for it."""
    config = load_config(str(written(tmp_path, "[train]\nmax_steps = 7\n")))
    assert config == dataclasses.replace(
        Config(), recipe="my.toml", train=dataclasses.replace(Config().train, max_steps=7)
    )


@pytest.mark.parametrize("recipe", ["arithmetic", "gsm8k"])
def test_what_is_written_is_read_back(tmp_path, recipe):
    """A run could not be resumed or repeated from its own config.toml."""
    system_prompt = 'Löse "das":\r\n\t{reasoning_start}\\n'
    config = load_config(
        recipe,
        {"data": {"system_prompt": system_prompt, "limit": 5}, "train": {"max_grad_norm": 1e30}},
        {"objective": {"delta": 4, "epsilon_high": 0.3}, "rewards": {"weights": [], "functions": ["a.py:f", "b"]}},
    )
    assert load_config(written(tmp_path, to_toml(config), "config.toml")) == config
    assert config_from_dict(config.as_dict(), "test") == config
    assert config_from_dict(tomllib.loads(to_toml(config)), "test") == config


def test_a_setting_taken_back_from_the_recipe_stays_away(tmp_path):
    """The recipe's value would return when the run's config is loaded again, as None is written by leaving it out."""
    config = load_config("gsm8k", {"objective": {"epsilon_high": "none"}, "data": {"subset": None}})
    assert config.objective.epsilon_high is None
    assert load_config(written(tmp_path, to_toml(config))) == config


def test_a_written_config_outlives_its_recipe(tmp_path):
    """An old run would become unreadable when a recipe is renamed, or when its file was the user's own."""
    config = dataclasses.replace(load_config(), recipe="gone.toml")
    assert load_config(written(tmp_path, to_toml(config))).recipe == "gone.toml"


def test_unknown_keys_name_file_line_and_the_nearest_word(tmp_path):
    """A misspelt setting that is ignored trains something else than was asked for."""
    decoy = '[data]\nsystem_prompt = """\nmax_stesp = 1\n"""\n'
    path = written(tmp_path, f'# mine\nrecipe = "gsm8k"\n\n{decoy}\n[train]\n# steps\nmax_stesp = 3\n')
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert f"{path}, line 11" in str(error.value)
    assert '"train.max_stesp"' in str(error.value) and 'Did you mean "max_steps"?' in str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("[trian]\nseed = 1\n", 1, 'Did you mean "train"?'),
        ("max_steps = 3\n", 1, 'Did you mean "train.max_steps"?'),
        ("\ntrain.max_step = 3\n", 2, 'Did you mean "max_steps"?'),
        ("train = { seed = 1, max_step = 3 }\n", 1, 'Did you mean "max_steps"?'),
        ("[train]\nnum_generations = 4\n", 2, 'There is "rollout.num_generations".'),
        ("[train]\nseed = 1\nzzz = [\n  1,\n]\n", 3, "The settings of train are max_steps,"),
        ("zzz = 1\n", 1, "The sections are model, data,"),
        ("[train]\nmax_steps = [\n  3,\n]\n", 2, "must be a whole number, but it is [3]"),
        ('[train]\nseed = "3"\n', 2, "train.seed must be a whole number, but it is '3'"),
        ('recipe = "gsm9k"\n', 1, 'Did you mean "gsm8k"?'),
        ("recipe = 8\n", 1, "recipe must be text, but it is 8"),
        ('\nresolved = "yes"\n', 2, "resolved must be true or false"),
    ],
)
def test_errors_in_a_file_name_the_line(tmp_path, text, line, hint):
    """The user would have to search the file for what is wrong."""
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert hint in str(error.value)


@pytest.mark.parametrize(
    ("section", "key", "value", "wanted"),
    [
        ("train", "max_steps", True, "a whole number"),
        ("train", "max_steps", 3.0, "a whole number"),
        ("train", "max_steps", None, "a whole number"),
        ("train", "learning_rate", True, "a number"),
        ("train", "learning_rate", float("nan"), "a number"),
        ("train", "learning_rate", 10**400, "a number"),
        ("data", "shuffle", 1, "true or false"),
        ("data", "dataset", 3, "text"),
        ("data", "limit", "all", 'a whole number (or "none")'),
        ("rewards", "functions", "gsm8k.correctness", "a list of texts"),
        ("rewards", "functions", [1], "a list of texts"),
        ("rewards", "weights", [True], "a list of numbers"),
    ],
)
def test_a_wrong_type_names_key_value_and_wanted_type(section, key, value, wanted):
    """`true` would train for one step, and a bare string would become a list of letters."""
    with pytest.raises(ConfigError) as error:
        load_config("gsm8k", {section: {key: value}})
    assert f"{section}.{key} must be {wanted}, but it is {value!r}." in str(error.value)


def test_other_ways_to_write_a_value_are_accepted():
    """Whole numbers for numbers, lists for tuples, and paths for texts are no reason to stop."""
    config = load_config(
        "gsm8k",
        {"train": {"learning_rate": 1}, "rewards": {"functions": ["a"], "weights": [1]}, "model": {"name": Path("m")}},
    )
    assert config.train.learning_rate == 1.0 and isinstance(config.train.learning_rate, float)
    assert config.rewards.functions == ("a",) and config.rewards.weights == (1.0,)
    assert config.model.name == "m"


@pytest.mark.parametrize("key", ["limit", "system_prompt"])
@pytest.mark.parametrize("value", [None, "none", "None"])
def test_none_takes_back_what_may_be_left_out(key, value):
    """A recipe's system prompt could not be removed from the command line."""
    assert getattr(load_config("gsm8k", {"data": {"limit": 3}}, {"data": {key: value}}).data, key) is None


def test_ranges_are_checked_after_merging():
    """Two layers may each be fine and contradict each other together."""
    with pytest.raises(ConfigError, match="num_generations must be at least 2"):
        load_config("arithmetic", {"rollout": {"num_generations": 1}})
    with pytest.raises(ConfigError, match=r"objective\.delta must exceed"):
        load_config("gsm8k", {"objective": {"delta": 1.25}})


@pytest.mark.parametrize("tags", [{"solution_end": ""}, {"reasoning_end": " "}, {"solution_end": "<answer>"}])
def test_tags_must_tell_their_parts_apart(tags):
    """With an empty or repeated tag, every completion would match the format, or none."""
    with pytest.raises(ConfigError, match="four different texts"):
        load_config("gsm8k", {"tags": tags})


def test_a_section_needs_settings():
    with pytest.raises(ConfigError, match="train is a section, but it is given 3"):
        load_config("gsm8k", {"train": 3})


def test_the_recipe_cannot_be_overridden():
    """Overriding the name alone would write a run under a recipe that it did not use."""
    with pytest.raises(ConfigError, match="recipe cannot be overridden"):
        load_config("gsm8k", {"recipe": "arithmetic"})


def test_unknown_recipes_suggest_the_nearest():
    with pytest.raises(ConfigError, match='Did you mean "arithmetic"'):
        load_config("arithmatic")
    with pytest.raises(ConfigError, match=r"The recipes are arithmetic, "):
        load_config("zzz")


def test_missing_and_malformed_files_are_config_errors(tmp_path):
    """A traceback of the parser would hide which file is meant."""
    written(tmp_path, "", "settings.toml")
    with pytest.raises(ConfigError, match=r'no settings file .*Did you mean "settings.toml"'):
        load_config(tmp_path / "setings.toml")
    with pytest.raises(ConfigError, match=r"my.toml is not valid TOML: .*line 2"):
        load_config(written(tmp_path, "[train]\nmax_steps = three\n"))
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"[data]\nsystem_prompt = '\xe9'\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(latin)


def test_errors_of_a_mapping_begin_with_its_origin():
    with pytest.raises(ConfigError, match=r'^run 12: There is no section "trian"'):
        config_from_dict({"trian": {}}, "run 12")


def test_loading_changes_nothing_that_it_was_given():
    """A mapping that is used for two runs must mean the same in both."""
    override = {"train": {"seed": 3}, "rewards": {"functions": ["a"], "weights": []}}
    whole = {"recipe": "mine", "train": {"seed": 3}}
    load_config("gsm8k", override)
    config_from_dict(whole, "test")
    assert override == {"train": {"seed": 3}, "rewards": {"functions": ["a"], "weights": []}}
    assert whole == {"recipe": "mine", "train": {"seed": 3}}


def test_a_recipe_s_subset_goes_with_its_dataset(tmp_path):
    """The subset of the hub's GSM8K would be asked of a local file that has none."""
    assert load_config("gsm8k").data.subset == "main"
    assert load_config("gsm8k", {"data": {"dataset": "my.jsonl"}}).data.subset is None
    assert load_config("gsm8k", {"data": {"dataset": "openai/gsm8k"}}).data.subset == "main"
    assert load_config("gsm8k", {"data": {"dataset": "mine", "subset": "b"}}, {"train": {"seed": 1}}).data.subset == "b"
    assert load_config("gsm8k", {"data": {"dataset": "mine"}}, {"data": {"subset": "b"}}).data.subset == "b"
    path = written(tmp_path, 'recipe = "gsm8k"\n[data]\nsubset = "socratic"\n')
    assert load_config(path).data.subset == "socratic"
    assert load_config(path, {"data": {"dataset": "fork/gsm8k"}}).data.subset == "socratic", "it was asked for by itself"


def test_a_warmup_s_subset_goes_with_its_dataset(tmp_path):
    """The same of demonstrations: of two datasets, each has its own."""
    path = written(tmp_path, 'recipe = "gsm8k"\n[warmup]\ndataset = "openai/gsm8k"\nsubset = "main"\n')
    assert load_config(path).warmup.subset == "main"
    assert load_config(path, {"warmup": {"dataset": "my.jsonl"}}).warmup.subset is None
    kept = load_config(path, {"data": {"dataset": "my.jsonl"}})
    assert (kept.data.subset, kept.warmup.subset) == (None, "main")


def test_a_config_without_its_subset_is_read_back(tmp_path):
    config = load_config("gsm8k", {"data": {"dataset": "my.jsonl"}})
    assert load_config(written(tmp_path, to_toml(config))) == config
