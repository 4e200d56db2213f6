"""What riders do, without I/O: the simulator and live bots drive the same minds.

A driver tells a mind what its rider hears of, asks `wake_at` when to come back, and carries out
what `act` gives. Places are metres in the city's plane, instants ms UTC.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dispatch.model import StopKind, StopState, Value
from geo.arcs import arc_ms
from geo.motion import leg, stand
from geo.travel import TravelLaw
from sim.manners import Manners
from sim.scenario import RiderKnobs

_arc_ms = getattr(arc_ms, "py_func", arc_ms)  # to call a kernel takes longer than this one works
_SURE_SHARE = 1 / 3
"""The part of a rider's mean answer time that passes before every answer; the rest is chance."""


class OfferSeen(Value, frozen=True, kw_only=True):
    """An offer as it shows on the rider's phone; its `pickup` for who minds where it is."""

    order_id: str
    number: int
    deadline_ms: int
    pickup: tuple[float, float] | None = None


class StopAhead(Value, frozen=True, kw_only=True):
    """A stop that the rider still has to serve, under attempt `number` of its order.

    `ready_ms` is when he can be served there at the earliest, in truth (0: at once); `state` is
    what the server knows of it. `place_id` is empty for a door that is nobody's. `no_answer_ms` is
    how long the rider waits at a door to which nobody comes.
    """

    order_id: str
    stop: int
    number: int
    kind: StopKind
    x: float
    y: float
    ready_ms: int = 0
    approach_ms: int = 0
    leave_ms: int = 0
    place_id: str = ""
    state: StopState = StopState.PLANNED
    no_answer_ms: int | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        return self.order_id, self.number, self.stop


class StartShift(Value, frozen=True, kw_only=True):
    shift_end_ms: int


class EndShift(Value, frozen=True, kw_only=True):
    pass


class Answer(Value, frozen=True, kw_only=True):
    order_id: str
    number: int
    accept: bool
    reason: str = ""


class Report(Value, frozen=True, kw_only=True):
    """The rider is `heading` to a stop, has `arrived` there, or is `done` with it; or it has
    `failed`, because nobody was there."""

    order_id: str
    stop: int
    state: StopState


Action = StartShift | EndShift | Answer | Report


class Fix(Value, frozen=True, kw_only=True):
    """One GPS reading: metres in the plane, and the speed over ground."""

    at_ms: int
    x: float
    y: float
    speed_mps: float


# What he is about, and his shift: numbers, since they are looked at several times an event.
_STANDING = 0  # nothing to do
_LEAVING = 1  # done here; on his way from `_due_ms`
_GOING = 2  # there at `_due_ms`
_AT_STOP = 3  # can act at `_due_ms`
_BEFORE, _ON, _PAUSE, _OFF = range(4)

_RANK = {StopState.PLANNED: 0, StopState.HEADING: 1, StopState.ARRIVED: 2, StopState.DONE: 3}
UNREACHABLE = "customer_unreachable"
"""Why a stop at a door fails to which nobody comes."""
_HEADING, _ARRIVED, _DONE = 1, 2, 3
_STATE = tuple(_RANK)


class _Ahead:
    """A stop on his route, and how far it is: what he has reported or was told, whichever is
    more."""

    __slots__ = ("known", "stop")

    def __init__(self, stop: StopAhead, known: int) -> None:
        self.stop, self.known = stop, known


