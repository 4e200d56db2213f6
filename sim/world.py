"""The simulated world: orders, riders and customers, changed by `apply` alone; holds no clock.

A driver says what time it is and what is due; the world asks the minds, applies what they want
with the engine's own transitions, publishes the events and tells the minds what they would hear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from dispatch import commands as c
from dispatch import events as e
from dispatch.dispatcher import Fixes, Known
from dispatch.lifecycle import ORDER, STOP
from dispatch.model import (
    AssignmentState,
    Order,
    OrderState,
    Party,
    Rider,
    RiderState,
    RouteStop,
    StopState,
)
from dispatch.registry import job_type
from dispatch.transitions import Refusal, apply, apply_rider, evolve, evolve_rider
from geo.motion import Path
from geo.travel import TravelLaw
from sim.behaviour import (
    Action,
    Answer,
    CustomerMind,
    EndShift,
    OfferSeen,
    PlaceOrder,
    Report,
    RiderMind,
    StartShift,
    StopAhead,
)
from sim.crew import Member
from sim.demand import OrderRequest
from sim.fleet import Fleet
from sim.scenario import Scenario
from sim.streams import stream

Publish = Callable[[e.Event | e.RiderEvent], None]
Wake = Callable[[int, int], None]
"""(rider row, at_ms): come back to the rider then."""


@dataclass(slots=True)
class _Seat:
    """A rider's record and mind, and what he has accepted: orders, and the stops still to serve.

    `woken_ms` is when the driver was last asked to come back, `path` what the fleet follows. His
    phone is dead until `silent_ms`, and its clock is `off_ms` ahead.
    """

    member: Member
    rider: Rider
    mind: RiderMind
    held: set[str] = field(default_factory=set)
    route: list[RouteStop] = field(default_factory=list)
    woken_ms: int | None = None
    path: Path | None = None
    silent_ms: int = 0
    off_ms: int = 0


@dataclass(slots=True)
class _Job:
    """A live order, who placed it, and its stops' places in metres."""

    order: Order
    customer: CustomerMind
    places: list[tuple[float, float]]


