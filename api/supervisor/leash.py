"""Ties a process to its parent, so that it cannot outlive it; imports the standard library only.

Two uses. As a program, `python -I -S leash.py SIGNAL PARENT UID:GID|- ARGV...` takes the identity
asked for, asks the kernel for SIGNAL at the parent's death and becomes ARGV (`process.leashed`
writes that line). As a function, `tie_to_parent` is called first thing in a forked or spawned
worker, such as a role's solver process.

Why a program before the program, and not `preexec_fn`: asyncio and database drivers start
threads, and Python code that runs between fork and exec in a process with threads can deadlock.
It costs about 20 ms a start. Why not `setpriv`: it is not on every system, and it does not look
whether the parent died before the leash was on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

# A supervisor started in the background by a shell has some of these ignored, Python itself
# ignores SIGPIPE, and both would pass through exec.
_RESET = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGPIPE,
    signal.SIGXFSZ,
)


def tie_to_parent(parent_pid: int, death_signal: int = signal.SIGKILL) -> None:
    """Have the kernel send `death_signal` to this process when its parent ends, however it ends.

    `parent_pid` is the parent's `os.getpid()` taken before this process was made: a parent that
    died before the leash was on is noticed by it, and this process then sends itself the signal.
    The kernel means the parent *thread*: start children from one that lives as long as the
    process. Linux only; elsewhere only a parent that is dead already is noticed.

    Raises:
        OSError: the kernel refused.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(death_signal), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), death_signal)


def _become(death_signal: int, parent_pid: int, identity: str, argv: list[str]) -> None:
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if identity != "-":
        uid, gid = (int(part) for part in identity.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of identity, which clears the death signal.
    tie_to_parent(parent_pid, death_signal)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    try:
        _become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
    except OSError as error:
        sys.exit(f"{sys.argv[4]}: cannot start: {error}")
