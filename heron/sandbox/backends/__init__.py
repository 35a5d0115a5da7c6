"""What can hold a program, in the order in which `auto` tries; the last is taken by name only."""

from heron.sandbox.backends.backend import Backend, Walls
from heron.sandbox.backends.bubblewrap import BUBBLEWRAP
from heron.sandbox.backends.landlock import LANDLOCK
from heron.sandbox.backends.unsafe_rlimit import UNSAFE_RLIMIT

AUTOMATIC = (BUBBLEWRAP, LANDLOCK)
BACKENDS = {backend.name: backend for backend in (*AUTOMATIC, UNSAFE_RLIMIT)}

__all__ = ["AUTOMATIC", "BACKENDS", "Backend", "Walls"]
