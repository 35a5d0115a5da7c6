"""Names of TRL, Unsloth and vLLM that are not here, and what to use in their place: for `heron migrate`, and for an import that fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

WARMUP = ("A model is shown a format first by a warm-up: heron.warmup(out=..., warmup={'dataset': ...}), in the guide under Warm-up. Or do "
          "that part with TRL as before, save the model, and give its folder here.")
OPTIONS = "Write the options into GRPOConfig(...). A YAML file of options becomes a recipe: `heron migrate config.yaml --out recipe.toml`."
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("SFTTrainer", "SFTConfig"), WARMUP),
    **dict.fromkeys(("TrlParser", "ScriptArguments", "ModelConfig", "get_kbit_device_map"), OPTIONS),
    "get_peft_config": "Give a peft.LoraConfig: GRPOTrainer(peft_config=LoraConfig(...)).",
    "get_quantization_config": "Give a transformers.BitsAndBytesConfig: GRPOTrainer(quantization_config=BitsAndBytesConfig(...)).",
    "get_chat_template": "Set the template yourself: tokenizer.chat_template = '...'. A model's own is used otherwise.",
    "standardize_sharegpt": "Rows are conversations with role and content.",
    "train_on_responses_only": "A warm-up learns the last answer of each row alone.",
    "FastVisionModel": "Models read text alone here.",
    "LLM": "heron.load('folder or id').fast_generate([...]) answers without training.",
    "LogCompletionsCallback": "Every completion is recorded: `heron ui outputs` shows them.",
}
"""By name."""


def advice(name: str, here: Iterable[str]) -> str:
    """What to do about a name, beside those that are here."""
    return ELSEWHERE.get(name) or f"There is no {name} here. There are {', '.join(here)}."
