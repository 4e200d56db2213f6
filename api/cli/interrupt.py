"""Ctrl-C keeps what is done: the first asks for an end, the second ends at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED = 130
"""The exit code of what Ctrl-C has ended, as shells give it: 128 and the signal's number."""
_SHOW_CURSOR = b"\x1b[?25h\r"


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Gives `stop`, which is true once Ctrl-C was pressed. Enter it in the main thread only."""
    pressed = False

    def handle(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            if sys.stderr.isatty():
                os.write(2, _SHOW_CURSOR)
            os._exit(INTERRUPTED)
        pressed = True
        # Not print: it may be that print itself was interrupted.
        os.write(2, b"\nhexrun: stopping, and telling what is done; Ctrl-C again ends at once\n")

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
