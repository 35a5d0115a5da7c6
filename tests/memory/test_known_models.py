"""Public models that are planned without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from heron.config import load_config
from heron.errors import ModelError
from heron.memory import read_shape
from heron.memory.known import SHAPES, known_config
from heron.training.cost import config_json

PARAMETERS = {
    "Qwen3-0.6B": 596_049_920, "Qwen3-1.7B": 1_720_574_976, "Qwen3-4B": 4_022_468_096, "Qwen3-8B": 8_190_735_360,
    "Qwen2.5-1.5B": 1_543_714_304, "Qwen2.5-3B": 3_085_938_688, "Llama-3.2-3B": 3_212_749_824, "Llama-3.1-8B": 8_030_261_248,
    "gemma-3-1b": 999_885_952, "phi-4": 14_659_507_200, "Mistral-7B-v0.3": 7_248_023_552,
}
"""As their checkpoints hold them, tied weights once."""


@pytest.mark.parametrize("name", SHAPES)
def test_known_shapes_have_the_weights_of_the_public_models(name: str) -> None:
    """Prevents: a digit of a config.json that was copied wrongly, and every plan of the model with it."""
    assert read_shape(SHAPES[name]).parameters == PARAMETERS[name]


def test_known_models_ask_no_hub(no_network: list[str]) -> None:
    """Prevents: a plan that needs a network, or a licence that was not accepted yet."""
    model = config_json(load_config("gsm8k", {"model": {"name": "meta-llama/Llama-3.1-8B-Instruct"}}))
    assert read_shape(model).layers == 32 and no_network == []


def test_known_models_of_a_named_revision_are_looked_up(no_network: list[str]) -> None:
    """Prevents: facts of another commit than the one that was asked for."""
    with pytest.raises(ModelError, match=r"config\.json of 'Qwen/Qwen3-4B'"):
        config_json(load_config("gsm8k", {"model": {"name": "Qwen/Qwen3-4B", "revision": "no-such"}}))


def test_folders_under_a_known_name_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a plan of the public model where a folder of that name holds another one."""
    folder = tmp_path / "Qwen" / "Qwen3-4B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "qwen3", "hidden_size": 64, "num_attention_heads": 2}')
    monkeypatch.chdir(tmp_path)
    assert config_json(load_config("gsm8k", {"model": {"name": "Qwen/Qwen3-4B"}}))["hidden_size"] == 64
    assert known_config("my/model") is None
