"""The schema keeps the promises that loading, writing and the reference page rely on."""

import ast
import dataclasses
import inspect
import math
import types

import pytest

from heron.config import Config, load_config, recipes, to_toml
from heron.config.layer import field_types, read_layer, section_types
from heron.config.schema import MOST_SEED
from heron.errors import ConfigError
from heron.types import Tags


def test_every_setting_is_documented_under_its_field():
    """A setting without a docstring would be missing from the reference page and from `--help`."""
    bare = []
    for section in [Config, Tags, *section_types().values()]:
        body = ast.parse(inspect.getsource(section)).body[0].body
        for field, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and not _is_text(after):
                bare.append(f"{section.__name__}.{field.target.id}")
    assert bare == []


def _is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def test_every_section_is_frozen_and_slotted():
    """A config that could change after loading would differ from the one written to the run."""
    for section in [Config, *section_types().values()]:
        instance = section()
        assert not hasattr(instance, "__dict__")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(instance, dataclasses.fields(section)[0].name, "other")


def test_what_may_be_left_out_is_none_by_default():
    """None is written by leaving the key out, so another default would come back in its place."""
    for section, make in section_types().items():
        for key, wanted in field_types(section).items():
            if isinstance(wanted, types.UnionType):
                assert getattr(make(), key) is None, f"{section}.{key}"


def test_every_setting_has_a_type_that_can_be_read():
    """A field of an unreadable type could be set by no file and no command line."""
    for section, make in section_types().items():
        for key in field_types(section):
            value = getattr(make(), key)
            assert read_layer({section: {key: value}}, lambda keys: "") == {section: {key: value}}


def test_no_setting_shadows_a_section():
    """A key with a section's name would make the hints of misplaced keys ambiguous."""
    keys = {key for section in section_types() for key in field_types(section)}
    assert keys.isdisjoint(section_types())


@pytest.mark.parametrize("recipe", [recipe.name for recipe in recipes()])
def test_shipped_recipes_load(recipe):
    """A renamed setting would break a recipe that nobody happened to start."""
    config = load_config(recipe)
    assert config.recipe == recipe
    assert to_toml(config)


def test_recipes_have_a_summary_and_a_file():
    """`heron recipes` would print an empty line."""
    assert {"arithmetic", "gsm8k"} <= {recipe.name for recipe in recipes()}
    for recipe in recipes():
        assert recipe.path.is_file()
        assert len(recipe.summary) > 20 and not recipe.summary.startswith("#")


FLOATS = [
    (section, key) for section in section_types() for key, wanted in field_types(section).items() if "float" in str(wanted)
]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize(("section", "key"), FLOATS)
def test_every_number_must_be_finite(section, key, value):
    """An infinite temperature or learning rate compares as a large one, and then spoils every weight."""
    given = {"functions": ("a",), "weights": (value,)} if key == "weights" else {key: value}
    with pytest.raises(ConfigError, match=rf"{section}\.{key} must be finite, but it is {value!r}"):
        section_types()[section](**given)


def test_settings_of_every_section_are_looked_at():
    assert {section for section, _ in FLOATS} >= {"model", "rewards", "rollout", "objective", "train", "warmup"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model.lora_alpha", 0), ("model.lora_alpha", -32),
        ("warmup.learning_rate", 0.0), ("warmup.learning_rate", -1e-3),
        ("train.seed", -1), ("train.seed", 2**31), ("train.seed", 2**63), ("warmup.seed", -1), ("warmup.seed", 2**64),
    ],
)
def test_values_out_of_range_are_refused(setting, value):
    """An adapter scaled by 0 never learns; a huge seed overflowed in the middle of a run."""
    section, key = setting.split(".")
    with pytest.raises(ConfigError, match=rf"{section}\.{key} must .*{value}"):
        load_config("gsm8k", {section: {key: value}})


def test_the_largest_seed_fits_into_the_generators():
    """Steps, batches and rows draw with multiples of the run's seed."""
    load_config("gsm8k", {"train": {"seed": MOST_SEED}})
    assert MOST_SEED * 1_000_003 + 10**9 < 2**63
