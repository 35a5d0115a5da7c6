"""The schema keeps the promises that loading, writing and the reference page rely on."""

import ast
import dataclasses
import inspect
import math
import types

import pytest

from heron.config import Config, ModelConfig, RolloutConfig, load_config, recipes, to_toml
from heron.config.checks import MOST_SEED
from heron.config.layer import field_types, read_layer, section_types
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


UNUSUAL = {
    "loss_type": "gspo", "importance_sampling_level": "sequence", "epsilon": 0.1, "epsilon_high": 0.28, "delta": 1.5,
    "sapo_temperature_pos": 2.0, "sapo_temperature_neg": 3.0, "vespo_k_pos": 1.0, "vespo_lambda_pos": 2.5, "vespo_k_neg": 1.5,
    "vespo_lambda_neg": 1.25, "beta": 0.04, "kl_estimator": "k1", "use_bias_correction_kl": True, "advantage_estimator": "rloo",
    "scale_rewards": "none", "mask_truncated_completions": True, "top_entropy_quantile": 0.2, "entropy_coef": 0.01,
    "use_adaptive_entropy": True, "entropy_coef_min": 0.005, "entropy_coef_max": 0.1, "entropy_coef_delta": 0.001, "entropy_target": 0.3,
    "num_iterations": 2, "num_minibatches": 2, "token_weights": "trl", "rows_per_micro_batch": 2,
    "importance_sampling_correction": "sequence_mask", "importance_sampling_clip_min": 0.5, "importance_sampling_clip_max": 2.0,
    "off_policy_mask_threshold": 0.1,
}
NEEDS = {"delta": {"epsilon_high": 0.28}, "token_weights": {"rows_per_micro_batch": 2}, "rows_per_micro_batch": {"token_weights": "trl"}}


def test_the_table_has_every_setting_of_the_objective_and_no_default():
    """Guards the round trip below."""
    defaults = section_types()["objective"]()
    assert UNUSUAL.keys() == field_types("objective").keys()
    assert not [key for key, value in UNUSUAL.items() if getattr(defaults, key) == value]


@pytest.mark.parametrize("key", UNUSUAL)
def test_settings_of_the_objective_survive_the_runs_record(key, tmp_path):
    """A setting that `config.toml` loses is another one after resuming."""
    config = load_config("gsm8k", {"objective": {key: UNUSUAL[key], **NEEDS.get(key, {})}})
    (tmp_path / "config.toml").write_text(to_toml(config))
    again = load_config(tmp_path / "config.toml")
    assert again == config
    assert getattr(again.objective, key) == UNUSUAL[key]


BAD = [
    ({"loss_type": "grop"}, "objective.loss_type must be one of grpo, .*but it is 'grop'.*grpo"),
    ({"loss_type": "losses.py"}, "objective.loss_type names a file without a function.*losses.py:function"),
    ({"loss_type": "losses.py:"}, "objective.loss_type"),
    ({"loss_type": ""}, "objective.loss_type must be one of"),
    ({"advantage_estimator": "gruop"}, "objective.advantage_estimator must be one of.*'gruop'.*group"),
    ({"advantage_estimator": "mine.py"}, "objective.advantage_estimator names a file without a function"),
    ({"advantage_estimator": "rloo", "scale_rewards": "none"}, "objective.scale_rewards has no effect with the estimator rloo"),
    ({"scale_rewards": "std"}, "objective.scale_rewards must be one of group, batch, none, but it is 'std'"),
    ({"importance_sampling_level": "row"}, "objective.importance_sampling_level must be one of token, sequence"),
    ({"epsilon": 0.0}, "objective.epsilon must lie between 0 and 1, but it is 0.0"),
    ({"epsilon": 1.0}, "objective.epsilon must lie between 0 and 1"),
    ({"epsilon_high": 0.0}, "objective.epsilon_high must be above 0"),
    ({"epsilon_high": -0.1}, "objective.epsilon_high must be above 0"),
    ({"delta": 1.2}, r"objective.delta must exceed 1 \+ epsilon_high, but it is 1.2. Choose more than 1.2"),
    ({"delta": 1.25, "epsilon_high": 0.28}, "Choose more than 1.28"),
    ({"sapo_temperature_pos": 0.0}, "objective.sapo_temperature_pos must be above 0"),
    ({"sapo_temperature_neg": -1.0}, "objective.sapo_temperature_neg must be above 0"),
    ({"vespo_lambda_pos": 0.0}, "objective.vespo_lambda_pos must be above 0"),
    ({"vespo_lambda_neg": -2.0}, "objective.vespo_lambda_neg must be above 0"),
    ({"beta": -0.01}, "objective.beta must not be negative"),
    ({"kl_estimator": "k4"}, "objective.kl_estimator must be one of k1, k2, k3"),
    ({"top_entropy_quantile": 0.0}, "objective.top_entropy_quantile must lie above 0"),
    ({"top_entropy_quantile": 1.01}, "objective.top_entropy_quantile must lie above 0 and not above 1"),
    ({"entropy_coef": -0.1}, "objective.entropy_coef must not be negative"),
    ({"entropy_coef_min": -0.1}, "objective.entropy_coef_min must not be negative"),
    ({"entropy_coef_min": 0.2, "entropy_coef_max": 0.1}, "objective.entropy_coef_max must not be below entropy_coef_min"),
    ({"entropy_coef_delta": -0.1}, "objective.entropy_coef_delta must not be negative"),
    ({"entropy_target": -0.1}, "objective.entropy_target must not be negative"),
    ({"num_iterations": 0}, "objective.num_iterations must be at least 1"),
    ({"num_minibatches": 0}, "objective.num_minibatches must be at least 1"),
    ({"token_weights": "batch"}, "objective.token_weights must be one of step, trl"),
    ({"token_weights": "trl"}, "needs objective.rows_per_micro_batch"),
    ({"token_weights": "trl", "rows_per_micro_batch": 0}, "needs objective.rows_per_micro_batch, but it is 0"),
    ({"rows_per_micro_batch": 2}, "only has an effect with token_weights"),
    ({"importance_sampling_correction": "tis"}, "objective.importance_sampling_correction must be one of none, token_truncate"),
    ({"importance_sampling_clip_max": 0.0}, "objective.importance_sampling_clip_max must be above 0"),
    ({"importance_sampling_clip_min": 3.0}, "objective.importance_sampling_clip_min must lie between 0 and the maximum"),
    ({"importance_sampling_clip_min": -0.5}, "objective.importance_sampling_clip_min must lie between 0"),
    ({"off_policy_mask_threshold": -0.1}, "objective.off_policy_mask_threshold must"),
    ({"off_policy_mask_threshold": 0.0}, "objective.off_policy_mask_threshold must"),  # rounding alone would mask rows of the policy itself
]


