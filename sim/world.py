"""The simulated world: orders, riders and customers, changed by `apply` alone; holds no clock.

A driver says what time it is and what is due; the world asks the minds, applies what they want
with the engine's own transitions, publishes the events and tells the minds what they would hear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from msgspec.structs import replace

from dispatch import commands as c
from dispatch import events as e
from dispatch.dispatcher import Fixes, Known
from dispatch.model import (
    AssignmentState,
    Order,
    OrderState,
    Party,
    Place,
    Rider,
    RiderState,
    RouteStop,
    StopState,
)
from dispatch.registry import JobType, Quote, job_type
from dispatch.transitions import Refusal, apply, apply_rider, evolve, evolve_rider
from geo.errors import InvalidValue
from geo.motion import Path
from geo.travel import TravelLaw
from sim.behaviour import (
    UNREACHABLE,
    Answer,
    EndShift,
    OfferSeen,
    Report,
    RiderMind,
    StartShift,
    StopAhead,
)
from sim.crew import Member
from sim.customers import CustomerMind, PlaceOrder
from sim.demand import OrderRequest
from sim.fleet import Fleet
from sim.manners import manners_of, minds_places
from sim.scenario import Scenario
from sim.streams import stream

# A member that is looked up in its class costs five times as much as one that is at hand.
_OFFERED, _DONE = AssignmentState.OFFERED, OrderState.DONE

Publish = Callable[[e.Event, Order], None]
"""(event, the order right after it)."""
PublishRider = Callable[[e.RiderEvent], None]
Wake = Callable[[int, int], None]
"""(rider row, at_ms): come back to the rider then."""


@dataclass(slots=True, eq=False)
class _Seat:
    """A rider's record and mind, and what he has accepted: orders, and the stops still to serve.

    `woken_ms` is when the driver was last asked to come back, `path` what the fleet follows. His
    phone is dead until `silent_ms`, and its clock is `off_ms` ahead.
    """

    row: int
    member: Member
    rider: Rider
    mind: RiderMind
    held: set[str] = field(default_factory=set)
    route: list[RouteStop] = field(default_factory=list)
    woken_ms: int | None = None
    path: Path | None = None
    silent_ms: int = 0
    off_ms: int = 0


@dataclass(slots=True, eq=False)
class _Job:
    """A live order and who placed it; its stops as they lie ahead of the rider who has it."""

    order: Order
    customer: CustomerMind
    ahead: list[StopAhead] = field(default_factory=list)


class World:
    """`publish` gets every order's event at once, with the order after it, `publish_rider` every
    rider's; both in order. `wake` is asked to come back to a rider.

    `refused` counts commands that changed nothing, by (command, code); `ended` the orders that
    have ended or are done, by state; `placed` all orders so far, `live` those of them that are
    neither done nor ended.
    """

    def __init__(
        self,
        scenario: Scenario,
        crew: Iterable[Member],
        law: TravelLaw,
        seed: int,
        publish: Publish,
        publish_rider: PublishRider,
        wake: Wake,
    ) -> None:
        self._plane, self._city = scenario.plane, scenario.city.name
        self._publish, self._publish_rider, self._wake = publish, publish_rider, wake
        self._jobs: dict[str, _Job] = {}
        self._seats = [_seat(row, scenario, m, law, seed) for row, m in enumerate(crew)]
        self._seat_of = {seat.rider.id: seat for seat in self._seats}
        ids = tuple(self._seat_of)
        fix_ms = int(scenario.riders.fix_s * 1000)
        self._fleet = Fleet(ids, scenario.plane, fix_ms)
        self._minds_places = minds_places(scenario.riders)
        self.placed = self.live = 0
        self.ended: Counter[OrderState] = Counter()
        self.refused: Counter[tuple[str, str]] = Counter()

    def start(self) -> None:
        """Asks the driver to come back at the start of every rider's shift."""
        for seat in self._seats:
            self._follow(seat)

    # --- what the driver brings about ---

    def customer_due(self, mind: CustomerMind, now_ms: int) -> None:
        """The customer does what is due."""
        for action in mind.act(now_ms):
            if isinstance(action, PlaceOrder):
                self._place(mind, action.request, now_ms)
            else:
                cancel = c.Cancel(at_ms=now_ms, by=Party.CUSTOMER, reason=action.reason)
                self.ask(mind.request.order_id, cancel)

    def rider_due(self, row: int, now_ms: int) -> None:
        """The rider does what is due; nothing when he was woken for something that is over, and
        nothing that anybody hears of while his phone is dead."""
        seat = self._seats[row]
        if now_ms < seat.silent_ms:
            self._wake(row, seat.silent_ms)
            return
        due_ms = seat.mind.due_ms
        if due_ms is None or due_ms > now_ms:
            return
        seat.woken_ms = None
        for action in seat.mind.act(now_ms):
            _CARRY_OUT[type(action)](self, seat, action, now_ms)
        self._follow(seat)

    def ask(self, order_id: str, command: c.Command) -> Refusal | None:
        """Applies a command and tells everybody; the refusal when it changes nothing."""
        job = self._jobs.get(order_id)
        if job is None:
            return self._refuse(command, Refusal("no_such_order", f"order {order_id} has ended"))
        answer = apply(job.order, command)
        if isinstance(answer, Refusal):
            return self._refuse(command, answer)
        for event in answer:
            before = job.order
            job.order = after = evolve(before, event)
            self._publish(event, after)
            tell = _TELL.get(type(event.fact))
            if tell is not None:
                tell(self, job, before, event)
        return None

    def _refuse(self, command: c.Command | c.RiderCommand, refusal: Refusal) -> Refusal:
        self.refused[type(command).__name__, refusal.code] += 1
        return refusal

    def known(self) -> Known:
        """What stands in the store, for a dispatcher that starts; everybody's fix follows."""
        self._fleet.send_again()
        on = (seat.rider for seat in self._seats if seat.rider.state is RiderState.ON)
        return Known(orders=tuple(job.order for job in self._jobs.values()), riders=tuple(on))

    def silence(self, row: int, until_ms: int) -> None:
        """The rider's phone is dead until then."""
        seat = self._seats[row]
        seat.silent_ms = max(seat.silent_ms, until_ms)
        self._fleet.silence(row, until_ms)

    def set_clocks(self, off_ms: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """How far the clock of each rider's phone is ahead of the true time."""
        self._fleet.set_clocks(off_ms)
        for seat, off in zip(self._seats, off_ms.tolist(), strict=True):
            seat.off_ms = off

    def fixes(self, now_ms: int) -> Fixes | None:
        """What the riders' phones have read since the last call, the latest of each."""
        return self._fleet.fixes(now_ms)

    # --- going on from a recording ---

    def adopt(self, order: Order, customer: CustomerMind) -> None:
        """A live order as it stands; who has it is to be resumed after."""
        job = self._take_in(order, customer)
        if order.assignment is not None:
            job.ahead = [self._ahead(job, i) for i in range(len(order.stops))]

    def resume(
        self,
        rider: Rider,
        seen: tuple[float, float, int],
        since_ms: int,
        route: list[RouteStop],
        now_ms: int,
    ) -> None:
        """The rider is on shift and has accepted the orders of his route, as `RiderMind.resume`."""
        seat = self._seat_of[rider.id]
        seat.rider, seat.route, seat.held = rider, list(route), {at.order_id for at in route}
        ahead = [self._jobs[at.order_id].ahead[at.stop] for at in route]
        seat.mind.resume(now_ms, seen, since_ms, ahead)
        self._fleet.switch(seat.row, True, now_ms)
        self._follow(seat)

    def offer_again(self, order: Order, now_ms: int) -> None:
        """The rider has not answered the order's live offer yet."""
        live = order.assignment
        assert live is not None
        seat = self._seat_of[live.rider_id]
        offer = OfferSeen(order_id=order.id, number=live.number, deadline_ms=live.deadline_ms)
        seat.mind.offered(now_ms, offer)
        self._follow(seat)

    def next_shift(self, member: Member) -> None:
        """The rider has one more shift, see `RiderMind.next_shift`."""
        seat = self._seat_of[member.rider.id]
        seat.member = member
        seat.mind.next_shift(member.x, member.y, member.shift_start_ms, member.shift_end_ms)
        self._follow(seat)

    # --- carrying out ---

    def _place(self, mind: CustomerMind, request: OrderRequest, now_ms: int) -> None:
        order = request.given or self._ordered(request, now_ms)
        self._take_in(order, mind)
        self.placed += 1
        self.ask(order.id, c.Confirm(at_ms=now_ms, open_at_ms=order.open_at_ms))

    def _ordered(self, request: OrderRequest, now_ms: int) -> Order:
        kind = job_type(request.job_type)
        quote = _quoted(kind, request, now_ms)
        return kind.order(request.order_id, self._city, request.form, quote, now_ms)

    def _take_in(self, order: Order, mind: CustomerMind) -> _Job:
        job = self._jobs[order.id] = _Job(order, mind)
        self.live += 1
        return job

    def _report(self, seat: _Seat, action: Report, now_ms: int) -> None:
        device_ms = now_ms + seat.off_ms if seat.off_ms else None
        report = _REPORTS[action.state]
        rider_id, stop = seat.rider.id, action.stop
        self.ask(
            action.order_id,
            report(at_ms=now_ms, rider_id=rider_id, stop=stop, device_ms=device_ms),
        )

    def _answer(self, seat: _Seat, action: Answer, now_ms: int) -> None:
        rider_id, number = seat.rider.id, action.number
        answer: c.Command
        if action.accept:
            answer = c.Accept(at_ms=now_ms, rider_id=rider_id, number=number)
        else:
            reason = action.reason
            answer = c.Decline(at_ms=now_ms, rider_id=rider_id, number=number, reason=reason)
        if self.ask(action.order_id, answer) is not None:
            seat.mind.offer_over(action.order_id, number)

    def _start_shift(self, seat: _Seat, action: StartShift, now_ms: int) -> None:
        place, end_ms = seat.member.place, action.shift_end_ms
        if seat.rider.version:  # he comes back from a break
            lat, lon = self._plane.lat_lon(*seat.mind.position(now_ms))
            place = Place(lat=float(lat), lon=float(lon))
        self._ask_rider(seat, c.GoOnShift(at_ms=now_ms, shift_end_ms=end_ms, place=place))

    def _end_shift(self, seat: _Seat, action: EndShift, now_ms: int) -> None:
        self._ask_rider(seat, c.GoOffShift(at_ms=now_ms))

    def _ask_rider(self, seat: _Seat, command: c.RiderCommand) -> None:
        answer = apply_rider(seat.rider, command, len(seat.held))
        if isinstance(answer, Refusal):
            self._refuse(command, answer)
            return
        for event in answer:
            seat.rider = evolve_rider(seat.rider, event)
            self._publish_rider(event)
        self._fleet.switch(seat.row, isinstance(command, c.GoOnShift), command.at_ms)

    # --- telling: what the rider and the customer hear of an event, by its fact ---

    def _offered(self, job: _Job, before: Order, event: e.Event) -> None:
        fact: Any = event.fact
        seat = self._seat_of[fact.rider_id]
        number, deadline_ms = fact.number, fact.deadline_ms
        pickup = None
        if self._minds_places:
            there = job.order.stops[0].place
            pickup = self._plane.xy(there.lat, there.lon)
        offer = OfferSeen(
            order_id=event.order_id, number=number, deadline_ms=deadline_ms, pickup=pickup
        )
        seat.mind.offered(event.at_ms, offer)
        self._follow(seat)

    def _took(self, job: _Job, before: Order, event: e.Event) -> None:
        """The rider has one order more: his route is as the offer told it.

        Stops of orders that he has not accepted, or has served meanwhile, are left out; what he
        has and the offer does not name comes last.
        """
        order_id, live = event.order_id, job.order.assignment
        assert live is not None
        seat = self._seat_of[live.rider_id]
        seat.held.add(order_id)
        job.ahead = [self._ahead(job, i) for i in range(len(job.order.stops))]
        mine = seat.route
        own = [r for r in live.route if r.order_id == order_id or r in mine]
        seat.route = own + [r for r in mine if r not in own]
        self._show_route(seat, event.at_ms)

    def _served(self, job: _Job, before: Order, event: e.Event) -> None:
        fact: Any = event.fact
        route = self._seat_of[fact.rider_id].route
        route.remove(RouteStop(order_id=event.order_id, stop=fact.stop))
        job.customer.settled()

    def _returns(self, job: _Job, before: Order, event: e.Event) -> None:
        """The goods of an order go back, before everything else."""
        fact: Any = event.fact
        seat, last = self._seat_of[fact.rider_id], len(job.order.stops) - 1
        job.ahead.append(self._ahead(job, last))
        back = RouteStop(order_id=event.order_id, stop=last)
        seat.route = [back, *(r for r in seat.route if r.order_id != event.order_id)]
        self._show_route(seat, event.at_ms)

    def _lost(self, job: _Job, before: Order, event: e.Event) -> None:
        """The attempt is over: declined, timed out, taken back, or served to its end."""
        live = before.assignment
        if live is None or job.order.assignment is not None:
            return
        seat, order_id = self._seat_of[live.rider_id], event.order_id
        if live.state is _OFFERED:
            seat.mind.offer_over(order_id, live.number)
            self._follow(seat)
            return
        seat.held.discard(order_id)
        if not isinstance(event.fact, e.Finished | e.Returned):
            seat.route = [r for r in seat.route if r.order_id != order_id]
            self._show_route(seat, event.at_ms)

    def _over(self, job: _Job, before: Order, event: e.Event) -> None:
        """Done orders wait for their confirmation; the others are forgotten."""
        self._lost(job, before, event)
        state = job.order.state
        job.customer.settled()
        if before.state is _DONE:
            self.ended[_DONE] -= 1
        else:
            self.live -= 1
        self.ended[state] += 1
        if state is not _DONE:
            del self._jobs[event.order_id]

    # --- routes ---

    def _show_route(self, seat: _Seat, now_ms: int) -> None:
        jobs = self._jobs
        seat.mind.route(now_ms, [jobs[r.order_id].ahead[r.stop] for r in seat.route])
        self._follow(seat)

    def _ahead(self, job: _Job, index: int) -> StopAhead:
        """The stop as the rider hears of it when it becomes his; what he has reported since is
        more than what it says."""
        order = job.order
        stop, live = order.stops[index], order.assignment
        assert live is not None
        request, ready_ms = job.customer.request, stop.earliest_ms or 0
        if index == 0:
            ready_ms = max(ready_ms, request.ready_ms)
        last = index == len(request.form.stops) - 1
        x, y = self._plane.xy(stop.place.lat, stop.place.lon)
        return StopAhead(
            order_id=order.id,
            stop=index,
            number=live.number,
            kind=stop.kind,
            x=x,
            y=y,
            ready_ms=ready_ms,
            approach_ms=stop.approach_ms,
            leave_ms=stop.leave_ms,
            place_id=stop.place_id,
            state=stop.state,
            no_answer_ms=request.no_answer_ms if last else None,
        )

    def _follow(self, seat: _Seat) -> None:
        """Takes over the rider's path, and asks to be woken when he next has something to do."""
        mind = seat.mind
        if mind.path is not seat.path:
            seat.path = mind.path
            self._fleet.follow(seat.row, mind.path)
        due_ms = mind.due_ms
        if due_ms is not None and due_ms != seat.woken_ms:
            self._wake(seat.row, due_ms)
        seat.woken_ms = due_ms


_CARRY_OUT: dict[type, Callable[[World, _Seat, Any, int], None]] = {
    Report: World._report,
    Answer: World._answer,
    StartShift: World._start_shift,
    EndShift: World._end_shift,
}
_TELL: dict[type, Callable[[World, _Job, Order, e.Event], None]] = {
    e.Offered: World._offered,
    e.Accepted: World._took,
    e.StopDone: World._served,
    e.ReturnAdded: World._returns,
    e.Declined: World._lost,
    e.TimedOut: World._lost,
    e.Withdrawn: World._lost,
    e.Dropped: World._lost,
    e.Finished: World._over,
    e.Completed: World._over,
    e.Cancelled: World._over,
    e.Expired: World._over,
    e.Returned: World._over,
    e.Failed: World._over,
}
_Reported = c.Head | c.Arrive | c.FinishStop | c.FailStop
_REPORTS: dict[StopState, Callable[..., _Reported]] = {
    StopState.HEADING: c.Head,
    StopState.ARRIVED: c.Arrive,
    StopState.DONE: c.FinishStop,
    StopState.FAILED: partial(c.FailStop, reason=UNREACHABLE),
}


def _quoted(kind: JobType, request: OrderRequest, now_ms: int) -> Quote:
    """What the job type asks and promises; what a real day has promised stands instead.

    A real day has orders that the job type would refuse today, such as too long a way: they were
    taken, so they are, without a price.
    """
    promise_ms = request.promise_ms
    try:
        quote = kind.quote(request.form, now_ms)
    except InvalidValue:
        if promise_ms is None:
            raise
        return Quote(lines=(), promise_from_ms=promise_ms, promise_to_ms=promise_ms)
    if promise_ms is None:
        return quote
    from_ms = promise_ms - (quote.promise_to_ms - quote.promise_from_ms)
    return replace(quote, promise_from_ms=from_ms, promise_to_ms=promise_ms)


def _seat(row: int, scenario: Scenario, member: Member, law: TravelLaw, seed: int) -> _Seat:
    rider = member.rider
    mind = RiderMind(
        knobs=scenario.riders,
        law=law,
        speed_mps=rider.speed_mps * member.pace,
        x=member.x,
        y=member.y,
        shift_start_ms=member.shift_start_ms,
        shift_end_ms=member.shift_end_ms,
        rng=stream(seed, "rider", rider.id),
        manners=manners_of(scenario.riders, member, seed),
    )
    return _Seat(row, member, rider, mind)