class RiderMind:
    """One rider from the start of his shift to its end.

    He answers offers after a while (or never), rides to the first stop of his route in the law's
    way, arrives, acts when he and the goods are ready, leaves, and rides on. He is diverted while
    riding when the route's first stop becomes another, but serves a stop at which he has arrived,
    or reports it as failed where nobody comes to the door. Stops of one kind in a row at one door
    take one approach and one leave. After the end of his shift he takes nothing more, and goes off
    when he has nothing left; for a break he goes off and comes back.

    `due_ms` is when `act` has something to do, ms UTC; None while only news can move him. `path` is
    where he was and will be, replaced whenever he sets out, stops or is diverted.
    """

    __slots__ = (
        "_accepted",
        "_answers",
        "_arrived_ms",
        "_deadline",
        "_due_ms",
        "_knobs",
        "_law",
        "_manners",
        "_ms_per_m",
        "_phase",
        "_rng",
        "_route",
        "_same_door",
        "_served",
        "_shift",
        "_shift_end_ms",
        "_shift_start_ms",
        "due_ms",
        "path",
    )

    def __init__(
        self,
        *,
        knobs: RiderKnobs,
        law: TravelLaw,
        speed_mps: float,
        x: float,
        y: float,
        shift_start_ms: int,
        shift_end_ms: int,
        rng: np.random.Generator,
        manners: Manners | None = None,
    ) -> None:
        self._knobs, self._law, self._rng, self._manners = knobs, law, rng, manners
        self._ms_per_m = law.ms_per_m(speed_mps)
        self._shift = _BEFORE
        self._shift_start_ms, self._shift_end_ms = shift_start_ms, shift_end_ms
        # Offers by (order, number): until when, and what he will say when, if he says anything.
        self._deadline: dict[tuple[str, int], int] = {}
        self._answers: dict[tuple[str, int], tuple[int, bool, str]] = {}
        self._accepted: set[str] = set()
        self._route: list[_Ahead] = []
        self._served: set[tuple[str, int, int]] = set()  # the keys of what he has done, for a while
        self._phase = _STANDING
        self._due_ms = 0
        self._arrived_ms = 0
        self._same_door = False
        self.path = stand(x, y, shift_start_ms)
        self.due_ms: int | None = shift_start_ms

    # --- what he hears ---

    def offered(self, now_ms: int, offer: OfferSeen) -> None:
        """An offer arrives; one he already knows changes nothing."""
        key = offer.order_id, offer.number
        if self._shift != _ON or key in self._deadline:
            return
        self._deadline[key] = offer.deadline_ms
        mood, wait = self._rng.random(), self._rng.exponential()
        knobs = self._knobs
        delay_s = knobs.answer_s * (_SURE_SHARE + (1.0 - _SURE_SHARE) * wait)
        at_ms = now_ms + int(delay_s * 1000)
        share, manners = knobs.accept_share, self._manners
        if manners is not None:
            share = manners.accept_share(now_ms, self.path.at(now_ms), offer.pickup)
        if mood < share:
            self._answers[key] = (at_ms, True, "")
        elif not knobs.accept_share <= mood < knobs.accept_share + knobs.ignore_share:
            self._answers[key] = (at_ms, False, "busy")
        self._look_ahead()

    def offer_over(self, order_id: str, number: int) -> None:
        """The offer timed out, was taken back, or his answer came too late."""
        self._forget_offer((order_id, number))
        self._accepted.discard(order_id)
        self._look_ahead()

    def route(self, now_ms: int, stops: Iterable[StopAhead]) -> None:
        """His whole route as the server has it now, first stop first.

        What he has reported meanwhile counts more than what the server knew when it sent this.
        """
        told = self._still_to_serve(stops)
        first = told[0] if told else None
        if self._phase == _AT_STOP:
            told = self._staying(now_ms, told)
        elif self._phase == _GOING:
            here = self._route[0]
            if first is None or not _same_stop(first.stop, here.stop):
                self._stand(now_ms, *self.path.at(now_ms))
                self._turn_away(now_ms)
        elif self._phase == _STANDING and told:
            self._turn_away(now_ms)
        self._route = told
        self._look_ahead()

    def resume(
        self, now_ms: int, seen: tuple[float, float, int], since_ms: int, stops: list[StopAhead]
    ) -> None:
        """He is on shift and under way already, as a recording left him.

        `seen` is where he was last (x, y, ms), `stops` his route; since `since_ms` he stands at the
        first stop if he has arrived there, or is done with the one before.
        """
        x, y, seen_ms = seen
        self._shift, self._route = _ON, self._still_to_serve(stops)
        self._stand(seen_ms, x, y)
        if self._route:
            first = self._route[0]
            if first.known == _ARRIVED:
                self._stand(since_ms, first.stop.x, first.stop.y)
                self._phase = _AT_STOP
                self._arrived_ms = since_ms + self._service_ms(first.stop.approach_ms)
                self._due_ms = max(self._arrived_ms, first.stop.ready_ms)
            else:
                self._phase, self._due_ms = _LEAVING, max(seen_ms, since_ms)
                if first.known == _HEADING:
                    self._set_out([])
            self._due_ms = max(self._due_ms, now_ms)
        self._look_ahead()

    def next_shift(self, x: float, y: float, start_ms: int, end_ms: int) -> None:
        """He comes again, after a break; or stays for longer, if he has not gone yet."""
        self._shift_end_ms = end_ms
        if self._shift != _ON:
            self._shift, self._shift_start_ms, self.due_ms = _BEFORE, start_ms, start_ms
            self._stand(start_ms, x, y)
        self._look_ahead()

    # --- what he does ---

    def wake_at(self) -> int | None:
        """When `act` has something to do, ms UTC; None while only news can move him."""
        return self.due_ms

    def act(self, now_ms: int) -> list[Action]:
        """All that is due by now, in order."""
        done: list[Action] = []
        if self._shift in (_BEFORE, _PAUSE) and now_ms >= self._shift_start_ms:
            self._start(now_ms, done)
        if self._answers:
            self._answer(now_ms, done)
        while self._phase != _STANDING and self._due_ms <= now_ms:
            self._step(done)
        if now_ms >= self._shift_end_ms and self._may_go():
            self._shift = _OFF
            self._answers.clear()
            self._deadline.clear()
            done.append(EndShift())
        elif self._manners is not None:
            self._pause(now_ms, self._manners, done)
        self._look_ahead()
        return done

    def position(self, now_ms: int) -> tuple[float, float]:
        """(x, y) in metres."""
        return self.path.at(now_ms)

    def fix(self, now_ms: int) -> Fix:
        """What his phone reads now."""
        x, y = self.path.at(now_ms)
        speed = 0.0
        way = self.path
        if self._phase == _GOING and way.t0_ms <= now_ms < way.t2_ms:
            speed = way.metres * 1000 / (way.t2_ms - way.t0_ms)
        return Fix(at_ms=now_ms, x=x, y=y, speed_mps=speed)

    # --- inside ---

    def _look_ahead(self) -> None:
        """Keeps `due_ms` right; called at the end of all that may change it."""
        if self._shift in (_BEFORE, _PAUSE):
            self.due_ms = self._shift_start_ms
            return
        due: int | None = None
        if self._phase != _STANDING:
            due = self._due_ms
        elif self._may_go():
            due = self._shift_end_ms
            if self._manners is not None and not self._answers:
                due = min(due, self._manners.break_ms or due)
        if self._answers:
            for at_ms, _, _ in self._answers.values():
                if due is None or at_ms < due:
                    due = at_ms
        self.due_ms = due

    def _start(self, now_ms: int, done: list[Action]) -> None:
        if now_ms >= self._shift_end_ms:
            self._shift = _OFF
            return
        self._shift = _ON
        if self._manners is not None:
            self._manners.on_shift(now_ms)
        done.append(StartShift(shift_end_ms=self._shift_end_ms))

    def _pause(self, now_ms: int, manners: Manners, done: list[Action]) -> None:
        """Goes off for a break that is due once he has nothing to do or to answer; for good if his
        shift would be over before he is back."""
        due_ms = manners.break_ms
        if due_ms is None or now_ms < due_ms or self._answers or not self._may_go():
            return
        self._shift_start_ms = manners.break_end_ms(now_ms)
        self._shift = _PAUSE if self._shift_start_ms < self._shift_end_ms else _OFF
        self._deadline.clear()
        done.append(EndShift())

    def _may_go(self) -> bool:
        return self._shift == _ON and self._phase == _STANDING and not self._accepted

    def _answer(self, now_ms: int, done: list[Action]) -> None:
        due = [(at, key) for key, (at, _, _) in self._answers.items() if at <= now_ms]
        for _, key in sorted(due):
            _, accept, reason = self._answers[key]
            deadline_ms = self._deadline[key]
            self._forget_offer(key)
            if now_ms > deadline_ms:
                continue
            if accept and now_ms >= self._shift_end_ms:
                accept, reason = False, "shift_over"
            if accept:
                self._accepted.add(key[0])
            done.append(Answer(order_id=key[0], number=key[1], accept=accept, reason=reason))

    def _forget_offer(self, key: tuple[str, int]) -> None:
        self._answers.pop(key, None)
        self._deadline.pop(key, None)

    def _step(self, done: list[Action]) -> None:
        """One change of phase, at `_due_ms`."""
        if self._phase == _LEAVING:
            if self._route:
                self._set_out(done)
            else:
                self._phase = _STANDING
            return
        ahead = self._route[0]
        stop = ahead.stop
        if self._phase == _GOING:
            self._stand(self._due_ms, stop.x, stop.y)
            _report(ahead, _ARRIVED, done)
            self._phase = _AT_STOP
            self._arrived_ms = self._due_ms
            if not self._same_door:
                self._arrived_ms += self._service_ms(stop.approach_ms)
            self._due_ms = self._can_act_ms(stop)
            return
        _report(ahead, _DONE, done)
        self._served.add(stop.key)
        del self._route[0]
        self._phase = _LEAVING
        self._same_door = bool(self._route) and _one_door(stop, self._route[0].stop)
        if not self._same_door:
            self._due_ms += self._service_ms(stop.leave_ms)

    def _can_act_ms(self, stop: StopAhead) -> int:
        """When he has served the stop at which he stands, or has waited in vain."""
        return max(self._arrived_ms, stop.ready_ms) + (stop.no_answer_ms or 0)

    def _set_out(self, done: list[Action]) -> None:
        """From where he stands to the first stop."""
        ahead, law, at_ms = self._route[0], self._law, self._due_ms
        stop = ahead.stop
        x, y = self.path.x2, self.path.y2
        ms_per_m = self._ms_per_m
        if self._manners is not None:
            ms_per_m /= self._manners.pace(at_ms)
        there_ms = at_ms + _arc_ms(x, y, stop.x, stop.y, law.metric, ms_per_m, law.quantum_ms)
        self.path = leg(x, y, stop.x, stop.y, at_ms, there_ms, law.metric)
        self._phase, self._due_ms = _GOING, there_ms
        _report(ahead, _HEADING, done)

    def _still_to_serve(self, stops: Iterable[StopAhead]) -> list[_Ahead]:
        """What he has not served yet of a route that he is told, in an order that can be ridden."""
        known = {ahead.stop.key: ahead.known for ahead in self._route}
        told = []
        for stop in stops:
            key = stop.key
            far = max(known.get(key, 0), _RANK.get(stop.state, _DONE))
            if far != _DONE and key not in self._served:
                told.append(_Ahead(stop, far))
        ids = {ahead.stop.order_id for ahead in told}
        self._served = {key for key in self._served if key[0] in ids}
        self._accepted -= ids
        return _in_order(told)

    def _staying(self, now_ms: int, told: list[_Ahead]) -> list[_Ahead]:
        """The route with the stop at which he stands first; he leaves at once if it is gone."""
        key = self._route[0].stop.key
        here = next((ahead for ahead in told if ahead.stop.key == key), None)
        if here is None:
            self._turn_away(now_ms)
            return told
        self._due_ms = self._can_act_ms(here.stop)
        return [here, *(ahead for ahead in told if ahead is not here)]

    def _turn_away(self, now_ms: int) -> None:
        self._phase, self._due_ms, self._same_door = _LEAVING, now_ms, False

    def _stand(self, now_ms: int, x: float, y: float) -> None:
        self.path = stand(x, y, now_ms)

    def _service_ms(self, planned_ms: int) -> int:
        if not planned_ms:
            return 0
        knobs = self._knobs
        spread = 1.0 + knobs.service_spread * (2.0 * self._rng.random() - 1.0)
        return int(planned_ms * knobs.service_factor * spread)


