"""Programs that try to use up the machine or to get out: what the self-test and the tests run in every backend.

The hard idea: an attack says itself that it got out (it prints ESCAPED), as a thief would know; what it cannot know, whether anything of it
lives on, its runner looks for by the name that each of its processes carries. Nothing here does harm where it succeeds: it opens files
without a name, asks about a process that was made to be asked about, and sends to ports of its runner. Left out: tricks on a grader,
which the tests have, and attacks on the kernel itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from heron.sandbox.limits import Status

ESCAPED = "ESCAPED"
PRELUDE = """
import ctypes, os, resource, signal, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(15, {name!r}.encode(), 0, 0, 0)
NUMBERS, SECRET, OUTSIDE, VICTIM, US, TCP, UDP, ABSTRACT, SOCKET = {facts!r}
def call(name, *arguments): return libc.syscall(NUMBERS[name], *arguments)
def escaped(*what): print("ESCAPED", *what, flush=True)
def attempt(action):
    try: result = action()
    except (OSError, ValueError): return
    escaped(result)
def attempt_call(name, *arguments):
    if NUMBERS.get(name) is not None and (result := call(name, *arguments)) >= 0: escaped(name, result)
def attempt_file_in(folder): attempt(lambda: os.open(folder, os.O_TMPFILE | os.O_WRONLY))
def connect(family, kind, address):
    with socket.socket(family, kind) as it:
        it.settimeout(0.2); it.connect(address); it.send(b"x")
"""
"""What all attacks begin with; `attack_code` fills it in."""
MAP = """
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_ssize_t, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
def map(size, flags, file):
    if (at := libc.mmap(None, size, 1 | 2 * (file < 0), flags, file, 0)) == -1: sys.exit(3)
    return at
"""
FAILED, TIMEOUT, LIMIT, ANY = (Status.FAILED,), (Status.TIMEOUT,), (Status.LIMIT,), tuple(Status)
BROKEN = (Status.FAILED, Status.TIMEOUT, Status.LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One program."""

    name: str
    """Of the attack."""
    code: str
    """What it does, after the prelude."""
    ends: tuple[Status, ...]
    """How it may end where it is held."""


RESOURCES = {
    "busy_loop": ("while True: pass", TIMEOUT),
    "sleep_forever": ("time.sleep(1000)", TIMEOUT),
    "ignore_signals": (
        "for n in range(1, 65):\n  try: signal.signal(n, signal.SIG_IGN)\n  except (OSError, ValueError): pass\nwhile 1: pass", TIMEOUT),
    "catch_all_loop": ("while True:\n  try:\n    while True: pass\n  except BaseException: pass", TIMEOUT),
    "sigstop_self": ("os.kill(os.getpid(), signal.SIGSTOP)", TIMEOUT),
    "mem_one_proc": ("x = bytearray(10**10)", FAILED),
    "mem_many_procs": (
        "for _ in range(20):\n  try: os.fork()\n  except OSError: break\n"
        "x = []\nwhile True:\n  try: x.append(bytearray(b'x') * (8 << 20))\n  except MemoryError: time.sleep(0.05)", BROKEN),
    "mem_tmpfs_many_files": ("for n in range(10**6):\n  open(str(n), 'wb').write(b'x' * 65536)", BROKEN),
    "mem_shared_and_forgotten": (
        MAP + "held, size = 0, 32 << 20\nwhile held < 5 << 26:\n  at = map(size, 33, -1)\n  ctypes.memset(at, 1, size); held += size\n"
        "  libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(size), 4)\n"
        "  libc.munmap(ctypes.c_void_p(at + 4096), ctypes.c_size_t(size - 4096))\nescaped(held)", (Status.FAILED, Status.LIMIT)),
    "files_deleted_but_mapped": (
        MAP + "for n in range(400):\n  f = os.open('f', os.O_RDWR | os.O_CREAT); os.write(f, b'x' * 65536)\n"
        "  map(4096, 2, f); os.close(f); os.unlink('f'); time.sleep(0.001)\nescaped(n)", LIMIT),
    "bigint_pow": ("print(9 ** 9 ** 9)", BROKEN),
    "regex_redos": ("import re; re.match('(a*)*b', 'a' * 40)", TIMEOUT),
    "fork_bomb": ("while True:\n  try: os.fork()\n  except OSError: pass", BROKEN),
    "thread_bomb": (
        "import threading\nn = 0\ntry:\n  while n < 500: threading.Thread(target=time.sleep, args=(9,), daemon=True).start(); n += 1\n"
        "except RuntimeError: os._exit(3)\nescaped(n)", BROKEN),
    "zombie_farm": ("for n in range(500):\n  try:\n    if os.fork() == 0: os._exit(0)\n  except OSError: sys.exit(3)\nescaped(n)", BROKEN),
    "stdout_flood": ("while True: sys.stdout.write('x' * 65536)", LIMIT),
    "stderr_flood": ("while True: os.write(2, b'x' * 65536)", LIMIT),
    "one_huge_line": ("print('x' * 10**8)", BROKEN),
    "disk_fill": ("f = open('f', 'wb')\nwhile True: f.write(b'x' * 65536); f.flush()", BROKEN),
    "many_inodes": ("n = 0\nwhile True: os.mkdir(str(n)); n += 1", LIMIT),
    "deep_folders": ("while True: os.mkdir('d'); os.chdir('d')", BROKEN),
    "closed_folder": ("os.mkdir('d', 0o300); open('d/f', 'w').write('x'); time.sleep(1000)", (Status.LIMIT, Status.TIMEOUT)),
    "fd_exhaust": ("x = []\nwhile True: x.append(os.open('/dev/null', os.O_RDONLY))", FAILED),
    "memfd_fill": ("f = os.memfd_create('x')\nwhile True: os.write(f, b'x' * (1 << 20))", BROKEN),
    "core_dump": ("os.abort()", FAILED),
    "segfault": ("ctypes.string_at(0)", FAILED),
}
"""Code, and how it may end."""

