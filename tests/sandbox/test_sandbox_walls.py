"""The walls by themselves: the filter's tables and program, Landlock's version, bubblewrap's command line, what `auto` takes."""

from __future__ import annotations

import platform
import re
import struct
from pathlib import Path

import pytest

from heron.errors import SandboxError
from heron.sandbox import backend_name, choosing, landlock, seccomp, syscalls
from heron.sandbox.backends import bubblewrap
from heron.sandbox.limits import Limits, Result, Status

HEADERS = (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm-generic/unistd.h"))
X86, ARM = 0xC000003E, 0xC00000B7


def answer(program: bytes, number: int, *arguments: int, arch: int = X86) -> int:
    """What the filter returns: the kernel's machine, in twenty lines."""
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(argument & (1 << 64) - 1 for argument in (*arguments, *[0] * 6)[:6]))
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = accumulator = 0
    while True:
        kind, true, false, operand = code[at]
        if kind == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, operand)
        elif kind == 0x54:
            accumulator &= operand
        elif kind == 0x06:
            return operand
        else:
            holds = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}[kind]
            at += true if holds else false
        at += 1


REFUSED, NO_SUCH_CALL = seccomp.ERRNO | 1, seccomp.ERRNO | 38


@pytest.mark.parametrize(("column", "machine", "arch"), [(0, "x86_64", X86), (1, "aarch64", ARM)])
def test_filter_on_both_architectures(column: int, machine: str, arch: int) -> None:
    """Prevents: a filter that holds where it was written and nowhere else; numbers of one architecture read on the other."""
    program = seccomp.build(machine)

    def ask(number: int, *arguments: int) -> int:
        return answer(program, number, *arguments, arch=arch)

    for name, numbers in syscalls.NUMBERS.items():
        if (number := numbers[column]) is not None:
            assert ask(number) == REFUSED, name
    clone, socketpair, prlimit = syscalls.CLONE[column], syscalls.SOCKETPAIR[column], syscalls.PRLIMIT[column]
    assert ask(clone, 0x01200011) == ask(clone, 0x3D0F00) == seccomp.ALLOW
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80):
        assert ask(clone, bit | 17) == REFUSED
    assert ask(syscalls.CLONE3[column]) == NO_SUCH_CALL
    assert ask(socketpair, 1, 1 | 0x80000) == seccomp.ALLOW
    assert ask(socketpair, 1, 2) == ask(socketpair, 1, 5) == ask(socketpair, 2, 1) == REFUSED
    assert ask(prlimit, 0, 7) == seccomp.ALLOW and ask(prlimit, 4711, 7) == REFUSED
    assert ask(syscalls.IOCTL[column], 0, 0x5412) == REFUSED and ask(syscalls.IOCTL[column], 0, 0x5401) == seccomp.ALLOW
    assert ask(syscalls.IOCTL[column], 0, 0x5412 | 1 << 32) == REFUSED, "the kernel looks at the lower half, so do we"
    mmap, prctl = syscalls.MMAP[column], syscalls.PRCTL[column]
    assert ask(mmap, 0, 4096, 3, 0x21) == ask(mmap, 0, 4096, 3, 0x23) == ask(mmap, 0, 4096, 0, 0x8021) == REFUSED
    assert ask(mmap, 0, 4096, 3, 0x22) == ask(mmap, 0, 4096, 3, 0x20022) == ask(mmap, 0, 4096, 1, 0x01, 3) == seccomp.ALLOW
    assert ask(mmap, 0, 4096, 5, 0x802, 3) == seccomp.ALLOW
    assert ask(prctl, 4, 0) == REFUSED and ask(prctl, 15, 0) == ask(prctl, 36, 1) == seccomp.ALLOW
    assert ask(syscalls.NEWEST) == ask(100000) == NO_SUCH_CALL
    assert ask(0x40000000 | 39) == ask(-1) == seccomp.KILL
    assert answer(program, 0, arch=0x40000003) == answer(program, 0, arch=ARM if arch == X86 else X86) == seccomp.KILL
    assert len(program) // 8 < 4096
    reading, writing = ((0, 1), (63, 64))[column]
    assert ask(reading) == ask(writing) == seccomp.ALLOW


@pytest.mark.parametrize("column", [0, 1])
def test_numbers_are_the_kernels(column: int) -> None:
    """Prevents: a mistyped number, which refuses a harmless call and lets a dangerous one through."""
    if not HEADERS[column].is_file():
        pytest.skip(f"{HEADERS[column]} is not installed")
    found = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[column].read_text())}
    named = {**syscalls.NUMBERS, "clone": syscalls.CLONE, "clone3": syscalls.CLONE3, "ioctl": syscalls.IOCTL,
             "socketpair": syscalls.SOCKETPAIR, "prlimit64": syscalls.PRLIMIT,
             "mmap": syscalls.MMAP, "prctl": syscalls.PRCTL}
    checked = {name: numbers[column] for name, numbers in named.items() if name in found}
    assert len(checked) > 90
    assert checked == {name: found[name] for name in checked}
    assert not [name for name, numbers in named.items() if name not in found and numbers[column] is not None and numbers[column] < 424]


