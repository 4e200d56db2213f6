"""A cancelled task ends, even where its cancellation became a database error; imports asyncio."""

from __future__ import annotations

import asyncio


def end_if_cancelled() -> None:
    """Raise CancelledError in a task that was asked to end.

    To be called where one of `UNAVAILABLE` was caught: a query that is cancelled may end with an
    error of its connection instead.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
