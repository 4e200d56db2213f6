"""Courier codes: one for each reachable order, final only at its end, as they are printed."""

import itertools

import numpy as np
import pytest

from dispatch import commands as c
from dispatch.codes import LISTS, codes_of, is_final, stage_of
from dispatch.lifecycle import ORDER
from dispatch.model import OrderState, Party, Stop, StopKind
from dispatch.transitions import Refusal, apply, fold

# From the couriers' public documents: wechat, dada, meituan, shansong, doordash. Where a list has
# no code of its own for a stage (None), the one of the stage before stands.
PRINTED = {
    "open": ("101", "1", "0", "20", "created"),
    "assigned": ("102", "2", "20", "30", "confirmed"),
    "at_pickup": ("201", "100", None, None, "arrived_at_pickup"),
    "picked_up": ("202", "3", "30", "40", "picked_up"),
    "to_door": ("301", "3", "30", "40", "picked_up"),
    "done": ("302", "4", "50", "50", "delivered"),
    "cancelled": ("103", "5", "99", "60", "cancelled"),
    "cancelled_at_pickup": ("203", "5", "99", "60", "cancelled"),
    "failed_rider": ("204", "5", "99", "60", None),
    "cancelled_system": ("501", "5", "99", "60", None),
    "expired": ("502", "5", "99", "60", None),
    "returning": ("303", "9", None, None, "return_initialized"),
    "returned": ("401", "10", None, None, "returned"),
}
FINAL = {
    "wechat": {"302", "103", "203", "204", "205", "401", "501", "502"},
    "dada": {"4", "5", "10"},
    "meituan": {"50", "99"},
    "shansong": {"50", "60"},
    "doordash": {"delivered", "cancelled", "returned"},
}
WHO = {"rider_id": "ann"}
OFFER = c.Offer(at_ms=2, rider_id="ann", deadline_ms=50, route=(), order_version=2)


def report(*stops):
    """Arrives at and finishes each stop."""
    return [cls(at_ms=5, stop=s, **WHO) for s in stops for cls in (c.Arrive, c.FinishStop)]


PLACED = [c.Confirm(at_ms=1)]
GIVEN = [*PLACED, OFFER, c.Accept(at_ms=3, number=1, **WHO)]
AT_PICKUP = [*GIVEN, c.Arrive(at_ms=4, stop=0, **WHO)]
PICKED_UP = [*GIVEN, *report(0)]
FAILED = [
    *PICKED_UP,
    c.Arrive(at_ms=6, stop=1, **WHO),
    c.FailStop(at_ms=7, stop=1, reason="", **WHO),
]
CANCEL = {by: c.Cancel(at_ms=8, by=by) for by in Party}
STORIES = [
    ("open", []),
    ("open", [c.Confirm(at_ms=1, open_at_ms=9)]),
    ("open", PLACED),
    ("open", [*PLACED, OFFER]),
    ("open", [*GIVEN, c.DropOut(at_ms=4, number=1, **WHO)]),
    ("assigned", GIVEN),
    ("assigned", [*GIVEN, c.Head(at_ms=4, stop=0, **WHO)]),
    ("at_pickup", AT_PICKUP),
    ("picked_up", PICKED_UP),
    ("to_door", [*PICKED_UP, c.Head(at_ms=6, stop=1, **WHO)]),
    ("to_door", [*PICKED_UP, c.Arrive(at_ms=6, stop=1, **WHO)]),
    ("done", [*GIVEN, *report(0, 1)]),
    ("done", [*GIVEN, *report(0, 1), c.Complete(at_ms=9)]),
    ("cancelled", [*PLACED, CANCEL[Party.CUSTOMER]]),
    ("cancelled", [*GIVEN, CANCEL[Party.MERCHANT]]),
    ("cancelled_at_pickup", [*AT_PICKUP, CANCEL[Party.MERCHANT]]),
    ("cancelled_at_pickup", [*AT_PICKUP, CANCEL[Party.CUSTOMER]]),
    ("cancelled_system", [*AT_PICKUP, CANCEL[Party.SYSTEM]]),
    ("expired", [*PLACED, c.Expire(at_ms=10**15)]),
    ("failed_rider", [*AT_PICKUP, c.FailStop(at_ms=5, stop=0, reason="", **WHO)]),
    ("returning", FAILED),
    ("returning", [*FAILED, c.Arrive(at_ms=8, stop=2, **WHO)]),
    ("returned", [*FAILED, *report(2)]),
]


