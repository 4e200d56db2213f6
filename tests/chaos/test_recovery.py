"""Seconds from a fault to the first good answer to what was asked after it."""

from bench.chaos.recovery import recovery


def fault(kind, twin, begins_ms, done="done"):
    verb, target = kind.split()
    return {
        "log": "fault",
        "kind": kind,
        "verb": verb,
        "target": target,
        "twin": twin,
        "begins_ms": begins_ms,
        "done": done,
    }


def probe(what, door, begun_ms, ms):
    return {"log": "probe", "what": what, "door": door, "begun_ms": begun_ms, "ms": ms}


def test_only_what_was_asked_after_the_fault_counts_and_only_at_its_door():
    logs = [
        fault("kill http", 2, 1_000),
        probe("order", 2, 900, 1_100),
        probe("order", 1, 1_050, 1_060),
        probe("order", 2, 1_200, 3_500),
        probe("order", 2, 1_300, 3_600),
    ]
    figures = recovery(logs)["kill http"]
    assert figures == {"faults": 1, "median": 2.5, "max": 2.5, "never": 0}


def test_the_last_door_to_open_counts():
    logs = [
        fault("kill gateway", 1, 0),
        probe("fix", 1, 10, 1_000),
        probe("action", 1, 10, 2_000),
    ]
    assert recovery(logs)["kill gateway"]["max"] == 2.0


def test_an_offer_counts_for_an_order_that_was_placed_after_the_fault():
    logs = [
        fault("kill dispatcher", 1, 1_000),
        {"log": "order", "ms": 950, "order": "o1", "city": "a", "sent_ms": 900},
        {"log": "order", "ms": 2_100, "order": "o2", "city": "a", "sent_ms": 2_000},
        {"log": "offer", "ms": 1_500, "order": "o1"},
        {"log": "offer", "ms": 5_000, "order": "o2"},
    ]
    assert recovery(logs)["kill dispatcher"]["median"] == 4.0


def test_what_never_came_back_is_said_and_what_was_not_done_is_left_out():
    logs = [fault("kill http", 1, 0), fault("cut http", 1, 0, done="not done: nobody")]
    figures = {"faults": 1, "median": None, "max": None, "never": 1}
    assert recovery(logs) == {"kill http": figures}
