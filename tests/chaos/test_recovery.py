"""Seconds from a fault to the first good answer to what was asked after it."""

from bench.chaos.recovery import ASKED_MIN, ENOUGH_S, not_recovered, recovery


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


ENOUGH_MS = int(ENOUGH_S * 1000)


def ends(ms):
    return {"log": "load_ends", "ms": ms}


def test_who_never_answers_again_has_not_recovered_once_there_was_time_to():
    lost = fault("kill gateway", 1, 500)
    logs = [lost, probe("fix", 1, 600, 700), probe("action", 2, 600, 700)]
    assert not_recovered([*logs, ends(499 + ENOUGH_MS)]) == []
    assert not_recovered([*logs, ends(500 + ENOUGH_MS)]) == [(lost, ["action1"])]


def test_a_fault_that_lasts_counts_from_its_end():
    lost = fault("pause http", 1, 0) | {"ends_ms": 2_000}
    assert not_recovered([lost, ends(1_999 + ENOUGH_MS)]) == []
    assert not_recovered([lost, ends(2_000 + ENOUGH_MS)]) == [(lost, ["order1"])]


def placed(number, sent_ms, city="a", matching="dispatch"):
    line = {"log": "order", "ms": sent_ms, "order": f"{city}{number}", "city": city}
    return {**line, "sent_ms": sent_ms, "matching": matching}


def test_a_city_whose_orders_are_offered_no_more_has_not_recovered():
    lost = fault("kill dispatcher", 1, 1_000)
    orders = [placed(n, 1_000 + n) for n in range(ASKED_MIN)]
    orders += [placed(n, 1_000 + n, "b") for n in range(ASKED_MIN)]
    offer = {"log": "offer", "ms": 2_000, "order": "a0"}
    last = ends(1_000 + ASKED_MIN - 1 + ENOUGH_MS)
    assert not_recovered([lost, *orders, offer, last]) == [(lost, ["offer b"])]


def test_a_city_that_hardly_anybody_asks_cannot_be_seen_to_recover():
    lost = fault("kill dispatcher", 1, 1_000)
    orders = [placed(n, 900) for n in range(9)]
    orders += [placed(9 + n, 1_001, matching="hall") for n in range(9)]
    orders += [placed(99 + n, 1_001) for n in range(ASKED_MIN - 1)]
    assert not_recovered([lost, *orders, ends(10 * ENOUGH_MS)]) == []