@pytest.mark.parametrize(("stage", "commands"), STORIES)
def test_the_printed_codes(kit, stage, commands):
    order = kit.new_order()
    for command in commands:
        answer = apply(order, command)
        assert not isinstance(answer, Refusal), answer
        order = fold(order, answer)
    assert stage_of(order) == stage
    codes = codes_of(order)
    assert tuple(codes) == LISTS
    for name, printed in zip(LISTS, PRINTED[stage], strict=True):
        if printed is not None:
            assert codes[name] == printed


def test_every_stage_has_a_story():
    assert {stage for stage, _ in STORIES} == set(PRINTED)


def any_life(rng, order):
    """Orders as random commands make them, from the quote on."""
    lives = [order]
    for at_ms in range(1, 60):
        live = order.assignment
        number = live.number if live else 0
        who = live.rider_id if live else "ann"
        stop = int(rng.integers(len(order.stops)))
        party = list(Party)[int(rng.integers(4))]
        choices = [
            c.Confirm(at_ms=at_ms, open_at_ms=at_ms + int(rng.integers(2))),
            c.Open(at_ms=at_ms),
            c.Offer(
                at_ms=at_ms, rider_id="ann", deadline_ms=10**15, route=(),
                order_version=order.version,
            ),
            c.Decline(at_ms=at_ms, number=number, rider_id=who),
            c.DropOut(at_ms=at_ms, number=number, rider_id=who),
            c.FailStop(at_ms=at_ms, stop=stop, rider_id=who, reason=""),
            c.Cancel(at_ms=at_ms, by=party) if rng.random() < 0.1 else c.Open(at_ms=at_ms),
            c.Expire(at_ms=10**15) if rng.random() < 0.1 else c.Open(at_ms=at_ms),
            c.Complete(at_ms=at_ms),
            *[c.Accept(at_ms=at_ms, number=number, rider_id=who)] * 2,
            *[c.Head(at_ms=at_ms, stop=stop, rider_id=who)] * 2,
            *[c.Arrive(at_ms=at_ms, stop=stop, rider_id=who)] * 4,
            *[c.FinishStop(at_ms=at_ms, stop=stop, rider_id=who)] * 4,
        ]  # fmt: skip
        answer = apply(order, choices[int(rng.integers(len(choices)))])
        if not isinstance(answer, Refusal):
            for event in answer:
                order = fold(order, (event,))
            lives.append(order)
    return lives


def test_every_reachable_order_has_one_code_a_list_and_final_ones_only_at_its_end(kit):
    rng, states = np.random.default_rng(7), set()
    for _ in range(600):
        for order in any_life(rng, kit.new_order()):
            states.add(order.state)
            codes = codes_of(order)
            assert tuple(codes) == LISTS
            over = ORDER.ended(order.state) or order.state is OrderState.DONE
            assert is_final(order) == over
            for name, code in codes.items():
                assert isinstance(code, str)
                assert (code in FINAL[name]) == over, (order.state, name, code)
    assert states == set(OrderState)


STAGES = list(PRINTED)


def test_codes_do_not_run_backwards_within_an_attempt(kit):
    """Other couriers' do when a rider is changed; ours begins a new attempt instead."""
    rng = np.random.default_rng(8)
    forward = {stage: n for n, stage in enumerate(STAGES[:6])}
    place = kit.place(0, 0)
    visits = [Stop(kind=StopKind.VISIT, place=place)] * 2
    for n in range(400):
        fields = {"stops": tuple(visits)} if n % 4 == 0 else {}
        lives = any_life(rng, kit.new_order(**fields))
        for before, after in itertools.pairwise(lives):
            if before.attempts == after.attempts and after.assignment is not None:
                here, there = stage_of(before), stage_of(after)
                if here in forward and there in forward:
                    assert forward[here] <= forward[there], (here, there)
