"""The three life cycles as tables: (state, move) -> state; imports the model and errors only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Generic, TypeVar

from dispatch.model import AssignmentState, OrderState, StopState
from geo.errors import IllegalMove

S = TypeVar("S", bound=StrEnum)


class Move(dict[S, S]):
    """Where one move of a life cycle leads, by the state before it.

    Raises IllegalMove, naming both, for a state from which the table has no such move.
    """

    def __init__(self, machine: str, by: str, table: Mapping[tuple[S, str], S]) -> None:
        super().__init__({before: after for (before, move), after in table.items() if move == by})
        self._machine, self._by = machine, by

    def __missing__(self, state: S) -> S:
        raise IllegalMove(self._machine, state, self._by)


@dataclass(frozen=True, slots=True)
class Machine(Generic[S]):
    """A life cycle: its name, first state and table. A state without a way out is one of `ends`."""

    name: str
    first: S
    table: Mapping[tuple[S, str], S]
    ends: frozenset[S] = field(init=False)

    def __post_init__(self) -> None:
        on_a_way = {source for source, _ in self.table}
        object.__setattr__(self, "ends", frozenset(type(self.first)) - on_a_way)

    def by(self, move: str) -> Move[S]:
        """The move's row of the table, for those who make it often."""
        return Move(self.name, move, self.table)

    def move(self, state: S, by: str) -> S:
        """The state after the move. Raises IllegalMove, naming both, when the table has none."""
        try:
            return self.table[state, by]
        except KeyError:
            raise IllegalMove(self.name, state, by) from None

    def can(self, state: S, by: str) -> bool:
        return (state, by) in self.table

    def ended(self, state: S) -> bool:
        return state in self.ends


O, A, T = OrderState, AssignmentState, StopState  # noqa: E741

ORDER: Machine[OrderState] = Machine(
    "order",
    O.QUOTED,
    MappingProxyType(
        {
            (O.QUOTED, "schedule"): O.SCHEDULED,
            (O.QUOTED, "open"): O.OPEN,
            (O.SCHEDULED, "open"): O.OPEN,
            (O.OPEN, "accept"): O.ASSIGNED,
            (O.OPEN, "expire"): O.EXPIRED,
            (O.ASSIGNED, "start"): O.UNDER_WAY,
            (O.ASSIGNED, "release"): O.OPEN,
            (O.UNDER_WAY, "release"): O.OPEN,
            (O.UNDER_WAY, "finish"): O.DONE,
            (O.UNDER_WAY, "return"): O.RETURNED,
            (O.UNDER_WAY, "fail"): O.FAILED,
            (O.DONE, "complete"): O.COMPLETED,
        }
        | {
            (state, f"cancel_{party}"): end
            for state in (O.SCHEDULED, O.OPEN, O.ASSIGNED, O.UNDER_WAY)
            for party, end in (
                ("customer", O.CANCELLED_CUSTOMER),
                ("merchant", O.CANCELLED_MERCHANT),
                ("system", O.CANCELLED_SYSTEM),
            )
        }
    ),
)

ASSIGNMENT: Machine[AssignmentState] = Machine(
    "assignment",
    A.OFFERED,
    MappingProxyType(
        {
            (A.OFFERED, "accept"): A.ACCEPTED,
            (A.OFFERED, "decline"): A.DECLINED,
            (A.OFFERED, "time_out"): A.TIMED_OUT,
            (A.OFFERED, "withdraw"): A.WITHDRAWN,
            (A.ACCEPTED, "start"): A.ACTIVE,
            (A.ACCEPTED, "withdraw"): A.WITHDRAWN,
            (A.ACCEPTED, "drop"): A.DROPPED,
            (A.ACTIVE, "finish"): A.FINISHED,
            (A.ACTIVE, "withdraw"): A.WITHDRAWN,
            (A.ACTIVE, "drop"): A.DROPPED,
        }
    ),
)

STOP: Machine[StopState] = Machine(
    "stop",
    T.PLANNED,
    MappingProxyType(
        {
            (T.PLANNED, "head"): T.HEADING,
            (T.PLANNED, "skip"): T.SKIPPED,
            (T.HEADING, "release"): T.PLANNED,
            (T.HEADING, "arrive"): T.ARRIVED,
            (T.HEADING, "skip"): T.SKIPPED,
            (T.ARRIVED, "release"): T.PLANNED,
            (T.ARRIVED, "finish"): T.DONE,
            (T.ARRIVED, "fail"): T.FAILED,
            (T.ARRIVED, "skip"): T.SKIPPED,
        }
    ),
)


def diagram(machine: Machine[S]) -> str:
    """The table as a Mermaid state diagram, the form that stands in the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {machine.first}"]
    lines += [f"    {a} --> {b}: {by}" for (a, by), b in machine.table.items()]
    ends = sorted({b for b in machine.table.values() if machine.ended(b)})
    return "\n".join(lines + [f"    {end} --> [*]" for end in ends])
