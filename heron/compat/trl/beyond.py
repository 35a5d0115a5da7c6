"""What TRL's trainer has besides, and what to use in its place: for an AttributeError that says so, and for a class that overrides it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

MADE = ("It trains (train), measures (evaluate), writes (save_model, save_metrics, save_state) and holds model, processing_class, state, "
        "args, train_dataset and run_dir, the folder that `heron` commands read.")
"""Of any other name."""
_OPTIMIZER = ("The optimizer is made for the run, and its rate is set at each step. Choose it with GRPOConfig(optim=..., "
              "learning_rate=..., lr_scheduler_type=..., warmup_steps=...); a callback is given it as `optimizer`, and the history has "
              "`learning_rate`.")
_LOADER = "There is no data loader: a step draws its prompts by seed. The rows are in trainer.train_dataset."
_SAMPLER = "Answers are sampled by trainer.model itself. heron.load(trainer.run_dir) answers when the training is over."
BEYOND: Mapping[str, str] = {
    "accelerator": "One process trains on one device: do what stands under accelerator.is_main_process always, and print with print.",
    **dict.fromkeys(("optimizer", "lr_scheduler", "create_optimizer", "create_scheduler", "create_optimizer_and_scheduler"), _OPTIMIZER),
    **dict.fromkeys(("get_train_dataloader", "get_eval_dataloader", "train_dataloader"), _LOADER),
    **dict.fromkeys(("llm", "vllm_client", "vllm_generation", "generation_config"), _SAMPLER),
    "callback_handler": "Use add_callback, pop_callback and remove_callback.",
    "create_model_card": "`heron export RUN` writes the model with a card: what it was trained with, and how it was measured.",
    "eval_dataset": "Keep the dataset that you gave, and measure with trainer.evaluate(dataset).",
    "hyperparameter_search": "Make a GRPOTrainer for each trial: each has a run of its own, and `heron runs` lists them.",
    "init_hf_repo": "Nothing is uploaded from here: `heron export RUN --out DIR`, then `hf upload NAME DIR`.",
    "predict": "trainer.evaluate(dataset) measures answers; heron.load(trainer.run_dir) gives them.",
    "ref_model": "The reference is the start of the run: `heron chat RUN --compare start` asks both.",
    "reward_funcs": "Keep the functions that you gave; each answer's rewards are in the run, `heron ui outputs` shows them.",
    "compute_loss": "Another loss is named in a recipe: objective.loss_type = 'loss.py:mine', see docs/objective.md.",
}
"""By name."""
_LOSS = BEYOND["compute_loss"]
_REWARDS = "Give the function in reward_funcs, with its weight in reward_weights."
_ANSWERS = "Answers are sampled by the trained model itself: use tools or an environment_factory."
INSIDE: Mapping[str, str] = {
    **dict.fromkeys((
        "_compute_loss", "training_step", "_get_per_token_logps_and_entropies", "get_high_entropy_mask", "get_off_policy_mask",
        "get_gamma_weights",
    ), _LOSS),
    **dict.fromkeys(("_calculate_rewards",), _REWARDS),
    **dict.fromkeys((
        "_prepare_inputs", "_generate", "_generate_single_turn", "_generate_and_score_completions", "_tool_call_loop", "_tokenize_prompts",
        "prediction_step",
    ), _ANSWERS),
    **dict.fromkeys(("_get_train_sampler", "_get_eval_sampler", "_set_signature_columns_if_needed"), _LOADER),
    "log": "Use a callback with on_log.", "_save_checkpoint": "Use a callback with on_save.",
}
"""What TRL's loop calls of its trainer, so that a class made from it may override it; here the loop never does."""


def unheeded(methods: Iterable[str]) -> dict[str, str]:
    """Those of a class made from `GRPOTrainer` that nothing would ever call, and what to use."""
    return {name: {**BEYOND, **INSIDE}[name] for name in methods if name in BEYOND or name in INSIDE}
