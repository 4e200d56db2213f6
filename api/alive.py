"""Whether a process is alive; imports nothing of its own."""

from __future__ import annotations

import os


def is_alive(pid: int) -> bool:
    """Whether a process has this id now, whosever it is; one that was not waited for counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