def test_machine_without_tables_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: no filter where its numbers are unknown."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "riscv64" in str(choosing.BACKENDS["landlock"].missing()) and "riscv64" in str(choosing.BACKENDS["bubblewrap"].missing())


@pytest.mark.parametrize(("version", "said"), [(0, "no Landlock"), (5, "version 5 and confines no signals")])
def test_old_landlock_is_refused(version: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a wall through which a program signals its grader."""
    monkeypatch.setattr(landlock, "version", lambda: version)
    assert said in str(choosing.BACKENDS["landlock"].missing())


def test_command_line_of_bubblewrap() -> None:
    """Prevents: a namespace that is forgotten; root in a namespace of users, where limits on processes are void."""
    root, ordinary = bubblewrap.command("/usr/bin/bwrap", 61200, True), bubblewrap.command("/usr/bin/bwrap", None, True)
    for words in (root, ordinary):
        assert {"--unshare-pid", "--unshare-net", "--unshare-ipc", "--die-with-parent", "--new-session", "--clearenv"} <= {*words}
        assert words[words.index("--seccomp") + 1] == "@filter" and words[words.index("--cap-drop") + 1] == "ALL"
        assert [words[at + 1] for at, word in enumerate(words) if word == "--bind"] == ["@folder"]
        assert words.index("--remount-ro") > words.index("--bind")
        shown = {words[at + 1] for at, word in enumerate(words) if word == "--ro-bind"}
        assert not {"/", "/proc", "/tmp", "/home", "/etc", "/root"} & shown
    assert "--unshare-user" not in root
    assert [root[at + 1] for at, word in enumerate(root) if word == "--cap-add"] == ["CAP_SETUID", "CAP_SETGID"]
    assert "--unshare-user" in ordinary and "--disable-userns" in ordinary and "--cap-add" not in ordinary
    assert "--disable-userns" not in bubblewrap.command("/usr/bin/bwrap", None, False)


@pytest.fixture
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "why_not", choosing.why_not.__wrapped__)


def _pretend(monkeypatch: pytest.MonkeyPatch, result: Result | SandboxError) -> None:
    def run_in(*_: object) -> Result:
        if isinstance(result, SandboxError):
            raise result
        return result

    monkeypatch.setattr(choosing, "run_in", run_in)


def _result(stdout: str, status: Status = Status.FINISHED) -> Result:
    return Result(status=status, reason="", stdout=stdout, stderr="", seconds=0.1, backend="x")


@pytest.mark.usefixtures("nothing_is_remembered")
def test_auto_takes_the_first_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: bubblewrap believed to hold since it is installed."""
    monkeypatch.setattr(bubblewrap, "_program", lambda: (None, False))
    monkeypatch.setattr(landlock, "version", lambda: 6)
    _pretend(monkeypatch, _result("ran\n"))
    assert backend_name() == "landlock"
    monkeypatch.setattr(bubblewrap, "_program", lambda: ("/usr/bin/bwrap", False))
    assert backend_name() == "bubblewrap"


@pytest.mark.usefixtures("nothing_is_remembered")
@pytest.mark.parametrize("broken", [
    _result("has sockets\nran\n"), _result("reads files outside\nran\n"), _result(""), _result("", Status.FAILED),
    SandboxError("bwrap: setting up uid map: Permission denied"),
])
def test_nothing_that_leaks_is_taken_and_nothing_less(broken: Result | SandboxError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a silent fall to limits alone; a refusal that does not say what to do."""
    monkeypatch.setattr(bubblewrap, "_program", lambda: ("/usr/bin/bwrap", True))
    monkeypatch.setattr(landlock, "version", lambda: 0)
    _pretend(monkeypatch, broken)
    told = r"(?s)does not hold here.*bubblewrap: .*landlock: the kernel has no Landlock.*unsafe-rlimit"
    with pytest.raises(SandboxError, match=told) as error:
        backend_name()
    if isinstance(broken, SandboxError):
        assert "apparmor_restrict_unprivileged_userns=0" in str(error.value)
    with pytest.raises(SandboxError):
        backend_name("bubblewrap")


@pytest.mark.usefixtures("nothing_is_remembered")
def test_absent_bubblewrap_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "_program", lambda: (None, False))
    with pytest.raises(SandboxError, match="apt install bubblewrap"):
        backend_name("bubblewrap")


def test_a_real_leak_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a probe that says yes to everything: without its filter, Landlock lets sockets through."""
    if choosing.why_not("landlock") is not None:
        pytest.skip("no Landlock here")
    walls = choosing.BACKENDS["landlock"].walls(Limits(), None)
    open_walls = type(walls)(landlock=walls.landlock, seccomp=False, count_user=walls.count_user)
    leaky = type(choosing.BACKENDS["landlock"])(
        name="landlock", missing=lambda: None, walls=lambda limits, uid: open_walls, holds=(), leaves=())
    monkeypatch.setattr(choosing, "AUTOMATIC", (leaky,))
    assert choosing._probe(leaky) == "a first program has sockets"
