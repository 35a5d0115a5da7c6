"""The cells of Unsloth's public notebooks for GRPO, with their own options, migrated by the command and run on a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from heron.compat.migrating import migrate
from heron.config import load_config

LOAD = """\
from unsloth import FastLanguageModel
import torch
max_seq_length = 96
lora_rank = 8
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name = MODEL,
    max_seq_length = max_seq_length,
    load_in_4bit = False,
    fast_inference = True,
    max_lora_rank = lora_rank,
    gpu_memory_utilization = 0.9,
)
model = FastLanguageModel.get_peft_model(
    model,
    r = lora_rank,
    target_modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    lora_alpha = lora_rank*2,
    lora_dropout = 0,
    bias = "none",
    use_gradient_checkpointing = "unsloth",
    random_state = 3407,
)
"""
DATA = """\
tokenizer.chat_template = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<start_working_out>' }}{% endif %}"
)
from datasets import Dataset
dataset = Dataset.from_list([{"problem": f"{n}+1?", "solution": str(n + 1)} for n in range(8)])
dataset = dataset.map(lambda x: {
    "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": x["problem"]}], "answer": x["solution"],
})
shown = []
def check_answer(prompts, completions, answer, **kwargs):
    question = prompts[0][-1]["content"]
    shown.append((question, completions[0][0]["content"], answer[0]))
    return [3.0 if a in completion[0]["content"] else -1.0 for completion, a in zip(completions, answer)]
def variety(completions, **kwargs):
    return [len(set(completion[0]["content"])) / 10 for completion in completions]
"""
TRAIN = """\
from vllm import SamplingParams
vllm_sampling_params = SamplingParams(
    min_p = 0.1,
    top_p = 1.0,
    top_k = -1,
    seed = 3407,
    stop = [tokenizer.eos_token],
    include_stop_str_in_output = True,
)
from trl import GRPOConfig, GRPOTrainer
training_args = GRPOConfig(
    vllm_sampling_params = vllm_sampling_params,
    temperature = 1.0,
    learning_rate = 5e-3,
    weight_decay = 0.1,
    adam_beta1 = 0.9,
    adam_beta2 = 0.99,
    warmup_ratio = 0.1,
    lr_scheduler_type = "cosine",
    optim = "adamw_8bit",
    logging_steps = 1,
    per_device_train_batch_size = 1,
    gradient_accumulation_steps = 1,
    num_generations = 4,
    max_prompt_length = 60,
    max_completion_length = 12,
    max_steps = 3,
    save_steps = 250,
    max_grad_norm = 0.1,
    report_to = "none",
    output_dir = "outputs",
)
trainer = GRPOTrainer(
    model = model, processing_class = tokenizer, reward_funcs = [check_answer, variety], args = training_args, train_dataset = dataset,
)
trainer.train()
"""
ASK = """\
from safetensors import safe_open
model.save_lora("grpo_saved_lora")
with safe_open("grpo_saved_lora/adapter_model.safetensors", framework = "pt") as f:
    for key in f.keys():
        tensor = f.get_tensor(key)
        n_zeros = (tensor == 0).sum() / tensor.numel()
        assert n_zeros.item() != tensor.numel()
text = tokenizer.apply_chat_template([{"role": "user", "content": "2+1?"}], add_generation_prompt = True, tokenize = False)
sampling_params = SamplingParams(temperature = 0.8, top_k = 50, max_tokens = 8)
before = model.fast_generate([text], sampling_params = sampling_params, lora_request = None)[0].outputs[0].text
after = model.fast_generate(text, sampling_params = sampling_params, lora_request = model.load_lora("grpo_saved_lora"))[0].outputs[0].text
if False: model.push_to_hub_merged("hf/model", tokenizer, save_method = "merged_16bit", token = "")
"""


def notebook(*cells: str) -> str:
    made = [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": cell.splitlines(keepends=True)}
            for cell in ("!pip install unsloth vllm\n", *cells)]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def test_the_cells_run_with_their_own_options(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prevents: a public notebook that stops at its imports, at the batch of 1, at min_p, or at what is asked after the training."""
    pytest.importorskip("bitsandbytes")
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.ipynb").write_text(notebook(LOAD, DATA, TRAIN, ASK))
    migration = migrate(tmp_path / "theirs.ipynb")
    refused = [finding.what for finding in migration.findings if finding.kind == "unsupported"]
    assert refused == [".push_to_hub_merged()"], "the line that never runs"
    names: dict[str, Any] = {"MODEL": str(tiny_folder("qwen3"))}
    with pytest.warns(UserWarning) as said:
        for cell in json.loads(migration.text)["cells"][1:]:
            exec("".join(cell["source"]), names)
    told = "\n".join(str(each.message) for each in said)
    assert "Not applied while training: min_p=0.1." in told and "so it becomes 4, as in Unsloth" in told
    config = load_config(names["trainer"].run_dir / "config.toml")
    assert (config.train.prompts_per_step, config.rollout.num_generations, config.train.optimizer) == (1, 4, "adamw_8bit")
    assert (config.train.max_grad_norm, config.train.lr_scheduler_type, config.model.lora_alpha) == (0.1, "cosine", 16)
    assert len(names["trainer"].state.log_history) == 4 and len(names["shown"]) == 3
    assert isinstance(names["before"], str) and isinstance(names["after"], str)
