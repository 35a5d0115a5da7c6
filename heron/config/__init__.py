"""Settings of a run: the schema, and how recipe, file and command line are laid over one another."""

from heron.config.environment import EnvironmentConfig
from heron.config.loading import config_from_dict, load_config, to_toml
from heron.config.model import DTYPES, EMBEDDED, ModelConfig
from heron.config.objective import ADVANTAGE_ESTIMATORS, LOSS_TYPES, ObjectiveConfig
from heron.config.overrides import parse_overrides
from heron.config.recipe import Recipe, recipes
from heron.config.schema import (
    Config,
    DataConfig,
    EvaluationConfig,
    RewardsConfig,
    RolloutConfig,
    TrainConfig,
    WarmupConfig,
)

__all__ = [
    "ADVANTAGE_ESTIMATORS",
    "Config",
    "DTYPES",
    "DataConfig",
    "EMBEDDED",
    "EnvironmentConfig",
    "EvaluationConfig",
    "LOSS_TYPES",
    "ModelConfig",
    "ObjectiveConfig",
    "Recipe",
    "RewardsConfig",
    "RolloutConfig",
    "TrainConfig",
    "WarmupConfig",
    "config_from_dict",
    "load_config",
    "parse_overrides",
    "recipes",
    "to_toml",
]
