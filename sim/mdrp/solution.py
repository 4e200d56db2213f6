"""What was done with a day, and the three files that the benchmark's evaluator reads.

Times are ms from midnight; the files have minutes. Imports the instance only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sim.mdrp.instance import Instance

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Orders of one restaurant, taken at one moment, in the order of their drop-offs.

    `told_ms` is when the courier was given the last of them: a set that grows while he is on the
    way or waits is an assignment update.
    """

    courier: str
    told_ms: int
    pickup_ms: int
    orders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One order served."""

    order: str
    courier: str
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
    """Writes the three files, one header line each; makes the folder if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    bundles = sorted(solution.bundles, key=lambda b: (b.told_ms, b.pickup_ms, b.courier))
    _write(
        folder / "solution_info_assignments.txt",
        "assignment_time pickup_time courier orders",
        ((minutes(b.told_ms), minutes(b.pickup_ms), b.courier, *b.orders) for b in bundles),
    )
    served = {d.order: d for d in solution.deliveries}
    _write(
        folder / "solution_info_orders.txt",
        "order placement_time ready_time pickup_time dropoff_time courier",
        (
            (o.id, str(o.placed_min), str(o.ready_min), minutes(d.pickup_ms))
            + (minutes(d.dropoff_ms), d.courier)
            for o in instance.orders
            if (d := served.get(o.id)) is not None
        ),
    )
    row = {courier.id: n for n, courier in enumerate(instance.couriers)}
    _write(
        folder / "solution_info_couriers.txt",
        "courier departure_time origin destination",
        (
            (m.courier, minutes(m.leave_ms), m.origin, m.destination)
            for m in sorted(solution.moves, key=lambda m: row[m.courier])
        ),
    )


def minutes(at_ms: int) -> str:
    """`1080`, or `1080.5` where half of an odd service time makes half a minute."""
    return f"{at_ms / MINUTE_MS:.10g}"


def _write(path: Path, header: str, rows: Iterable[tuple[str, ...]]) -> None:
    lines = [header, *(" ".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
