"""Job types by name, loaded through the entry point group `hexrun.jobs`; names none itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Protocol

from msgspec import field

from dispatch.model import Matching, Order, Place, StopKind, Value
from geo.errors import InvalidValue, UnknownName

STOPS_MAX = 2


class StopForm(Value, frozen=True, kw_only=True):
    """One place of an order as the customer fills it in."""

    place: Place
    earliest_ms: int | None = None
    latest_ms: int | None = None
    place_id: str = ""


class OrderForm(Value, frozen=True, kw_only=True):
    """What a customer asks for: the places in order, and the fields of the job type's form."""

    customer_id: str
    stops: tuple[StopForm, ...]
    merchant_id: str = ""
    load: tuple[int, ...] = (1,)
    note: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


class Quote(Value, frozen=True, kw_only=True):
    """What an order would cost and when it would be done: lines of (name, fen), and the promise."""

    lines: tuple[tuple[str, int], ...]
    promise_from_ms: int
    promise_to_ms: int

    @property
    def price_fen(self) -> int:
        return sum(fen for _, fen in self.lines)


class JobType(Protocol):
    """A vertical: its stops, price, promise and the order made from a form."""

    name: str
    stop_kinds: tuple[StopKind, ...]

    def quote(self, form: OrderForm, at_ms: int) -> Quote:
        """Raises InvalidValue, naming the field, for a form that cannot be served."""
        ...

    def order(self, order_id: str, city: str, form: OrderForm, quote: Quote, at_ms: int) -> Order:
        """The quoted order, ready to be confirmed."""
        ...


def matchings_of(job: JobType) -> tuple[Matching, ...]:
    """How its orders may find a rider; one that says nothing is for the dispatcher alone."""
    return getattr(job, "matchings", (Matching.DISPATCH,))


@cache
def job_types() -> Mapping[str, JobType]:
    """Every registered job type by name."""
    found = {point.name: point.load() for point in entry_points(group="hexrun.jobs")}
    for name, job in found.items():
        if not 1 <= len(job.stop_kinds) <= STOPS_MAX:
            expected = f"1 to {STOPS_MAX} stops, which is what a round inserts"
            raise InvalidValue(f"hexrun.jobs.{name}.stop_kinds", job.stop_kinds, expected)
        if job.name != name:
            raise InvalidValue(f"hexrun.jobs.{name}", job.name, "a job type of the same name")
    return found


def job_type(name: str) -> JobType:
    """Raises UnknownName, listing what is registered."""
    try:
        return job_types()[name]
    except KeyError:
        raise UnknownName("job_type", name, f"one of {sorted(job_types())}") from None
