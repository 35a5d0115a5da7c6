"""`heron sandbox status`, `heron sandbox selftest`: what holds programs that a model wrote, here, on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="What holds programs that a model wrote, on this machine.", no_args_is_help=True)


@app.command()
def status() -> None:
    """Say which backend is taken here, what it stops and what not, and why the others are not."""
    from heron.errors import SandboxError
    from heron.sandbox import backend_name
    from heron.sandbox.backends import BACKENDS
    from heron.sandbox.choosing import why_not

    try:
        typer.echo(f"auto takes: {backend_name()}")
    except SandboxError as error:
        typer.echo(f"auto takes: nothing. {error}")
    for backend in BACKENDS.values():
        problem = why_not(backend.name)
        typer.echo(f"\n{backend.name}: {'works here' if problem is None else problem}")
        for label, points in (("stops", backend.holds), ("does NOT stop", backend.leaves)):
            typer.echo(f"  {label}:" + "".join(f"\n    - {point}" for point in points))


@app.command()
def selftest(
    backend: Annotated[str, typer.Option(help="auto, bubblewrap, landlock, or unsafe-rlimit.")] = "auto",
) -> None:
    """Run hostile programs in the sandbox, about a minute; exit code 1 if one gets out."""
    from heron.sandbox import backend_name
    from heron.sandbox.attacks import ATTACKS, OUTWARD
    from heron.sandbox.backends import AUTOMATIC, BACKENDS
    from heron.sandbox.selftest import selftest as run_attacks

    name = backend_name(backend)
    is_safe = BACKENDS[name] in AUTOMATIC
    attacks = [attack for attack in ATTACKS if is_safe or attack.name not in OUTWARD]
    escaped = 0
    for outcome in run_attacks(name, attacks):
        escaped += bool(outcome.problem)
        verdict = f"GOT OUT: {outcome.problem}" if outcome.problem else "held"
        typer.echo(f"{outcome.attack:<26}{outcome.result.status.value:<10}{outcome.result.seconds:6.2f} s  {verdict}")
    typer.echo(f"{name}: {len(attacks) - escaped} of {len(attacks)} attacks held")
    if escaped:
        raise typer.Exit(1)