@pytest.mark.parametrize(("settings", "words"), BAD)
def test_what_is_no_objective_is_refused(settings, words):
    """Each of these trained something else than was asked for, or stopped in the middle of a run."""
    with pytest.raises(ConfigError, match=words):
        load_config("gsm8k", {"objective": settings})


def test_minibatches_and_micro_batches_must_divide_what_there_is():
    """Prompts left over would train with other weights, or not at all."""
    sizes = {"train": {"prompts_per_step": 4}, "rollout": {"num_generations": 6}}
    for settings, words in (
        ({"num_minibatches": 3}, "num_minibatches must divide train.prompts_per_step = 4, but it is 3"),
        ({"token_weights": "trl", "rows_per_micro_batch": 5}, "rows_per_micro_batch must divide the 24 rollouts"),
        ({"token_weights": "trl", "rows_per_micro_batch": 24, "num_minibatches": 2}, "rows_per_micro_batch must divide the 12 rollouts"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_config("gsm8k", sizes, {"objective": settings})
    load_config("gsm8k", sizes, {"objective": {"token_weights": "trl", "rows_per_micro_batch": 12, "num_minibatches": 2}})


def test_built_in_names_are_those_of_the_objective():
    """The config loads no torch, so it has names of its own: one that is missing could not be chosen, one too many is an error late."""
    from heron.config.objective import ADVANTAGE_ESTIMATORS, CORRECTIONS, LOSS_TYPES
    from heron.objective import CORRECTIONS as KNOWN_CORRECTIONS
    from heron.objective import ESTIMATORS, LOSSES

    assert set(LOSS_TYPES) == set(LOSSES)
    assert set(CORRECTIONS) == {"none", *KNOWN_CORRECTIONS}
    assert set(ADVANTAGE_ESTIMATORS) <= set(ESTIMATORS)
    aliases = set(ESTIMATORS) - set(ADVANTAGE_ESTIMATORS)
    assert all(ESTIMATORS[alias].function in {ESTIMATORS[name].function for name in ADVANTAGE_ESTIMATORS} for alias in aliases)


@pytest.mark.parametrize("model", [ModelConfig(name="x", method="qlora"), ModelConfig(name="x", method="lora", use_dora=True)])
def test_vllm_cannot_sample_what_it_cannot_hold(model):
    """Prevents: answers of a 16-bit base for a policy of 4 bits, whose log-probs are others."""
    assert Config(model=model).model is model
    with pytest.raises(ConfigError, match=r"must not be 'vllm'.*native engine"):
        Config(model=model, rollout=RolloutConfig(engine="vllm"))
