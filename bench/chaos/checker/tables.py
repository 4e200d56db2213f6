"""The three life cycles, written again from `docs/lifecycle.md`: state -> {move: state}."""

from __future__ import annotations

Table = dict[str, dict[str, str]]

_CANCELS = {f"cancel_{who}": f"cancelled_{who}" for who in ("customer", "merchant", "system")}

ORDER: Table = {
    "quoted": {"schedule": "scheduled", "open": "open"},
    "scheduled": {"open": "open", **_CANCELS},
    "open": {"accept": "assigned", "expire": "expired", **_CANCELS},
    "assigned": {"start": "under_way", "release": "open", **_CANCELS},
    "under_way": {
        "release": "open",
        "finish": "done",
        "return": "returned",
        "fail": "failed",
        **_CANCELS,
    },
    "done": {"complete": "completed"},
}
ASSIGNMENT: Table = {
    "offered": {
        "accept": "accepted",
        "decline": "declined",
        "time_out": "timed_out",
        "withdraw": "withdrawn",
    },
    "accepted": {"start": "active", "withdraw": "withdrawn", "drop": "dropped"},
    "active": {"finish": "finished", "withdraw": "withdrawn", "drop": "dropped"},
}
STOP: Table = {
    "planned": {"head": "heading", "skip": "skipped"},
    "heading": {"release": "planned", "arrive": "arrived", "skip": "skipped"},
    "arrived": {"release": "planned", "finish": "done", "fail": "failed", "skip": "skipped"},
}


def ended(table: Table, state: str) -> bool:
    """Whether nothing can follow the state."""
    return state not in table
