"""How a clean interpreter is started, and which files it needs.

The hard idea: the interpreter that runs us belongs to an environment full of packages and start-up files, which a program must neither
see nor change. So the one beneath it is started, isolated (`-I`), without site packages (`-S`), and this room's files are given to it as
a package of their own: nothing of `heron` outside of `heron.sandbox` is imported there.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from pathlib import Path
from types import CodeType

ROOM = Path(__file__).resolve().parent
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": ".", "TMPDIR": ".", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
"""Of a program: nothing of ours, no tokens, no paths; its folder is where it is. One thread, since more count as processes."""
_SERVER = """
import sys, types
for name, path in (("heron", []), ("heron.sandbox", [{room!r}])):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = path
from heron.sandbox.server import main
main()()
"""
_WITHIN = """
import marshal, sys
with open(int(sys.argv[1]), "rb") as file:
    order = marshal.load(file)
for name, code in order["modules"]:
    sys.modules[name] = type(sys)(name)
    exec(code, sys.modules[name].__dict__)
sys.modules["heron.sandbox.inside"].give_up_rights(order)
sys.modules["heron.sandbox.program"].Program(order)()
"""


def server_command(*arguments: str) -> list[str]:
    """Starts `server`, which finds this room's files and no other of Heron's."""
    return [*_isolated(), _SERVER.format(room=str(ROOM)), *arguments]


def command_within(order: str) -> list[str]:
    """Starts a program within walls that a command has made: no file of ours is there, so the order brings the code that it needs."""
    return [*_isolated(), _WITHIN, order]


def modules_within(with_calls: bool) -> list[tuple[str, CodeType]]:
    """That code, compiled here, since every program would pay for it."""
    names = ["inside", "program", *(["values", "calls"] if with_calls else [])]
    return [(f"heron.sandbox.{name}", _code(name)) for name in names]


@functools.cache
def _code(name: str) -> CodeType:
    path = ROOM / f"{name}.py"
    return compile(path.read_bytes(), str(path), "exec", dont_inherit=True)


def executable() -> str:
    """The interpreter itself, past the links of an environment."""
    return os.path.realpath(sys.executable)


def readable_paths() -> list[str]:
    """Folders and files that an interpreter reads: the system's libraries, its own, itself; none that lies in another one."""
    system = ["/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/etc/ld.so.cache"]
    found: list[str] = []
    for path in [*system, str(Path(sys.base_prefix, "lib")), sysconfig.get_path("stdlib"), executable()]:
        if os.path.exists(path) and not any(Path(path).is_relative_to(other) for other in found):
            found.append(path)
    return found


def _isolated() -> list[str]:
    return [executable(), "-I", "-S", "-B", "-X", "utf8", "-c"]