class World:
    """`publish` gets every event at once, in order; `wake` is asked to come back to a rider.

    `refused` counts commands that changed nothing, by (command, code); `ended` the orders that
    have ended or are done, by state; `placed` all orders so far.
    """

    def __init__(
        self,
        scenario: Scenario,
        crew: Iterable[Member],
        law: TravelLaw,
        seed: int,
        publish: Publish,
        wake: Wake,
    ) -> None:
        self._plane, self._city = scenario.plane, scenario.city.name
        self._publish, self._wake = publish, wake
        self._jobs: dict[str, _Job] = {}
        self._seats = [_seat(scenario, member, law, seed) for member in crew]
        ids = tuple(seat.rider.id for seat in self._seats)
        self._row = {rider_id: row for row, rider_id in enumerate(ids)}
        fix_ms = int(scenario.riders.fix_s * 1000)
        self._fleet = Fleet(ids, scenario.plane, fix_ms, scenario.start_ms)
        self.placed = self.adopted = 0
        self.ended: Counter[OrderState] = Counter()
        self.refused: Counter[tuple[str, str]] = Counter()

    def start(self) -> None:
        """Asks the driver to come back at the start of every rider's shift."""
        for row in range(len(self._seats)):
            self._follow(row)

    @property
    def live(self) -> int:
        """Orders that are neither done nor ended."""
        return self.placed + self.adopted - sum(self.ended.values())

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
        due_ms = seat.mind.wake_at()
        if due_ms is None or due_ms > now_ms:
            return
        seat.woken_ms = None
        for action in seat.mind.act(now_ms):
            self._carry_out(seat, action, now_ms)
        self._follow(row)

    def ask(self, order_id: str, command: c.Command) -> Refusal | None:
        """Applies a command and tells everybody; the refusal when it changes nothing."""
        job = self._jobs.get(order_id)
        answer = (
            Refusal("no_such_order", f"order {order_id} has ended")
            if job is None
            else apply(job.order, command)
        )
        if isinstance(answer, Refusal):
            self.refused[type(command).__name__, answer.code] += 1
            return answer
        assert job is not None
        for event in answer:
            before = job.order
            job.order = evolve(before, event)
            self._publish(event)
            self._tell(job, before, event)
        return None

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
        """What the riders' phones have sent since the last call, the latest of each."""
        return self._fleet.fixes(now_ms)

    # --- going on from a recording ---

    def adopt(self, order: Order, customer: CustomerMind) -> None:
        """A live order as it stands; who has it is to be resumed after."""
        self._take_in(order, customer)
        self.adopted += 1

    def resume(
        self,
        rider: Rider,
        seen: tuple[float, float, int],
        since_ms: int,
        route: list[RouteStop],
        now_ms: int,
    ) -> None:
        """The rider is on shift and has accepted the orders of his route, as `RiderMind.resume`."""
        row = self._row[rider.id]
        seat = self._seats[row]
        seat.rider, seat.route, seat.held = rider, list(route), {at.order_id for at in route}
        seat.mind.resume(now_ms, seen, since_ms, [self._ahead(at) for at in route])
        self._fleet.switch(row, True, now_ms)
        self._follow(row)

    def offer_again(self, order: Order, now_ms: int) -> None:
        """The rider has not answered the order's live offer yet."""
        assert order.assignment is not None
        number, deadline_ms = order.assignment.number, order.assignment.deadline_ms
        row = self._row[order.assignment.rider_id]
        offer = OfferSeen(order_id=order.id, number=number, deadline_ms=deadline_ms)
        self._seats[row].mind.offered(now_ms, offer)
        self._follow(row)

    def next_shift(self, member: Member) -> None:
        """The rider has one more shift, see `RiderMind.next_shift`."""
        row = self._row[member.rider.id]
        seat = self._seats[row]
        seat.member = member
        seat.mind.next_shift(member.x, member.y, member.shift_start_ms, member.shift_end_ms)
        self._follow(row)

    # --- carrying out ---

    def _place(self, mind: CustomerMind, request: OrderRequest, now_ms: int) -> None:
        order = request.given or self._ordered(request, now_ms)
        self._take_in(order, mind)
        self.placed += 1
        self.ask(order.id, c.Confirm(at_ms=now_ms, open_at_ms=order.open_at_ms))

    def _ordered(self, request: OrderRequest, now_ms: int) -> Order:
        kind = job_type(request.job_type)
        quote = kind.quote(request.form, now_ms)
        if request.promise_ms is not None:
            width_ms = quote.promise_to_ms - quote.promise_from_ms
            quote = replace(
                quote,
                promise_from_ms=request.promise_ms - width_ms,
                promise_to_ms=request.promise_ms,
            )
        return kind.order(request.order_id, self._city, request.form, quote, now_ms)

    def _take_in(self, order: Order, mind: CustomerMind) -> None:
        places = [self._plane.xy(s.place.lat, s.place.lon) for s in order.stops]
        self._jobs[order.id] = _Job(order, mind, places)

    def _carry_out(self, seat: _Seat, action: Action, now_ms: int) -> None:
        rider_id = seat.rider.id
        if isinstance(action, Report):
            report = _REPORTS[action.state]
            device_ms = now_ms + seat.off_ms if seat.off_ms else None
            self.ask(
                action.order_id,
                report(at_ms=now_ms, rider_id=rider_id, stop=action.stop, device_ms=device_ms),
            )
        elif isinstance(action, Answer):
            answer: c.Command
            if action.accept:
                answer = c.Accept(at_ms=now_ms, rider_id=rider_id, number=action.number)
            else:
                answer = c.Decline(
                    at_ms=now_ms, rider_id=rider_id, number=action.number, reason=action.reason
                )
            if self.ask(action.order_id, answer) is not None:
                seat.mind.offer_over(action.order_id, action.number)
        elif isinstance(action, StartShift):
            place, end_ms = seat.member.place, action.shift_end_ms
            self._ask_rider(seat, c.GoOnShift(at_ms=now_ms, shift_end_ms=end_ms, place=place))
        else:
            assert isinstance(action, EndShift)
            self._ask_rider(seat, c.GoOffShift(at_ms=now_ms))

    def _ask_rider(self, seat: _Seat, command: c.RiderCommand) -> None:
        answer = apply_rider(seat.rider, command, len(seat.held))
        if isinstance(answer, Refusal):
            self.refused[type(command).__name__, answer.code] += 1
            return
        for event in answer:
            seat.rider = evolve_rider(seat.rider, event)
            self._publish(event)
        on = isinstance(command, c.GoOnShift)
        self._fleet.switch(self._row[seat.rider.id], on, command.at_ms)

    # --- telling ---

    def _tell(self, job: _Job, before: Order, event: e.Event) -> None:
        """What the rider and the customer hear of an event."""
        fact, order = event.fact, job.order
        live = before.assignment
        if isinstance(fact, e.Offered):
            seat = self._seats[self._row[fact.rider_id]]
            number, deadline_ms = fact.number, fact.deadline_ms
            offer = OfferSeen(order_id=order.id, number=number, deadline_ms=deadline_ms)
            seat.mind.offered(event.at_ms, offer)
            self._follow(self._row[fact.rider_id])
        elif isinstance(fact, e.Accepted):
            assert order.assignment is not None
            self._took(job, fact.rider_id, order.assignment.route, event.at_ms)
        elif isinstance(fact, e.StopDone):
            seat = self._seats[self._row[fact.rider_id]]
            seat.route.remove(RouteStop(order_id=order.id, stop=fact.stop))
            job.customer.settled()
        elif isinstance(fact, e.ReturnAdded):
            self._returns(job, fact.rider_id, event.at_ms)
        elif live is not None and order.assignment is None:
            self._lost(order.id, live.number, live.rider_id, live.state, event)
        if isinstance(fact, _ENDS):
            self._over(job, before)

    def _took(self, job: _Job, rider_id: str, told: tuple[RouteStop, ...], now_ms: int) -> None:
        """The rider has one order more: his route is as the offer told it.

        Stops of orders that he has not accepted, or has served meanwhile, are left out; what he
        has and the offer does not name comes last.
        """
        row = self._row[rider_id]
        seat = self._seats[row]
        seat.held.add(job.order.id)
        mine = set(seat.route)
        own = [r for r in told if r in mine or r.order_id == job.order.id]
        seat.route = own + [r for r in seat.route if r not in set(own)]
        self._show_route(row, now_ms)

    def _returns(self, job: _Job, rider_id: str, now_ms: int) -> None:
        """The goods of an order go back, before everything else."""
        row, order = self._row[rider_id], job.order
        seat = self._seats[row]
        stop = order.stops[-1]
        job.places.append(self._plane.xy(stop.place.lat, stop.place.lon))
        back = RouteStop(order_id=order.id, stop=len(order.stops) - 1)
        seat.route = [back, *(r for r in seat.route if r.order_id != order.id)]
        self._show_route(row, now_ms)

    def _lost(
        self, order_id: str, number: int, rider_id: str, state: AssignmentState, event: e.Event
    ) -> None:
        """The attempt is over: declined, timed out, taken back, or served to its end."""
        row = self._row[rider_id]
        seat = self._seats[row]
        if state is AssignmentState.OFFERED:
            seat.mind.offer_over(order_id, number)
            self._follow(row)
            return
        seat.held.discard(order_id)
        if not isinstance(event.fact, e.Finished | e.Returned):
            seat.route = [r for r in seat.route if r.order_id != order_id]
            self._show_route(row, event.at_ms)

    def _over(self, job: _Job, before: Order) -> None:
        """Done orders wait for their confirmation; the others are forgotten."""
        state = job.order.state
        job.customer.settled()
        if before.state is OrderState.DONE:
            self.ended[OrderState.DONE] -= 1
        self.ended[state] += 1
        if ORDER.ended(state):
            del self._jobs[job.order.id]

    def _show_route(self, row: int, now_ms: int) -> None:
        seat = self._seats[row]
        seat.mind.route(now_ms, [self._ahead(r) for r in seat.route])
        self._follow(row)

    def _ahead(self, at: RouteStop) -> StopAhead:
        job = self._jobs[at.order_id]
        order = job.order
        stop, live = order.stops[at.stop], order.assignment
        assert live is not None
        assert not STOP.ended(stop.state)
        ready_ms = stop.earliest_ms or 0
        if at.stop == 0:
            ready_ms = max(ready_ms, job.customer.request.ready_ms)
        x, y = job.places[at.stop]
        return StopAhead(
            order_id=order.id,
            stop=at.stop,
            number=live.number,
            kind=stop.kind,
            x=x,
            y=y,
            ready_ms=ready_ms,
            approach_ms=stop.approach_ms,
            leave_ms=stop.leave_ms,
            place_id=stop.place_id,
            state=stop.state,
        )

    def _follow(self, row: int) -> None:
        """Takes over the rider's path, and asks to be woken when he next has something to do."""
        seat = self._seats[row]
        if seat.mind.path is not seat.path:
            seat.path = seat.mind.path
            self._fleet.follow(row, seat.path)
        due_ms = seat.mind.wake_at()
        if due_ms is not None and due_ms != seat.woken_ms:
            self._wake(row, due_ms)
        seat.woken_ms = due_ms


_ENDS = (e.Finished, e.Completed, e.Cancelled, e.Expired, e.Returned, e.Failed)
_REPORTS: dict[StopState, type[c.Head] | type[c.Arrive] | type[c.FinishStop]] = {
    StopState.HEADING: c.Head,
    StopState.ARRIVED: c.Arrive,
    StopState.DONE: c.FinishStop,
}


def _seat(scenario: Scenario, member: Member, law: TravelLaw, seed: int) -> _Seat:
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
    )
    return _Seat(member, rider, mind)
