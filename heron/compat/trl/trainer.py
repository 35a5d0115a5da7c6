"""`GRPOTrainer` as TRL has it, over a run of Heron's.

The one hard idea: nothing of the loop is here. The arguments are written down as files and settings (`starting`, `inputs`, `config`), the
reward functions get TRL's arguments (`scoring`), a listener tells callbacks and keeps the history (`following`), and `heron.training`
trains. A model that was given as a module shares its tensors with the one that is trained, so it is trained when `train()` returns.

Left out: what TRL's trainer inherits for other purposes (predict, hyperparameter search, the hub): such a name is an AttributeError that
says what to use.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from heron.compat.trl import inputs
from heron.compat.trl.beyond import BEYOND, MADE, unheeded
from heron.compat.trl.config import TAGS, GRPOConfig
from heron.compat.trl.drawing import check_endings
from heron.compat.trl.episodes import PLACEHOLDER, Episodes, only_factory
from heron.compat.trl.following import Follower, State, checked
from heron.compat.trl.measuring import measured
from heron.compat.trl.places import files_of, new_folders, newest_run, run_of, settings_since, unfinished_run
from heron.compat.trl.reporting import metric_lines, write_metrics, write_state
from heron.compat.trl.scoring import reward_pairs
from heron.compat.trl.starting import Prepared, Start, share_tensors
from heron.config import Config, config_from_dict
from heron.environments.making import FROM_PYTHON, given
from heron.errors import ConfigError, DataError, RunError
from heron.models.loading import find_device
from heron.run import Run, TerminalView
from heron.training.assemble import assemble, reassemble
from heron.types import Tags


class TrainOutput(NamedTuple):
    """What `train()` returns."""

    global_step: int
    training_loss: float
    metrics: dict[str, float]


class GRPOTrainer:
    """Trains a model on the answers that it gives. Arguments as in TRL 1.16; what cannot be honoured is a ConfigError."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for name, text in unheeded(vars(cls)).items():
            raise ConfigError(f"{cls.__name__} overrides {name}, which is never called here. {text}")

    def __init__(
        self, model: Any, reward_funcs: Any = None, args: GRPOConfig | None = None, train_dataset: Any = None, eval_dataset: Any = None,
        processing_class: Any = None, reward_processing_classes: Any = None, callbacks: Sequence[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None), quantization_config: Any = None, peft_config: Any = None,
        tools: Sequence[Callable[..., Any]] | None = None, rollout_func: Any = None, environment_factory: Any = None,
    ) -> None:
        _refuse(args, optimizers, rollout_func)
        self.args = GRPOConfig() if args is None else args
        self._trainer: Any = None
        self._view: TerminalView | None = None
        self._dataset = train_dataset
        self._rewards = (reward_funcs, reward_processing_classes)
        factory = only_factory(environment_factory)
        asks = train_dataset is None and factory is not None
        if asks:
            train_dataset = _placeholders(self.args)
        self._rows = inputs.rows_of(train_dataset, what="train_dataset", most=_needed(self.args, train_dataset))
        self._train_rows = inputs.prompt_rows(self._rows, "train_dataset")
        self._start = Start(
            model=model, tokenizer=processing_class, peft=peft_config, quantization=quantization_config, args=self.args,
            plain=inputs.is_plain(self._rows, "train_dataset"),
        )
        self._is_stream = not inputs.has_length(train_dataset)
        self.state = State(
            max_steps=self.args.steps_of(None if self._is_stream else len(self._train_rows)), logging_steps=self.args.logging_steps,
            num_train_epochs=self.args.num_train_epochs,
        )
        self._evals = self._read_evals(eval_dataset)
        self._follower = Follower(
            callbacks or (), self.args, self.state, per_epoch=self.args.steps_per_epoch(len(self._train_rows)), keywords=self._keywords,
            stop=self._stop, evaluate=self.evaluate,
        )
        self._episodes = Episodes(
            tools or (), factory, rows=self._rows, max_calls=self.args.max_tool_calling_iterations, tags=Tags(**TAGS), asks=asks,
        ) if tools or factory is not None else None
        if self._episodes is not None and self._start.plain:
            raise ConfigError("Tools are told by a chat template, so prompts must be conversations: [{'role': 'user', 'content': ...}].")
        if self._episodes is not None:
            _say_of_tools(has_environment=factory is not None)
        self._config(Path())  # an error now rather than after the model is loaded
        self._follower.tell("on_init_end")

    def train(self, resume_from_checkpoint: str | Path | bool | None = None) -> TrainOutput:
        """Train to the end, or until a callback stops it. True goes on with the newest run of `output_dir`, a path with that one."""
        if resume_from_checkpoint:
            self._resume(None if resume_from_checkpoint is True else Path(resume_from_checkpoint))
        elif self._trainer is not None and self._trainer.state.step:
            raise RunError(f"{self.run_dir} was trained already. Make another GRPOTrainer for another run; train() with "
                           "resume_from_checkpoint=True goes on with an interrupted one.")
        trainer = self._assembled()
        self._follower.begin()
        with self._view or contextlib.nullcontext():
            trainer.train()
        metrics = self._follower.end()
        return TrainOutput(self.state.global_step, metrics["train_loss"], metrics)

    def evaluate(self, eval_dataset: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Mean rewards and lengths of answers to the held-out prompts, sampled as in training."""
        sets = self._evals if eval_dataset is None else self._read_evals(eval_dataset)
        if not sets:
            raise ConfigError("There is no eval_dataset. Give one to GRPOTrainer, or to evaluate().")
        found: dict[str, float] = {}
        for name, rows in sets.items():
            prefix = f"{metric_key_prefix}_{name}" if name else metric_key_prefix
            found |= {f"{prefix}_{metric}": value for metric, value in measured(self._assembled(), rows, self.args).items()}
        self._follower.log(found)
        self._follower.tell("on_evaluate", metrics=found)
        return found

    def save_model(self, output_dir: str | Path | None = None) -> None:
        """Weights (or the adapter, in PEFT's layout) and tokenizer."""
        self._assembled().policy.save(Path(output_dir or self._output))

    def add_callback(self, callback: Any) -> None:
        """One more."""
        self._follower.callbacks.append(checked(callback))

    def pop_callback(self, callback: Any) -> Any:
        """The first one that is this one, or of this class; it hears nothing more. None, with a warning, if there is none."""
        return self._follower.pop(callback)

    def remove_callback(self, callback: Any) -> None:
        """The same, without handing it out."""
        self._follower.pop(callback)

    def log_metrics(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Print them, as transformers does."""
        print("\n".join(metric_lines(split, metrics)))

    def save_metrics(self, split: str, metrics: Mapping[str, Any], combined: bool = True) -> None:
        """Into `<split>_results.json` and `all_results.json` of `output_dir`."""
        write_metrics(self._output, split, metrics, combined=combined)

    def save_state(self) -> None:
        """The history, into `trainer_state.json` of `output_dir`; what a run goes on from is in its own folder."""
        write_state(self._output, self.state)

    def is_world_process_zero(self) -> bool:
        """True: there is one process."""
        return True

    is_local_process_zero = is_world_process_zero

    def push_to_hub(self, *_: Any, **__: Any) -> None:
        """Refused: nothing is uploaded from here."""
        raise ConfigError(f"Nothing is uploaded from here. Write a folder with `heron export {self.run_dir or 'RUN'} --out DIR`, look at "
                          "its README.md, and upload it with `hf upload NAME DIR`.")

    @property
    def model(self) -> Any:
        """The model that is trained: the module that was given, or the one that was loaded."""
        is_same = self._start.is_module and self._start.peft is None
        return self._start.model if is_same or isinstance(self._start.model, Prepared) else self._assembled().policy.model

    @property
    def processing_class(self) -> Any:
        """The tokenizer."""
        return self._assembled().policy.tokenizer

    @property
    def train_dataset(self) -> Any:
        """As it was given."""
        return self._dataset

    @property
    def run_dir(self) -> Path | None:
        """Where the run is recorded, for `heron ui`, `heron doctor`, `heron export`; None before it is begun."""
        return None if self._trainer is None else Path(self._trainer.run.path)

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):
            return object.__getattribute__(self, name)  # a property failed: its own error
        raise AttributeError(f"{type(self).__name__} has no {name!r}. {BEYOND.get(name, MADE)}")

    @property
    def _output(self) -> Path:
        """`output_dir`, wherever the process is by then: the settings of a run name its files so that they are found from anywhere."""
        return Path(self.args.output_dir).expanduser().resolve()

    def _read_evals(self, dataset: Any) -> dict[str, list[dict[str, Any]]]:
        """Held-out rows by the set's name, as a file would hold them; their values join those of the others."""
        if dataset is None:
            return {}
        found = {}
        for name, each in (dataset if isinstance(dataset, Mapping) else {"": dataset}).items():
            rows = inputs.rows_of(each, what="eval_dataset")
            if inputs.is_plain(rows, "eval_dataset") != self._start.plain:
                raise DataError("The prompts of train_dataset and eval_dataset are of two kinds: texts, and conversations.")
            found[str(name)] = inputs.prompt_rows(rows, "eval_dataset", first=len(self._rows))
            self._rows += rows
        return found

    def _config(self, folder: Path) -> Config:
        """The run's, of which the files are in `folder`."""
        sections = self.args.settings(max_steps=self.state.max_steps)
        sections["model"] = {**sections.get("model", {}), **self._start.settings(folder)}
        sections["data"] = {
            "dataset": str(folder / "train.jsonl"), "prompt_column": "prompt",
            "shuffle": self.args.shuffle_dataset and not self._is_stream,
        }
        if self._episodes is not None:
            sections["environment"] = {"name": FROM_PYTHON}
        sections |= {"evaluation": {"size": 0}, "tags": TAGS}
        given = {section: {key: value for key, value in values.items() if value is not None} for section, values in sections.items()}
        return config_from_dict({"recipe": "trl", **given}, "GRPOConfig")

    def _assembled(self) -> Any:
        """The trainer of a new run, made when it is first needed."""
        if self._trainer is None:
            _say_of_unfinished(self._output)
            run_dir, folder = new_folders(self._output)
            inputs.write_rows(folder / "train.jsonl", self._train_rows)
            self._start.write(folder)
            self._start.release()
            config = self._config(folder)
            with given(self._episodes):
                trainer = assemble(config, run_dir, rewards=self._pairs(config), listeners=self._listeners())
            self._take(trainer)
        return self._trainer

    def _resume(self, path: Path | None) -> None:
        """The trainer of an interrupted run, of the same rows and settings."""
        run_dir = newest_run(self._output) if path is None else run_of(path.expanduser().resolve())
        folder = files_of(run_dir)
        config, record = self._config(folder), Run(run_dir)
        settings = settings_since(config, record)
        if (folder / "train.jsonl").read_text(encoding="utf-8") != inputs.as_lines(self._train_rows):
            raise DataError(f"train_dataset is another one than {run_dir} began with. Give the same rows in the same order.")
        with given(self._episodes):
            trainer = reassemble(run_dir, settings=settings, rewards=self._pairs(config), listeners=self._listeners())
        self._take(trainer)
        self._follower.recall([metrics for metrics in record.metrics() if metrics["step"] <= trainer.state.step])

    def _take(self, trainer: Any) -> None:
        """From now on this is what is trained."""
        self._trainer = trainer
        check_endings(self.args.vllm_sampling_params, trainer.policy.tokenizer, trainer.policy.end_ids)
        _check_lengths(trainer, self.args.max_prompt_length)
        if isinstance(self._start.model, Prepared):
            self._start.model.adopt(trainer)
        elif self._start.is_module:
            share_tensors(self._start.model, trainer.policy)

    def _pairs(self, config: Config) -> list[Any]:
        functions, tokenizers = self._rewards
        return reward_pairs(
            functions, self.args.reward_weights, tokenizers, rows=self._rows, state=self.state,
            arguments=self.args.model_init_kwargs or {}, device=str(find_device(config.model.device)), episodes=self._episodes,
        )

    def _listeners(self) -> list[Any]:
        self._view = None if self.args.disable_tqdm else TerminalView()
        return [self._follower] if self._view is None else [self._view, self._follower]

    def _keywords(self) -> dict[str, Any]:
        """What callbacks are given besides, once it is there."""
        if self._trainer is None:
            return {}
        return {"model": self.model, "processing_class": self._trainer.policy.tokenizer, "optimizer": self._trainer.updater.optimizer}

    def _stop(self) -> None:
        """End the training after this step."""
        if self._trainer is not None:
            self._trainer.stop.ask()


def _say_of_unfinished(output: Path) -> None:
    """A script that looks for folders named checkpoint-N finds none, and would begin anew without a word."""
    if unfinished := unfinished_run(output):
        warnings.warn(f"{unfinished} was not finished, and a new run begins beside it. train(resume_from_checkpoint=True) goes on with it "
                      "(get_last_checkpoint of transformers does not find it).", stacklevel=4)


def _say_of_tools(*, has_environment: bool) -> None:
    """What is other than in TRL where answers call tools."""
    states = " Siblings begin in one state: reset() is called once for a prompt, and what it set is copied." if has_environment else ""
    warnings.warn("With tools, max_completion_length limits each answer of a rollout, where TRL limits all of them together." + states,
                  stacklevel=3)


def _refuse(args: Any, optimizers: tuple[Any, Any], rollout_func: Any) -> None:
    """Arguments that there is nothing for here."""
    if args is not None and not isinstance(args, GRPOConfig):
        raise ConfigError(f"args must be a heron.compat.trl.GRPOConfig, but it is a {type(args).__module__}.{type(args).__name__}. Change "
                          "that import too.")
    if any(each is not None for each in optimizers):
        raise ConfigError("optimizers cannot be given: the optimizer is made for the run, so that it can be resumed. Choose one with "
                          "GRPOConfig(optim=..., learning_rate=..., lr_scheduler_type=...).")
    if rollout_func is not None:
        raise ConfigError("rollout_func is not called: answers are sampled by the weights that are trained. What replies to them is an "
                          "environment_factory or tools.")


def _needed(args: GRPOConfig, dataset: Any) -> int | None:
    """Rows that a stream is read for; None for a dataset with a length."""
    if dataset is None:
        raise ConfigError("train_dataset is None. Give a dataset with a column 'prompt'.")
    if inputs.has_length(dataset):
        return None
    return -(-args.steps_of(None) // args.optimizer_steps_per_batch) * args.prompts_per_batch


def _placeholders(args: GRPOConfig) -> list[dict[str, Any]]:
    """Rows for an environment that asks by itself: as many as one batch of rollouts has prompts."""
    if args.max_steps <= 0:
        raise ConfigError("max_steps must be given where the environment asks by itself, as in TRL: GRPOConfig(max_steps=...).")
    return [{"prompt": [{"role": "user", "content": PLACEHOLDER}]} for _ in range(args.prompts_per_batch)]


def _check_lengths(trainer: Any, most: int | None) -> None:
    """No prompt is cut, so one that is longer than it may be is refused."""
    if most is None:
        return
    for prompt in trainer.prompts:
        if (tokens := len(trainer.policy.render(prompt.messages))) > most:
            raise DataError(f"The prompt {prompt.id} has {tokens} tokens, more than max_prompt_length={most}. Prompts are never cut here: "
                            "leave the row out, or raise max_prompt_length.")
