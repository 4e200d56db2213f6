"""What was done with a day, and the three files that the benchmark's evaluator reads.

Times are ms from midnight; the files have minutes. Imports the instance only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sim.mdrp.instance import Instance, MdrpOrder

MINUTE_MS = 60_000

_ASSIGNMENTS = "assignment_time pickup_time courier orders"
_ORDERS = "order placement_time ready_time pickup_time dropoff_time courier"
_COURIERS = "courier departure_time origin destination"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Orders of one restaurant, taken at one moment, in the order of their drop-offs."""

    courier: str
    pickup_ms: int
    orders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One order served. `told_ms` is when its courier was given it."""

    order: str
    courier: str
    told_ms: int
    pickup_ms: int
    dropoff_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A courier's ride between two places by id; `origin` "0" is where his shift began."""

    courier: str
    leave_ms: int
    ride_ms: int
    origin: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Bundles and deliveries as they happened; the moves of a courier are in order."""

    bundles: tuple[Bundle, ...]
    deliveries: tuple[Delivery, ...]
    moves: tuple[Move, ...]


def write_files(instance: Instance, solution: Solution, folder: Path) -> None:
    """Writes the three files, one header line each; makes the folder if need be.

    The orders of a bundle may grow until it is picked up (assignment updates), so the time of its
    assignment, as one row for the whole of it, is the pickup: from then on nothing changes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    assignments = [
        (minutes(b.pickup_ms), minutes(b.pickup_ms), b.courier, *b.orders)
        for b in sorted(solution.bundles, key=lambda b: (b.pickup_ms, b.courier))
    ]
    served = {d.order: d for d in solution.deliveries}
    orders = [_order_row(o, served[o.id]) for o in instance.orders if o.id in served]
    turn = {courier.id: n for n, courier in enumerate(instance.couriers)}
    moves = [
        (m.courier, minutes(m.leave_ms), m.origin, m.destination)
        for m in sorted(solution.moves, key=lambda m: turn[m.courier])
    ]
    _write(folder / "solution_info_assignments.txt", _ASSIGNMENTS, assignments)
    _write(folder / "solution_info_orders.txt", _ORDERS, orders)
    _write(folder / "solution_info_couriers.txt", _COURIERS, moves)


def _order_row(order: MdrpOrder, done: Delivery) -> tuple[str, ...]:
    known = str(order.placed_min), str(order.ready_min)
    return order.id, *known, minutes(done.pickup_ms), minutes(done.dropoff_ms), done.courier


def minutes(at_ms: int) -> str:
    """`1080`, or `1080.5` where half of an odd service time makes half a minute."""
    return f"{at_ms / MINUTE_MS:.10g}"


def _write(path: Path, header: str, rows: Iterable[tuple[str, ...]]) -> None:
    lines = [header, *(" ".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
