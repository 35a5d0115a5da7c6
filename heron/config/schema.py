"""Every setting, one frozen section per concern, one docstring per field. Names are the field's own where it has one.

The values here are the defaults of a run on a real model; recipes (`recipes/*.toml`) lay theirs on top. A section checks its
own ranges when it is made, so a config that exists is a config that can be run. Nothing is clamped: a bad value is an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from heron.config.checks import check_finite, check_seed, one_of, require
from heron.config.environment import EnvironmentConfig
from heron.config.judge import START, JudgeConfig
from heron.config.model import ModelConfig
from heron.config.objective import ObjectiveConfig
from heron.config.warmup import WarmupConfig
from heron.errors import ConfigError
from heron.run.alerts import CHECKS
from heron.run.sinks import SINKS
from heron.run.watchman import EVERY
from heron.types import LEAST_TEMPERATURE, Tags

OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "muon", "adamw_kahan")

HELD_OUT_FIGURES = ("accuracy", "pass_at_1", "mean_reward", "format_rate")
"""Of an evaluation; the higher, the better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Where prompts come from."""

    dataset: str = "arithmetic"
    """`arithmetic` (generated), `tasks.NAME`, `reasoning_gym:NAME` or `verifiers:ID` (see docs/environments.md), a file (.jsonl, .json,
    .csv, .parquet), a folder saved by `datasets`, or a hub id."""
    subset: str | None = None
    """Configuration name of a hub dataset, such as `main`; of a local folder, the folder in it whose files are read. It goes with the
    dataset that it is named beside: where another dataset is laid over a recipe's, the recipe's subset goes too."""
    split: str = "train"
    """Split to train on. In a folder of files it names the file: `train` finds `train.jsonl`. A single file has no splits."""
    eval_dataset: str | None = None
    """Held-out rows. None: the split `eval_split` if the dataset has it, else rows set aside from the training split."""
    eval_split: str = "test"
    """Split to evaluate on. If it is the training split, and if there is no `test`, rows are set aside; another one must be there."""
    system_prompt: str | None = None
    """Put before every question. `{reasoning_start}` and the other tags are filled in."""
    prompt_column: str | None = None
    """Column with the question, where it is not named `messages`, `prompt`, `question` or `problem`."""
    answer_column: str | None = None
    """Column with the reference, where it is not named `answer` or `solution`. It reaches rewards as `answer`."""
    limit: int | None = None
    """Use only the first so many rows."""
    prompt_quantile: float = 1.0
    """Train only on prompts that are no longer, in tokens, than this quantile of all of them: 0.9 leaves out about the longest tenth, and
    the run says how many. Held-out prompts all stay. 1: none is left out."""
    shuffle: bool = True
    """Draw the prompts of every epoch in a new order (decided by the seed alone)."""
    digits: int = 3
    """Generated arithmetic: digits of each number. Like the other settings of this section, an error where it could do nothing."""
    difficulty: int = 3
    """Generated tasks: from 1, the easiest, to 5."""
    curriculum: bool = False
    """Generated tasks: begin with rows of difficulty 1, and rise to `difficulty` in equal shares. Needs `shuffle = false`."""

    def __post_init__(self) -> None:
        check_finite("data", self)
        require(self.limit is None or self.limit >= 1, "data.limit must be at least 1", self.limit, "Leave it out to use all rows.")
        require(0 < self.prompt_quantile <= 1, "data.prompt_quantile must lie above 0 and not above 1", self.prompt_quantile,
                "0.9 leaves out about the longest tenth of the prompts, 1 none.")
        require(2 <= self.digits <= 9, "data.digits must be between 2 and 9", self.digits, "3 is the default.")
        require(1 <= self.difficulty <= 5, "data.difficulty must be between 1 and 5", self.difficulty, "3 is the default.")
        require(not (self.curriculum and self.shuffle), "data.shuffle must be false with data.curriculum, whose order it would undo",
                self.shuffle, "Leave out one of them.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardsConfig:
    """What is rewarded."""

    functions: tuple[str, ...] = ()
    """Built-in names such as `gsm8k.correctness` or `shaping.overlong(most=512)`; `file.py:function`; `file.py` for every public function
    in it; `grader.json`; `judge.claim(ask="...", deduct=3)` or `criteria.toml`, which ask the model of the section `judge`. Any of them
    with `@task` behind it scores only the rows whose column `task` says so."""
    weights: tuple[float, ...] = ()
    """One weight per function. Empty: all 1. Weight 0 logs a function without training on it."""
    overlap: bool = False
    """Score each group in a thread of its own as soon as it is sampled, while others still are: for rewards that wait (a judge, a
    sandbox, a server). Every function, also one in batch form, is then called once per group instead of once per step, in the order in
    which groups finish, and not in the main thread (so it can set no signal handlers or alarms)."""
    timeout: float = 0.0
    """Run the functions of your own files in a process of their own, and kill it when a call takes more seconds than this: then it is an
    error. 0: in this process, where a call that hangs can only be named."""
    on_error: str = "stop"
    """What becomes of a rollout that a function fails at (it raises, is killed, returns no number): `stop` ends the run, to be mended and
    resumed; `exclude` leaves it out of its group and counts it in `rewards/excluded`."""

    def __post_init__(self) -> None:
        check_finite("rewards", self)
        one_of("rewards.on_error", self.on_error, ("stop", "exclude"))
        require(self.timeout >= 0, "rewards.timeout must be 0 or more seconds", self.timeout, "60 is common; 0 sets none.")
        if self.weights and len(self.weights) != len(self.functions):
            raise ConfigError(
                f"rewards.weights has {len(self.weights)} values for {len(self.functions)} rewards.functions. "
                "Give one weight per function, or none."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutConfig:
    """How the policy is sampled."""

    engine: str = "native"
    """`native` samples with Heron's own engine; `hf` with transformers' `generate`, slow and plain, to compare with; `vllm` with vLLM from
    a copy of the weights (see docs/vllm.md)."""
    vllm_url: str | None = None
    """Of a vLLM server that runs already, for the engine `vllm`. None: vLLM runs in this process."""
    vllm_folder: str | None = None
    """Where adapters are written for that server, under the same path on both sides."""
    num_generations: int = 8
    """Siblings per prompt (G): the group that advantages are relative to."""
    max_completion_length: int = 512
    """Most tokens of one completion. A longer one is cut and counts as truncated."""
    temperature: float = 1.0
    """Divides the logits, for sampling and for the log-probs alike."""
    top_p: float = 1.0
    """Must be 1 while training: a filtered sampler has other log-probs than the loss."""
    max_concurrent: int = 256
    """Most completions that are sampled at once."""
    cache_gib: float = 0.0
    """Most memory for the native engine's keys and values, in GiB. It takes what it needs up to then; beyond, completions wait for each
    other. 0: half of the memory that is free on a CPU, 80 % of it on a GPU. A vLLM in this process takes all of it; 0 leaves it to vLLM."""
    partial_tokens: int = 0
    """Sample at most so many tokens of a completion per step; groups with unfinished siblings go on in the next step, under its weights,
    and are trained when they are complete. For long answers. 0: every completion is finished in its step."""
    resample_zero_signal: int = 0
    """Replace groups whose siblings all earned the same by groups of further prompts (DAPO's dynamic sampling, 2503.14476), in up to so
    many extra rounds of sampling per step; what is still without a signal then stays. 0: every group stays."""

    def __post_init__(self) -> None:
        check_finite("rollout", self)
        one_of("rollout.engine", self.engine, ("native", "hf", "vllm"))
        require(self.vllm_url is None or self.engine == "vllm", "rollout.vllm_url is of use to rollout.engine = 'vllm' alone",
                self.vllm_url, "Set the engine, or leave it out.")
        require(self.vllm_url is None or self.vllm_folder is not None, "rollout.vllm_folder must be set where rollout.vllm_url is",
                self.vllm_folder, "The server reads adapters from this folder, under the same path as here.")
        require(self.vllm_folder is None or self.vllm_url is not None, "rollout.vllm_url must be set where rollout.vllm_folder is",
                self.vllm_url, "Give the address of the server that reads the folder, or leave the folder out.")
        require(self.num_generations >= 2, "rollout.num_generations must be at least 2", self.num_generations,
                 "An answer alone has no group to be better than; 8 is a common choice.")
        require(self.max_completion_length >= 1, "rollout.max_completion_length must be at least 1", self.max_completion_length, "")
        require(self.temperature >= LEAST_TEMPERATURE, f"rollout.temperature must be at least {LEAST_TEMPERATURE}", self.temperature,
                 "Near 0 all siblings are equal and nothing can be learnt; 1.0 is the default.")
        require(self.top_p == 1.0, "rollout.top_p must be 1 while training", self.top_p,
                 "Filtering changes the sampled distribution but not the one in the loss; use rollout.temperature instead.")
        require(self.max_concurrent >= 1, "rollout.max_concurrent must be at least 1", self.max_concurrent, "")
        require(self.cache_gib >= 0, "rollout.cache_gib must not be negative", self.cache_gib, "0 takes a share of the free memory.")
        has_cache = self.engine != "hf" and self.vllm_url is None
        require(self.cache_gib == 0 or has_cache, "rollout.cache_gib is of use to the native engine and to a vLLM in this process alone",
                self.cache_gib, "Leave it out: transformers' generate takes what it needs, and a server has its own setting.")
        require(0 <= self.partial_tokens < self.max_completion_length,
                f"rollout.partial_tokens must lie in [0, rollout.max_completion_length = {self.max_completion_length})",
                self.partial_tokens, "0 finishes every completion in its step.")
        require(self.resample_zero_signal >= 0, "rollout.resample_zero_signal must not be negative", self.resample_zero_signal,
                "It bounds the extra rounds of a step; 3 is a common choice, 0 switches it off.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The loop and the optimizer."""

    max_steps: int = 300
    """Batches of rollouts to train on. Rewards on real models need a few hundred."""
    forever: bool = False
    """Train until a signal, whatever max_steps says, and take rows that are appended to data.dataset, a local file of JSON lines."""
    prompts_per_step: int = 8
    """Groups (B) per step: a step trains on B * num_generations completions."""
    optimizer: str = "adamw"
    """`adamw`; `adamw_8bit` and `paged_adamw_8bit` (moments of 8 bits, from bitsandbytes; paged: they may move to the host's memory);
    `adafactor` (factored moments); `muon` for matrices, with AdamW for the rest; `adamw_kahan`, which can train weights of 16 bits and
    keeps what rounding takes from an update for the next one."""
    offload_optimizer: bool = False
    """Move the optimizer's state to the host's memory while answers are sampled."""
    learning_rate: float = 5e-6
    """Peak step size of AdamW. For LoRA, 1e-5 to 1e-4."""
    lr_scheduler_type: str = "constant"
    """After the warm-up: `constant`, `linear` or `cosine` to 0 at max_steps."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay, on matrices only."""
    adam_beta1: float = 0.9
    """Decay of the gradient's running mean."""
    adam_beta2: float = 0.99
    """Decay of the gradient's running variance."""
    max_grad_norm: float = 1.0
    """The gradient is scaled down to this norm."""
    micro_batch_tokens: int = 8192
    """Packed tokens per forward and backward pass: a memory dial; the gradient does not depend on it."""
    save_steps: int = 100
    """Write a checkpoint every so many steps (and at the end, and on Ctrl-C). 0: only then. It is written beside the training, from a copy
    in the host's memory."""
    term_deadline: float = 20.0
    """Seconds that a SIGTERM leaves the step under way to finish and be saved. Then it is given up, and the steps before it are saved.
    Schedulers commonly kill after 30."""
    save_total_limit: int = 2
    """Keep the newest so many checkpoints."""
    keep_best: str | None = None
    """Keep besides them the checkpoint with the highest `accuracy`, `pass_at_1`, `mean_reward` or `format_rate` on the held-out problems,
    and save after an evaluation that is the best so far. Needs evaluation.steps. None: the newest alone."""
    num_threads: int = 0
    """CPU threads of torch while the run lasts. 0: torch's own choice. A small model loses little with 1 and waits for no busy core."""
    report_to: tuple[str, ...] = ()
    """Trackers that are told the metrics besides the run directory: `csv`, `tensorboard`, `trackio`, `wandb` (docs/tracking.md)."""
    strict: tuple[str, ...] = ()
    """Alerts that stop the run, saved, with exit code 4: ids such as `no-signal`, or `all` (docs/tracking.md lists them)."""
    check_identities: bool = True
    """Stop with exit code 4, saved, where something that must be true of every step is not: masks, versions, weights of tokens, advantages,
    and the sampler's log-probs, which are the trainer's (docs/tracking.md)."""
    dry_step: str = "auto"
    """Take the largest step that these settings allow, and throw it away, before the first one: `on`, `off`, or `auto`, which is on where
    there is a GPU."""
    seed: int = 0
    """Decides everything that is drawn: prompts, samples, new weights."""

    def __post_init__(self) -> None:
        check_finite("train", self)
        for sink in self.report_to:
            one_of("train.report_to", sink, tuple(SINKS))
        for alert in self.strict:
            one_of("train.strict", alert, (EVERY, *CHECKS))
        if self.keep_best is not None:
            one_of("train.keep_best", self.keep_best, HELD_OUT_FIGURES)
        one_of("train.optimizer", self.optimizer, OPTIMIZERS)
        one_of("train.dry_step", self.dry_step, ("auto", "on", "off"))
        one_of("train.lr_scheduler_type", self.lr_scheduler_type, ("constant", "linear", "cosine"))
        require(not self.forever or self.lr_scheduler_type == "constant", "train.lr_scheduler_type must be constant with train.forever: "
                "there is no last step to which the learning rate could fall", self.lr_scheduler_type, "Set it to 'constant'.")
        for name in ("max_steps", "prompts_per_step", "micro_batch_tokens", "save_total_limit"):
            require(getattr(self, name) >= 1, f"train.{name} must be at least 1", getattr(self, name), "")
        for name in ("warmup_steps", "weight_decay", "save_steps", "num_threads"):
            require(getattr(self, name) >= 0, f"train.{name} must not be negative", getattr(self, name), "")
        for name in ("learning_rate", "max_grad_norm", "term_deadline"):
            require(getattr(self, name) > 0, f"train.{name} must be above 0", getattr(self, name), "")
        for name in ("adam_beta1", "adam_beta2"):
            require(0 <= getattr(self, name) < 1, f"train.{name} must lie in [0, 1)", getattr(self, name), "")
        check_seed("train.seed", self.seed)

    @property
    def last_step(self) -> float:
        """The step after which a run is finished."""
        return math.inf if self.forever else self.max_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """Held-out problems, measured before and after with the same sampling."""

    size: int = 64
    """Held-out problems. 0 switches evaluation off."""
    samples: int = 4
    """Sampled answers per problem, for pass@1 and its confidence interval. 0: greedy only."""
    steps: int = 0
    """Evaluate every so many steps besides before and after. 0: never in between."""
    verifier: str = "number"
    """Decides right or wrong: a built-in name (see `heron.rewards.verifiers`) or `file.py:function`."""
    show: int = 3
    """Questions shown side by side, before and after."""

    def __post_init__(self) -> None:
        check_finite("evaluation", self)
        for name in ("size", "samples", "steps", "show"):
            require(getattr(self, name) >= 0, f"evaluation.{name} must not be negative", getattr(self, name), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One run, whole. Made by `heron.config.load_config`; frozen from then on."""

    recipe: str = "custom"
    """Name of the recipe or file that it came from."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Which weights are trained, and how much of them."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where prompts come from."""
    tags: Tags = field(default_factory=Tags)
    """How a completion marks its reasoning and its answer."""
    rewards: RewardsConfig = field(default_factory=RewardsConfig)
    """What is rewarded."""
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    """What answers the model's turns."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """How the policy is sampled."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """What is optimised."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The loop and the optimizer."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Held-out problems, measured before and after."""
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    """Supervised start: the embedded model's, or of any model on the demonstrations of a dataset."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """Who judges, where a reward function asks a model."""

    def __post_init__(self) -> None:
        steps, prompts = self.objective.num_minibatches, self.train.prompts_per_step
        require(prompts % steps == 0, f"objective.num_minibatches must divide train.prompts_per_step = {prompts}", steps,
                "Every optimizer step of a pass trains on as many prompts.")
        rows, size = prompts // steps * self.rollout.num_generations, self.objective.rows_per_micro_batch
        require(size is None or rows % size == 0, f"objective.rows_per_micro_batch must divide the {rows} rollouts of an optimizer step",
                size, "TRL asks for the same.")
        is_measured = self.evaluation.size > 0 and self.evaluation.steps > 0
        require(self.train.keep_best is None or is_measured, "train.keep_best needs evaluations between the steps: evaluation.steps and "
                "evaluation.size above 0", self.train.keep_best, "Set --evaluation.steps=50, say, or leave it out.")
        samples = self.evaluation.samples
        require(self.train.keep_best != "pass_at_1" or samples > 0, "train.keep_best = 'pass_at_1' needs evaluation.samples above 0",
                samples, "4 is the default.")
        is_plain = self.model.method != "qlora" and not self.model.use_dora
        require(is_plain or self.rollout.engine != "vllm", "rollout.engine must not be 'vllm' where model.method is 'qlora' or "
                "model.use_dora is set: vLLM samples from a 16-bit base with a plain adapter, another model than the one that is trained",
                self.rollout.engine, "Use the native engine.")
        if self.judge.name == START and self.judge.url is None:
            is_kept = (self.model.has_adapter and self.model.adapter is None) or self.objective.beta > 0
            require(is_kept, "judge.name = 'start' needs the start's weights in memory: a new adapter (model.method = 'lora'), or "
                    "objective.beta above 0", self.model.method, "Or name a model's folder or a server.")
            require(not self.rewards.overlap, "judge.name = 'start' samples from the weights that are trained, so rewards.overlap must be "
                    "false", self.rewards.overlap, "Leave it out.")
        if self.rollout.partial_tokens:
            advice = "Leave out rollout.partial_tokens, or this."
            require(self.environment.name == "single_turn", "environment.name must be 'single_turn' with rollout.partial_tokens: a "
                    "conversation cannot be paused", self.environment.name, advice)
            require(steps == 1, "objective.num_minibatches must be 1 with rollout.partial_tokens, whose steps differ in size", steps,
                    advice)
            require(not self.rollout.resample_zero_signal, "rollout.resample_zero_signal must be 0 with rollout.partial_tokens, whose "
                    "groups are complete when it is too late for others", self.rollout.resample_zero_signal, advice)
            require(size is None, "objective.rows_per_micro_batch must be left out with rollout.partial_tokens, whose steps differ in "
                    "size", size, advice)

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, None left out: what is written to a run's `config.toml`."""
        from dataclasses import asdict

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items() if item is not None}
            return list(value) if isinstance(value, tuple) else value

        return dict(plain(asdict(self)))
