"""A filter of system calls, written as the small programs that the kernel runs (classic BPF), and put on this process.

The hard idea: the number of a call means something only on one architecture, so the first question is which one asks; i386 and x32
code on a 64-bit kernel has other numbers for the same calls and is killed. Arguments are looked at where a call is both needed and
dangerous: `clone` without new namespaces is a thread or a fork; `socketpair` of a connected stream is a pipe that asyncio needs;
`prlimit` is for oneself; `ioctl` may not type into a terminal; `mmap` may not share memory without a file, which stays when it has left
the process that asked for it; `prctl` may not hide the process from its supervisor. `clone3` hides its arguments behind a pointer that a
filter cannot read: "no such call", upon which C libraries use `clone`. A filter holds for all later children and cannot be taken off.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import struct

from heron.sandbox.syscalls import CLONE, CLONE3, IOCTL, MMAP, NEWEST, NUMBERS, PRCTL, PRLIMIT, SOCKETPAIR

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machine name to the kernel's AUDIT_ARCH."""
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38
NEW_NAMESPACES = 0x7E020080
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME."""
TERMINAL_INPUT = (0x5412, 0x541C, 0x5423)
"""TIOCSTI, TIOCLINUX, TIOCSETD."""
SHARED_WITHOUT_FILE = 0x21
"""MAP_SHARED (which is a bit of MAP_SHARED_VALIDATE, too) and MAP_ANONYMOUS."""
PR_SET_DUMPABLE = 4
X32 = 0x40000000
NUMBER, ARCH, ARGUMENTS = 0, 4, 16
"""Offsets in what the kernel shows to a filter."""
LOAD, EQUAL, GREATER_EQUAL, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2

Instruction = tuple[int, int, int, int]
"""Code, instructions to skip if true, if false, operand."""


@functools.cache
def build(machine: str | None = None) -> bytes:
    """The filter for a machine (default: this one), as the kernel reads it; raises `KeyError` for one without tables."""
    machine = machine or platform.machine()
    column = list(ARCHITECTURES).index(machine) if machine in ARCHITECTURES else -1
    if column < 0:
        raise KeyError(machine)
    refuse = (RETURN, 0, 0, ERRNO | EPERM)
    program = [
        (LOAD, 0, 0, ARCH), (EQUAL, 1, 0, ARCHITECTURES[machine]), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER),
        (GREATER_EQUAL, 0, 1, X32), (RETURN, 0, 0, KILL),
        (GREATER_EQUAL, 0, 1, NEWEST), (RETURN, 0, 0, ERRNO | ENOSYS),
        (EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, ERRNO | ENOSYS),
    ]
    for number in sorted(numbers[column] or -1 for numbers in NUMBERS.values()):
        if number >= 0:
            program += [(EQUAL, 0, 1, number), refuse]
    for number, judged in _judged(column):
        program += [(EQUAL, 0, len(judged) + 1, number), *judged, (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in [*program, (RETURN, 0, 0, ALLOW)])


def install(program: bytes) -> None:
    """Puts the filter on this thread and its later children; they can gain no privileges from then on."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.addressof(header))


def prctl(option: int, *arguments: int) -> None:
    """The system call of that name, or an `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, *(ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4])) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def _judged(column: int) -> list[tuple[int, list[Instruction]]]:
    """Calls whose arguments decide: instructions that refuse, or fall through."""
    refuse = (RETURN, 0, 0, ERRNO | EPERM)
    return [
        (CLONE[column], [_argument(0), (ANY_BIT, 0, 1, NEW_NAMESPACES), refuse]),
        (SOCKETPAIR[column], [_argument(0), (EQUAL, 1, 0, 1), refuse, _argument(1), (AND, 0, 0, 0xF), (EQUAL, 1, 0, 1), refuse]),
        (PRLIMIT[column], [_argument(0), (EQUAL, 1, 0, 0), refuse]),
        (MMAP[column], [_argument(3), (AND, 0, 0, SHARED_WITHOUT_FILE), (EQUAL, 0, 1, SHARED_WITHOUT_FILE), refuse]),
        (PRCTL[column], [_argument(0), (EQUAL, 0, 1, PR_SET_DUMPABLE), refuse]),
        (IOCTL[column], [_argument(1), *(part for request in TERMINAL_INPUT for part in ((EQUAL, 0, 1, request), refuse))]),
    ]


def _argument(index: int) -> Instruction:
    """Loads the lower half of an argument; both architectures are little-endian."""
    return (LOAD, 0, 0, ARGUMENTS + 8 * index)
