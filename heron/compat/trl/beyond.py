"""What TRL's trainer has besides, and what to use in its place: for an AttributeError that says so."""

from __future__ import annotations

from collections.abc import Mapping

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
