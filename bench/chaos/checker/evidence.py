"""Everything that is judged, as plain values; a check reads nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Row = dict[str, Any]


class Broken(NamedTuple):
    """A promise that was not kept: which, for whom, and what is wrong."""

    promise: str
    subject: str
    what: str


@dataclass
class Run:
    """One run of a city's dispatcher: the first position it was told, the instants of its plans."""

    city: str
    first_position: int | None
    plans: set[int]


@dataclass
class Evidence:
    """Rows of the database by table, what the segments and journals hold, and the clients' logs.

    `transfers` is None where the system has no money, `endpoints` is empty where it has no
    webhooks. `fixes` is (rider, seq) -> the phone's instants of all that is stored under it.
    `runs` are the runs of dispatchers, by journal. `in_clear` says where personal data were found,
    and how many.
    """

    orders: list[Row] = field(default_factory=list)
    riders: list[Row] = field(default_factory=list)
    assignments: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    feed: list[Row] = field(default_factory=list)
    outbox: list[Row] = field(default_factory=list)
    heads: list[Row] = field(default_factory=list)
    receipts: list[Row] = field(default_factory=list)
    transfers: list[Row] | None = None
    fixes: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    in_clear: list[tuple[str, int]] = field(default_factory=list)
    logs: list[Row] = field(default_factory=list)

    def told(self, kind: str) -> Iterator[Row]:
        """The lines of the logs of one kind, in their order."""
        return (line for line in self.logs if line["log"] == kind)

    def histories(self, subject: str) -> dict[str, list[Row]]:
        """The events of every order or rider by seq."""
        found: dict[str, list[Row]] = {}
        for event in self.events:
            if event["subject_kind"] == subject:
                found.setdefault(event["subject_id"], []).append(event)
        for events in found.values():
            events.sort(key=lambda event: int(event["seq"]))
        return found
