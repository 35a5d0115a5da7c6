"""Landlock: what files this process may touch, and that it reaches no socket and no process outside; put on it by itself, for good.

The hard idea: a ruleset first names all rights that it rules (so what no rule grants is refused), and each rule then grants rights
beneath an open folder. Nobody's privileges are needed. From version 6 on the kernel also confines signals and abstract sockets, and
without that a program could signal its grader, so less than 6 is refused. Left out, since Landlock does not see them: modes, owners and
times of files, UDP, `stat`; the filter of system calls has the first two, and the names of files outside can be learnt.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

LEAST_VERSION = 6
CREATE, ADD, RESTRICT = 444, 445, 446
"""System calls, alike on all architectures."""
EXECUTE, READ_FILE, READ_DIR, WRITE_FILE, TRUNCATE, IOCTL_DEVICE = 1 << 0, 1 << 2, 1 << 3, 1 << 1, 1 << 14, 1 << 15
ALL_FILES = (1 << 16) - 1
"""Every right over files that version 6 knows."""
MAKE_DEVICES = (1 << 6) | (1 << 11)
ALL_TCP, ALL_SCOPES = 0b11, 0b11
READ = EXECUTE | READ_FILE | READ_DIR
OF_A_FILE = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEVICE
"""Rights that make sense for what is no folder."""


def version() -> int:
    """The kernel's version of Landlock; 0 if it has none or it is switched off."""
    return max(0, _libc().syscall(CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1)))


def prepare(readable: Sequence[str], devices: Sequence[str], writable: str) -> int:
    """A ruleset, to be enforced: read and execute beneath `readable`, use `devices`, everything but make devices beneath `writable`."""
    attributes = struct.pack("=QQQ", ALL_FILES, ALL_TCP, ALL_SCOPES)
    ruleset = _call(CREATE, ctypes.c_char_p(attributes), ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    for path in readable:
        _allow(ruleset, path, READ)
    for path in devices:
        _allow(ruleset, path, READ_FILE | WRITE_FILE)
    _allow(ruleset, writable, ALL_FILES & ~MAKE_DEVICES & ~IOCTL_DEVICE)
    return ruleset


def enforce(ruleset: int) -> None:
    """From now on, for this thread and its later children; they must be unable to gain privileges (`no_new_privs`)."""
    _call(RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rights = rights if os.path.isdir(path) else rights & OF_A_FILE
    rule = ctypes.c_char_p(struct.pack("=Qi", rights, folder))
    _call(ADD, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0))
    os.close(folder)


def _call(number: int, *arguments: ctypes._SimpleCData) -> int:
    result = _libc().syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock call {number}: {os.strerror(code)}")
    return int(result)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
