"""`heron serve --engine vllm`: which base a run needs, and which options go together.

The one hard idea: this server is not for what a run came to but for a run that is to come. It holds the model that training starts from,
in the trainer's dtype, and the trainer pushes the rest; what could not be pushed later is refused before the half minute that vLLM
takes to start. Left out: models that vLLM does not know; it says so itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from heron.config import load_config
from heron.config.checks import one_of
from heron.config.model import DTYPES
from heron.engine.vllm.in_process import check_installed
from heron.engine.vllm.launch import Settings, run_server
from heron.engine.vllm.server import PROBE_LENGTH
from heron.errors import ConfigError, ModelError
from heron.models.locating import locate
from heron.run import Run
from heron.serving.address import check_address, is_loopback

LORA_RANK = 16
"""Of a server that no run asks for another, as in the config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The model that a server is started on."""

    model: str
    """Folder or hub id."""
    dtype: str = "auto"
    """As a run's config has it; `auto` is the checkpoint's own."""
    revision: str | None = None
    """Of a hub id."""
    run_rank: int | None = None
    """Rank of the run's adapter, 0 where it trains every weight; None for a model that belongs to no run."""


def serve_vllm(
    source: str, *, host: str = "127.0.0.1", port: int = 8000, token: str | None = None, dtype: str = "auto",
    max_model_len: int | None = None, lora_rank: int | None = None, full: bool = False, cache_gib: float | None = None,
) -> int:
    """Start vLLM's server on a model, or on the one that a run started from, and run it until it ends. Returns its exit code.

    Args:
        source: run directory, model folder or hub id.
        host: address to listen on; another than loopback needs a token.
        port: port to listen on.
        token: clients must send it as `Authorization: Bearer TOKEN`.
        dtype: of the weights; `auto` takes the run's, or the checkpoint's own.
        max_model_len: most tokens of a prompt with its answer; None for the model's context.
        lora_rank: largest adapter that can be pushed, 0 for none; None takes the run's, else 16, or 0 where `full` is set.
        full: let a run replace every weight.
        cache_gib: memory for keys and values in GiB; None leaves it to vLLM, on a CPU 1 GiB.
    """
    check_address(host, port, token)
    _check_options(host, port, max_model_len, cache_gib)
    one_of("--dtype", dtype, DTYPES)
    base = base_of(source)
    rank = chosen_rank(base, lora_rank, full=full, host=host)
    check_installed()
    settings = Settings(
        model=base.model, revision=base.revision, host=host, port=port, token=token, max_model_len=max_model_len, cache_gib=cache_gib,
        lora_rank=rank, takes_weights=full, dtype=chosen_dtype(base, dtype),
    )
    return run_server(settings)


def base_of(source: str) -> Base:
    """What training starts from: a run's start, or the model itself."""
    path = Path(source).expanduser()
    if (path / "run.json").is_file():
        model = load_config(path / "config.toml").model
        rank = model.lora_rank if model.has_adapter else 0
        start = locate(Run(path).start_model)
        return Base(model=start, dtype=model.dtype, revision=None if Path(start).is_dir() else model.revision, run_rank=rank)
    if (path / "adapter_config.json").is_file():
        adapter = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        raise ModelError(f"{source} is an adapter. vLLM is started on the base, and a run pushes its own adapter: give "
                         f"{adapter['base_model_name_or_path']} --lora-rank {adapter['r']}.")
    return Base(model=locate(source))


def chosen_rank(base: Base, given: int | None, *, full: bool, host: str) -> int:
    """The largest adapter, 0 for none. ConfigError where no run, or not this run, could push what it trains."""
    if full and not is_loopback(host):
        raise ConfigError(f"--full lets whoever reaches the server replace its weights, with or without the token, but host {host} can be "
                          "reached from other machines. Listen on 127.0.0.1 (a tunnel, such as ssh -L, leads there), or train an adapter.")
    if base.run_rank == 0 and not full:
        raise ConfigError("This run trains every weight (model.method is full), which vLLM takes only where it is told so. Add --full: it "
                          "lets every program on this machine replace the server's weights.")
    if base.run_rank and full:
        raise ConfigError("This run trains an adapter (model.method is lora), so --full would open the server's weights for nothing. "
                          "Leave it out.")
    if given is not None and given < (base.run_rank or 0):
        raise ConfigError(f"This run's adapter has rank {base.run_rank}, so --lora-rank must be at least that, but it is {given}. Leave "
                          "it out to take the run's.")
    if given == 0 and not full:
        raise ConfigError("With --lora-rank 0 and without --full, no run could push its weights. Leave out the one or add the other.")
    return given if given is not None else (base.run_rank or (0 if full else LORA_RANK))


def chosen_dtype(base: Base, given: str) -> str:
    """As given, as the run has it, or the checkpoint's own, which the trainer keeps. vLLM by itself would round float32 to 16 bits."""
    wanted = base.dtype if given == "auto" else given
    return _own_dtype(base) if wanted == "auto" else wanted


def _own_dtype(base: Base) -> str:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(base.model, revision=base.revision)
    except Exception as error:  # boundary: transformers raises many kinds for a bad folder or an unreachable hub
        raise ModelError(f"No model config could be read from {base.model!r}: {error}") from error
    dtype = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
    if dtype is None:
        raise ConfigError(f"The config.json of {base.model} does not say its dtype. Give the trainer's with --dtype.")
    return str(dtype).removeprefix("torch.")


def _check_options(host: str, port: int, max_model_len: int | None, cache_gib: float | None) -> None:
    if port == 0:
        raise ConfigError("--port 0 takes any free port, but a run must know which one vLLM has. Name it.")
    if max_model_len is not None and max_model_len <= PROBE_LENGTH:
        raise ConfigError(f"--max-model-len must be at least {PROBE_LENGTH + 1}, but it is {max_model_len}: so long is the probe that "
                          "compares vLLM with the trainer after every push. Leave it out for the model's context.")
    if cache_gib is not None and not 0 < cache_gib < float("inf"):
        raise ConfigError(f"--cache-gib must be a number above 0, but it is {cache_gib}. Leave it out for vLLM's own choice.")
