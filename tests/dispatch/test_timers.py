"""Timers: when somebody has to come back, and when not."""

from dispatch.commands import Complete, DropOut, Expire, TimeOut
from dispatch.timers import Timers


def test_what_is_over_is_skipped_as_far_as_it_comes_first():
    timers = Timers()
    for due_ms, name in ((10, "a"), (20, "b"), (30, "a"), (40, "b")):
        timers.set(due_ms, name, TimeOut(at_ms=0, number=1))
    timers.skip(lambda due_ms, name, command: due_ms == 40 or name == "a")
    assert (timers.next_ms, len(timers)) == (20, 3)
    timers.skip(lambda due_ms, name, command: isinstance(command, TimeOut))
    assert (timers.next_ms, len(timers)) == (None, 0)


def test_nobody_comes_back_for_an_offer_that_is_answered_nor_for_an_order_that_is_done(kit, scene):
    scene.rider("r")
    scene.place("o")
    expires_ms = scene.orders["o"].expires_at_ms
    scene.offer("o", "r", deadline_ms=kit.T0 + 60_000)
    dispatcher = scene.dispatcher
    dispatcher.tick(kit.T0)
    assert dispatcher.wake_at() == kit.T0 + 60_001
    scene.accept("o")
    dispatcher.tick(kit.T0 + 1)
    assert dispatcher.wake_at() == expires_ms
    for stop in (0, 1):
        scene.serve("o", stop, kit.T0 + 2)
    dispatcher.tick(kit.T0 + 3)
    complete_ms = kit.T0 + 2 + scene.policy.complete_after_ms
    assert dispatcher.wake_at() == complete_ms
    assert [type(command) for _, command in scene.asks(complete_ms)] == [Complete]


def test_an_order_that_is_given_back_expires_all_the_same(kit, scene):
    scene.rider("r")
    scene.place("o")
    expires_ms = scene.orders["o"].expires_at_ms
    scene.give("o", "r")
    scene.dispatcher.tick(kit.T0 + 1)
    live = scene.orders["o"].assignment
    drop_out = DropOut(at_ms=kit.T0 + 2, rider_id="r", number=live.number)
    scene.do("o", drop_out)
    asked = scene.asks(expires_ms)
    assert [(name, type(command)) for name, command in asked] == [("o", Expire)]
