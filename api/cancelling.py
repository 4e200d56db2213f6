"""A cancelled task ends, even where its cancellation was lost on the way; imports asyncio only.

It is lost in two ways: a query that is cancelled may end with an error of its connection instead,
and Python 3.11's `asyncio.wait_for`, which the Redis client sends with, forgets a cancellation that
comes with the answer. So a loop over either says `end_if_cancelled` each time around.
"""

from __future__ import annotations

import asyncio


def end_if_cancelled() -> None:
    """Raise CancelledError in a task that was asked to end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