def _report(ahead: _Ahead, state: int, done: list[Action]) -> None:
    if ahead.known < state:
        ahead.known = state
        stop = ahead.stop
        in_vain = state == _DONE and stop.no_answer_ms is not None
        told = StopState.FAILED if in_vain else _STATE[state]
        done.append(Report(order_id=stop.order_id, stop=stop.stop, state=told))


def _same_stop(a: StopAhead, b: StopAhead) -> bool:
    return a is b or (a.key, a.x, a.y) == (b.key, b.x, b.y)


def _one_door(a: StopAhead, b: StopAhead) -> bool:
    return bool(a.place_id) and (a.place_id, a.kind) == (b.place_id, b.kind)


def _in_order(route: list[_Ahead]) -> list[_Ahead]:
    """The route with each order's stops in their order, whatever the sender made of it."""
    last: dict[str, int] = {}
    for ahead in route:
        stop = ahead.stop
        if stop.stop < last.get(stop.order_id, -1):
            break
        last[stop.order_id] = stop.stop
    else:
        return route
    theirs: dict[str, list[_Ahead]] = {}
    for ahead in route:
        theirs.setdefault(ahead.stop.order_id, []).append(ahead)
    for own in theirs.values():
        own.sort(key=lambda ahead: ahead.stop.stop, reverse=True)
    return [theirs[ahead.stop.order_id].pop() for ahead in route]
