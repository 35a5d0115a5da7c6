"""`heron eval`, `heron chat`, `heron export`, `heron serve`: what a run's model is good for."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]


def evaluate(
    run_dir: RunDir,
    start: Annotated[bool, typer.Option("--start", help="Measure the model that training started from.")] = False,
    size: Annotated[int | None, typer.Option(min=1, help="Held-out problems. Default: the run's.")] = None,
    samples: Annotated[int | None, typer.Option(min=0, help="Sampled answers per problem. Default: the run's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the totals as JSON.")] = False,
) -> None:
    """Measure a run's model on problems that it was not trained on."""
    import json

    from heron import api
    from heron.cli.show import print_totals

    _, totals = api.evaluate(run_dir, start=start, size=size, samples=samples)
    if as_json:
        typer.echo(json.dumps(totals))
    else:
        print_totals("start" if start else "trained", totals)


def chat(
    run_dir: RunDir,
    question: Annotated[str | None, typer.Argument(help="Ask this and end; otherwise questions are read line by line.")] = None,
    compare: Annotated[str | None, typer.Option(help="`start`: also show what the model answered before training.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer. Default: the run's.")] = None,
) -> None:
    """Talk to a run's model. Questions that are given or piped in stand alone, as in training; those that are typed are a conversation."""
    from heron.cli.show import print_answer
    from heron.cli.talk import check_readable
    from heron.errors import ConfigError, did_you_mean
    from heron.run import Run
    from heron.serving.conversation import Conversation

    if compare not in (None, "start"):
        raise ConfigError(f"--compare must be `start`, but it is {compare!r}.{did_you_mean(compare or '', ['start'])}")
    if question is not None:
        check_readable(question)
    run = Run(run_dir)
    names = ["start", "trained"] if compare else ["trained"]
    models = {
        name: Conversation.of_run(run, start=name == "start", temperature=temperature, max_tokens=max_tokens) for name in names
    }
    if isinstance(sys.stdin, io.TextIOWrapper):  # bytes that are no text come through, for `check_readable` to find
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    if question is None and sys.stdin.isatty():
        _talk(models)
        return
    for asked in [question] if question is not None else _piped():
        check_readable(asked)
        for name, model in models.items():
            print_answer(name, model.ask(asked))


def _talk(models: Mapping[str, Any]) -> None:
    from rich.console import Console

    from heron.cli.talk import Talk

    def read() -> str | None:
        try:
            return input("you: ")
        except EOFError:
            return None

    Talk(models, Console(highlight=False)).run(read)


def _piped() -> Iterable[str]:
    """Questions, line by line."""
    return (line.strip() for line in sys.stdin if line.strip())


def export(
    run_dir: RunDir,
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist yet.")],
    format: Annotated[
        str, typer.Option(help="`hf`: a Hugging Face model, adapter merged; `adapter`: it alone, for PEFT; `gguf`: for llama.cpp.")
    ] = "hf",
    dtype: Annotated[str | None, typer.Option(help="hf: bfloat16, float16 or float32. Default: bfloat16.")] = None,
    quantization: Annotated[
        str | None, typer.Option(help="gguf: f32, f16, bf16, q8_0; or q4_k_m and others, made by llama.cpp's tool. Default: q8_0.")
    ] = None,
    push: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Upload the checked folder there, private.")] = None,
    public: Annotated[bool, typer.Option("--public", help="push: everybody may see it.")] = False,
) -> None:
    """Write a run's model for others to use, read it again, and compare its answers; with tokenizer, template and model card."""
    from heron.errors import ConfigError
    from heron.export import export as write
    from heron.export import pushing

    if public and push is None:
        raise ConfigError("--public says who sees what --push uploads. Add --push OWNER/NAME, or leave it out.")
    if push is not None:
        pushing.check_repository(push)
    written = write(run_dir, out, format=format, dtype=dtype, quantization=quantization)
    typer.echo(f"wrote {written.folder}: {written.agreement.sentence}")
    for note in written.notes:
        typer.echo(f"note: {note}")
    if push is not None:
        typer.echo(f"pushed {pushing.push(written.folder, push, public=public)}")


def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run directory, or a model folder; for vllm also a hub id.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    token: Annotated[str | None, typer.Option(help="Clients must send it as a bearer token. Required beyond this machine.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File that holds the token: on the command line, everyone on this machine can read it.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="`native` answers with a run's trained model; `vllm` starts vLLM's server for runs to push weights into.")
    ] = "native",
    dtype: Annotated[str | None, typer.Option(help="vllm: of the weights. Default: the run's, or the checkpoint's own.")] = None,
    max_model_len: Annotated[
        int | None, typer.Option(help="vllm: most tokens of a prompt with its answer. Default: the model's context.")
    ] = None,
    lora_rank: Annotated[int | None, typer.Option(min=0, help="vllm: largest adapter; 0 for none. Default: the run's, or 16.")] = None,
    full: Annotated[bool, typer.Option("--full", help="vllm: take every weight of a run, not adapters. On this machine only.")] = False,
    cache_gib: Annotated[
        float | None, typer.Option(help="Memory for keys and values. Default: half of what is free (80 % on a GPU); vllm: its own.")
    ] = None,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="native: answers in the making at once. Default: 64.")] = None,
    max_waiting: Annotated[int | None, typer.Option(min=0, help="native: further answers that may wait. Default: 256.")] = None,
) -> None:
    """Serve a model with an OpenAI-compatible interface."""
    from heron.config.checks import one_of
    from heron.errors import ConfigError
    from heron.serving.address import token_in

    one_of("--engine", engine, ("native", "vllm"))
    if token_file is not None:
        if token is not None:
            raise ConfigError("--token and --token-file were both given. Leave one of them out.")
        token = token_in(token_file)
    shared = {"host": host, "port": port, "token": token, **_given(cache_gib=cache_gib)}
    vllm = _given(dtype=dtype, max_model_len=max_model_len, lora_rank=lora_rank, full=full or None)
    native = _given(max_concurrent=max_concurrent, max_waiting=max_waiting)
    _refuse_options_of("native" if engine == "vllm" else "vllm", native if engine == "vllm" else vllm)
    if engine == "vllm":
        _serve_vllm(model, **shared, **vllm)
        return
    from heron.serving import serve as run_server

    run_server(model, **shared, **native)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _serve_vllm(model: str, **options: Any) -> None:
    from heron.serving.vllm import serve_vllm

    if code := serve_vllm(model, **options):
        raise typer.Exit(code)


def _refuse_options_of(engine: str, given: Iterable[str]) -> None:
    from heron.errors import ConfigError

    names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    if names:
        raise ConfigError(f"{names} is of use to --engine {engine} alone. Add it, or leave {names} out.")