FILES = {
    "read_home": "attempt(lambda: open(SECRET).read())",
    "read_env": (
        "from os import environ\n"
        "left = set(environ) - {'PATH', 'HOME', 'TMPDIR', 'LANG', 'OMP_NUM_THREADS', 'PWD', 'LC_CTYPE'}\nif left: escaped(left)"),
    "read_parent_environ": "attempt(lambda: open(f'/proc/{US}/environ', 'rb').read()[:9])",
    "read_other_proc": "for n in (VICTIM, os.getppid(), 1): attempt(lambda: open(f'/proc/{n}/maps').read(9) and n)",
    "read_fd_inherited": (
        "for n in range(3, 1024):\n  try: mode = os.fstat(n).st_mode\n  except OSError: continue\n"
        "  if mode >> 12 != 4: escaped(n)"),
    "symlink_out": "os.symlink(SECRET, 'l'); attempt(lambda: open('l').read())",
    "hardlink_out": "attempt(lambda: (os.link(SECRET, 'h'), open('h').read()))",
    "rename_in": "attempt(lambda: os.rename(OUTSIDE + '/file', 'taken'))",
    "write_outside": (
        "attempt_file_in(OUTSIDE)\nattempt(lambda: os.mkdir(OUTSIDE + '/made'))\n"
        "attempt(lambda: os.truncate(OUTSIDE + '/file', 0))"),
    "remove_outside": "attempt(lambda: os.unlink(OUTSIDE + '/file'))",
    "change_outside": "attempt(lambda: os.chmod(OUTSIDE + '/file', 0o777))\nattempt(lambda: os.utime(OUTSIDE + '/file'))",
    "write_site_packages_pth": "import sysconfig\nfor name in ('purelib', 'platlib', 'stdlib'): attempt_file_in(sysconfig.get_path(name))",
    "write_usercustomize": (
        "import pwd\n"
        "for user in pwd.getpwall() if os.access('/etc/passwd', os.R_OK) else (): attempt_file_in(user.pw_dir)"),
    "poison_pycache": "import json\nattempt_file_in(os.path.dirname(json.__file__) + '/__pycache__')",
    "tmp_race_next_sample": (
        "for name in ('/tmp', '/var/tmp', '/dev/shm', '..'): attempt_file_in(name)\n"
        "attempt(lambda: [n for n in os.listdir('/tmp')][:3])"),
    "open_by_handle": (
        "handle, mount = ctypes.create_string_buffer(b'\\x80', 200), ctypes.c_int()\n"
        "attempt_call('name_to_handle_at', -100, SECRET.encode(), handle, ctypes.byref(mount), 0)"),
    "watch_outside": (
        "watch = libc.inotify_init1(0)\nif watch >= 0 and libc.inotify_add_watch(watch, OUTSIDE.encode(), 0xfff) >= 0: escaped()"),
    "chroot": "attempt_call('chroot', b'/')",
    "make_device": "attempt(lambda: os.mknod('d', 0o020666, os.makedev(1, 3)))",
}
NETWORK = {
    "tcp_loopback_ui": "attempt(lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', TCP)))",
    "udp_out": "attempt(lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ('127.0.0.1', UDP)))",
    "dns": "attempt(lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ('127.0.0.1', 53)))",
    "tcp_listen": "attempt(lambda: socket.create_server(('127.0.0.1', 0)))",
    "raw_and_netlink": "for family, kind in ((2, 3), (16, 3), (17, 3), (40, 1)): attempt(lambda: socket.socket(family, kind))",
    "abstract_unix": "attempt(lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, ABSTRACT))",
    "docker_sock": "attempt(lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, SOCKET))",
    "socketpair_out": "attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].connect(SOCKET))",
}
OUTWARD = {
    "tcp_out": "attempt(lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ('192.0.2.1', 80)))",
    "metadata_ip": "attempt(lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ('169.254.169.254', 80)))",
    "kill_minus_one": "try: os.kill(-1, signal.SIGKILL)\nexcept OSError: pass",
    "signal_by_pipe": (
        "import fcntl\nreader, writer = os.pipe()\nfor pid in (os.getppid(), VICTIM):\n  try:\n"
        "    fcntl.fcntl(reader, fcntl.F_SETOWN, pid); fcntl.fcntl(reader, 10, signal.SIGKILL)\n"
        "    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK); os.write(writer, b'x')\n"
        "  except OSError: pass\ntime.sleep(0.05)"),
}
"""Run only where something should hold them: what succeeds here is not harmless."""
PROCESSES = {
    "kill_parent": "attempt(lambda: os.kill(VICTIM, signal.SIGCONT))\nattempt(lambda: os.kill(US, 0))",
    "kill_supervisor": "parent = os.getppid()\nif parent > 1: attempt(lambda: os.kill(parent, 0))",
    "ptrace_parent": "attempt_call('ptrace', 0x4206, VICTIM, 0, 0)",
    "process_vm_readv": "if call('process_vm_readv', VICTIM, 0, 0, 0, 0, 0) == 0: escaped()",
    "pidfd_signal": "attempt_call('pidfd_open', VICTIM, 0)",
    "prlimit_parent": "attempt(lambda: resource.prlimit(VICTIM, resource.RLIMIT_NOFILE))",
    "renice_parent": "attempt(lambda: os.setpriority(os.PRIO_PROCESS, VICTIM, 5))\nattempt(lambda: os.sched_setaffinity(VICTIM, {0}))",
    "raise_limits": (
        "attempt(lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)))\n"
        "attempt(lambda: resource.setrlimit(resource.RLIMIT_NPROC, (999, 999)))"),
    "setuid": "attempt(lambda: os.setuid(0) or os.getuid() == 0 and 'root') if os.getuid() else escaped('root')",
    "capabilities": "attempt_call('sethostname', b'x', 1)",
    "userns": "attempt_call('unshare', 0x10000000)",
    "clone_newuser": "result = libc.syscall(CLONE, 0x10000000 | 17, 0, 0, 0, 0)\nif result == 0: os._exit(0)\nif result > 0: escaped()",
    "clone3_newuser": (
        "import struct\nasked = struct.pack('QQQQQQQQ', 0x10000000, 0, 0, 0, 17, 0, 0, 0)\nresult = libc.syscall(435, asked, 64)\n"
        "if result == 0: os._exit(0)\nif result > 0: escaped()"),
    "mount": "attempt_call('mount', b'none', b'.', b'tmpfs', 0, 0)",
    "io_uring": "attempt_call('io_uring_setup', 1, ctypes.create_string_buffer(200))",
    "bpf": "attempt_call('bpf', 0, ctypes.create_string_buffer(b'\\2\\0\\0\\0\\4\\0\\0\\0\\4\\0\\0\\0\\1', 120), 120)",
    "keyctl": "attempt_call('keyctl', 0, -3, 1)",
    "perf_event": "attempt_call('perf_event_open', ctypes.create_string_buffer(120), 0, -1, -1, 0)",
    "userfaultfd": "attempt_call('userfaultfd', 1)",
    "shared_memory_stays": "made = call('shmget', 0, 4096, 0o1600)\nif made >= 0: call('shmctl', made, 0, 0); escaped(made)",
    "message_queue_stays": "made = call('msgget', 0, 0o1600)\nif made >= 0: call('msgctl', made, 0, 0); escaped(made)",
    "tiocsti": "import fcntl\nfor n in range(3): attempt(lambda: fcntl.ioctl(n, 0x5412, b'x'))",
    "x32_abi_syscall": "if libc.syscall(0x40000000 | 39) > 0: escaped()",
    "future_syscall": "result = libc.syscall(100000)\nif result != -1 or ctypes.get_errno() not in (38,): escaped()",
}
LASTING = {
    "double_fork_daemon": "if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0: time.sleep(60)\n  os._exit(0)",
    "setsid_escape": "if os.fork() == 0:\n  os.setsid(); os.closerange(0, 9); time.sleep(60)",
    "atexit_late_write": (
        "import atexit\ndef late():\n  if os.fork() == 0:\n    time.sleep(0.3)\n"
        "    for name in (OUTSIDE + '/late', 'late'): open(name, 'w').close()\n"
        "    time.sleep(60)\n"
        "atexit.register(late)"),
    "subreaper_hides": "libc.prctl(36, 1, 0, 0, 0)\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0: time.sleep(60)\n  os._exit(0)",
    "stopped_child": "if os.fork() == 0: os.kill(os.getpid(), signal.SIGSTOP)",
}


def _attacks(codes: dict[str, str]) -> tuple[Attack, ...]:
    return tuple(Attack(name=name, code=code, ends=ANY) for name, code in codes.items())


ATTACKS = (
    *(Attack(name=name, code=code, ends=ends) for name, (code, ends) in RESOURCES.items()),
    *_attacks(FILES), *_attacks(NETWORK), *_attacks(OUTWARD), *_attacks(PROCESSES), *_attacks(LASTING),
)
"""All of them."""
