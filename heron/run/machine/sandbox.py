"""What holds programs that a model wrote. It is tried, not guessed: a program is run that tries to get out."""

from __future__ import annotations

from heron.errors import SandboxError
from heron.run.machine.fact import Fact


def sandbox_facts() -> list[Fact]:
    """The backend that `auto` takes here."""
    from heron.sandbox import backend_name

    try:
        name = backend_name()
    except SandboxError as reason:
        return [Fact(group="sandbox", name="sandbox", words="none holds here; only rewards that run programs need one", advice=str(reason))]
    return [Fact(group="sandbox", name="sandbox", words=f"{name} (what it stops, and what not: heron sandbox status)", data=name)]
