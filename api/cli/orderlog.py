"""An order log from wherever it is: a file, a day's folder, or a live system's journal.

`hexrun sim export` writes it in our own format, with the report of what was bad.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.output import say, show
from geo.errors import InvalidValue, MissingFile

if TYPE_CHECKING:
    from dispatch.model import Order
    from sim.logs.reading import Read
    from sim.logs.report import Bad
    from sim.logs.table import CourierLog, OrderLog

Map = Annotated[
    Path | None, typer.Option("--map", help="YAML that says what the columns are; docs/fitting.md.")
]
BadRows = Annotated[str, typer.Option(help="What becomes of a log with bad rows: stop or drop.")]
Zone = Annotated[str | None, typer.Option(help="The time zone of local times, as Asia/Shanghai.")]
MapCouriers = Annotated[
    Path | None, typer.Option(help="YAML that says what the couriers' columns are.")
]
Date = Annotated[str | None, typer.Option(help="The day of files that have times of the day only.")]


def register(sim: typer.Typer) -> None:
    """Adds the command to `hexrun sim`."""

    @sim.command("export")
    def sim_export(
        log: Annotated[Path, typer.Argument(help="A CSV or Parquet file, or a folder.")],
        out: Annotated[Path, typer.Argument(help="A file that ends in .csv or .parquet.")],
        mapping: Map = None,
        couriers: Annotated[
            bool, typer.Option("--couriers", help="It is a log of couriers, not of orders.")
        ] = False,
        bad: BadRows = "stop",
        zone: Zone = None,
        date: Date = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON line instead of a table.")
        ] = False,
    ) -> None:
        """Read a log with care, say what is bad in it, and write it in our own format.

        A folder is that of a live system (its journal), of a Rappi day or a benchmark day.
        """
        from sim.logs.writing import write_log

        read: Read[OrderLog] | Read[CourierLog]
        with refusal_told(as_json):
            if couriers:
                read = read_courier_log(log, mapping, bad=bad_of(bad), zone=zone, day=date)
            else:
                read = read_order_log(log, mapping, bad=bad_of(bad), zone=zone, day=date)
        write_log(read.log, out)
        if as_json:
            show(str(log), read.report.as_dict() | {"written": str(out)}, as_json)
            return
        for line in read.report.lines():
            say(line)
        say(f"{len(read.log)} {'shifts' if couriers else 'orders'} are in {out}")


def read_order_log(
    path: Path,
    mapping: Path | None = None,
    *,
    bad: Bad,
    zone: str | None = None,
    day: str | None = None,
) -> Read[OrderLog]:
    """The orders of whatever `path` is; raises as `read_log`, `load_mapping` and `journals`."""
    from sim.logs.mapping import load_mapping
    from sim.logs.reading import MDRP_NAME, ORDERS_NAME, read_log

    if not path.exists():
        raise MissingFile(str(path), "an order log")
    if path.is_dir() and not any((path / name).exists() for name in (MDRP_NAME, ORDERS_NAME)):
        return read_journals(path, zone or "UTC")
    how = load_mapping(mapping) if mapping is not None else None
    return read_log(path, how, bad=bad, zone=zone, day=day)


def read_courier_log(
    path: Path,
    mapping: Path | None = None,
    *,
    bad: Bad,
    zone: str | None = None,
    day: str | None = None,
    orders: OrderLog | None = None,
) -> Read[CourierLog]:
    """The couriers of a file, or of a day's folder, who are looked for where the `orders` are;
    raises as `read_couriers` and `load_mapping`."""
    from sim.logs.mapping import load_mapping
    from sim.logs.reading import order_area, read_couriers

    how = load_mapping(mapping) if mapping is not None else None
    near = order_area(orders) if orders is not None else None
    return read_couriers(path, how, bad=bad, zone=zone, day=day, near=near)


def read_journals(folder: Path, zone: str) -> Read[OrderLog]:
    """Every order that the journals of a data folder know of, once.

    Raises MissingFile for a folder without a journal, InvalidValue for one that is none.
    """
    from api.journal import Events, journals, read_journal
    from dispatch.dispatcher import Known
    from dispatch.events import Event, Placed
    from sim.logs.reading import Read
    from sim.logs.report import Report

    orders: dict[str, Order] = {}
    for path in journals(folder):
        for record in read_journal(path):
            if isinstance(record, Known):
                for order in record.orders:
                    orders.setdefault(order.id, order)
            elif isinstance(record, Events):
                for event in record.events:
                    if isinstance(event, Event) and isinstance(event.fact, Placed):
                        orders.setdefault(event.order_id, event.fact.order)
    log = _log_of(sorted(orders.values(), key=lambda o: (o.created_at_ms, o.id)), zone)
    return Read(log, Report(file=str(folder), rows=len(log), kept=len(log)))


def bad_of(text: str) -> Bad:
    """What becomes of bad rows, by its name; InvalidValue for none."""
    from sim.logs.report import Bad

    if text not in tuple(Bad):
        raise InvalidValue("--bad", text, "one of " + ", ".join(Bad))
    return Bad(text)


@contextmanager
def refusal_told(as_json: bool) -> Iterator[None]:
    """For programs the report of a log that is refused is one JSON line, too; exit code 2."""
    from sim.logs.report import BadLog

    try:
        yield
    except BadLog as refusal:
        if not as_json:
            raise
        show(refusal.report.file, refusal.report.as_dict(), as_json)
        raise typer.Exit(2) from None


def _log_of(orders: list[Order], zone: str) -> OrderLog:
    import numpy as np

    from dispatch.model import Stop, StopKind
    from dispatch.snapshot import NEVER
    from sim.logs.table import OrderLog

    def ends(order: Order) -> tuple[Stop | None, Stop | None]:
        pickup = next((s for s in order.stops if s.kind is StopKind.PICKUP), None)
        return pickup, next((s for s in order.stops if s.kind is not StopKind.PICKUP), None)

    def degrees(stops: list[Stop | None], axis: str) -> np.ndarray:
        return np.array([np.nan if s is None else getattr(s.place, axis) for s in stops])

    pickups = [ends(order)[0] for order in orders]
    doors = [ends(order)[1] for order in orders]
    placed_ms = np.array([order.created_at_ms for order in orders], np.int64)
    ready = [p.earliest_ms if p and p.earliest_ms is not None else NEVER for p in pickups]
    promise = [order.promise_to_ms for order in orders]
    return OrderLog(
        zone=zone,
        id=tuple(order.id for order in orders),
        placed_ms=placed_ms,
        job_type=tuple(order.job_type for order in orders),
        merchant=tuple(order.merchant_id for order in orders),
        pickup_lat=degrees(pickups, "lat"),
        pickup_lon=degrees(pickups, "lon"),
        door_lat=degrees(doors, "lat"),
        door_lon=degrees(doors, "lon"),
        ready_ms=np.maximum(np.array(ready, np.int64), placed_ms),
        promise_ms=np.maximum(np.array(promise, np.int64), placed_ms),
        load=np.array([max(1, order.stops[0].load[0]) for order in orders], np.int64),
    )
