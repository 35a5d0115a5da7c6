"""Names of TRL, Unsloth and vLLM that are not here, and what to use in their place: for `heron migrate`, and for an import that fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

WARMUP = ("A model is shown a format first by a warm-up: heron.warmup('start.toml', out='start') with warmup.dataset, which "
          "docs/migrating.md shows under `SFTTrainer` before GRPO. Or do that part with TRL as before, save the model, and give its "
          "folder here.")
OPTIONS = "Write the options into GRPOConfig(...). A YAML file of options becomes a recipe: `heron migrate config.yaml --out recipe.toml`."
OTHER = ("Heron trains by GRPO and its family alone. Do that part with TRL as before, save the model, and give its folder to "
         "GRPOTrainer.")
ROWS = "Do it with TRL before: GRPOTrainer takes the rows that come of it. A conversation goes through the chat template here by itself."
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
    **dict.fromkeys((
        "DPOTrainer", "DPOConfig", "KTOTrainer", "KTOConfig", "DistillationTrainer", "DistillationConfig", "PPOTrainer", "PPOConfig",
        "PatchDPOTrainer", "UnslothTrainer", "UnslothTrainingArguments", "unsloth_train",
    ), OTHER),
    **dict.fromkeys(("RLOOTrainer", "RLOOConfig"), "RLOO compares siblings otherwise: objective.advantage_estimator = 'rloo' in a recipe."),
    **dict.fromkeys(("RewardTrainer", "RewardConfig"), "Train it with TRL as before, and give its folder in reward_funcs."),
    **dict.fromkeys((
        "apply_chat_template", "maybe_apply_chat_template", "maybe_convert_to_chatml", "extract_prompt", "maybe_extract_prompt",
        "unpair_preference_dataset", "maybe_unpair_preference_dataset", "pack_dataset", "is_conversational", "is_conversational_from_value",
        "to_sharegpt", "standardize_data_formats",
    ), ROWS),
    **dict.fromkeys(("DatasetMixtureConfig", "get_dataset"), "Load the rows with datasets.load_dataset, and give them as train_dataset."),
    **dict.fromkeys(("clone_chat_template", "setup_chat_format", "get_training_chat_template", "add_response_schema", "test_chat_template"),
                    "Set the template yourself: tokenizer.chat_template = '...', and give processing_class=tokenizer."),
    "supports_tool_calling": "GRPOTrainer(tools=...) says so if the template knows no tools.",
    "prepare_multimodal_messages": "Models read text alone here.",
    "create_reference_model": "The reference is the start of the run: GRPOConfig(beta=...) is all there is to say.",
    "init_zero_verbose": "One process trains on one device.",
    **dict.fromkeys(("SyncRefModelCallback", "BEMACallback"), "The reference is the start of the run, and no weights are averaged."),
    "RichProgressCallback": "The live view is there unless GRPOConfig(disable_tqdm=True).",
    "WeaveCallback": "Every answer is recorded: `heron ui outputs` shows them. GRPOConfig(report_to='wandb') sends the metrics.",
    "is_bf16_supported": "It is called is_bfloat16_supported.",
    "vLLMSamplingParams": "It is called SamplingParams.",
    "LogCompletionsCallback": "Every completion is recorded: `heron ui outputs` shows them.",
}
"""By name."""


def advice(name: str, here: Iterable[str]) -> str:
    """What to do about a name, beside those that are here."""
    return ELSEWHERE.get(name) or f"There is no {name} here. There are {', '.join(here)}."
