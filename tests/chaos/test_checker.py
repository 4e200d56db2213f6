"""Each promise has at least one broken history that turns it red, and the whole one is green."""

import pytest

from bench.chaos.checker import judge
from bench.chaos.checker.expiry import CLOCK_MS, LATE_MS

EXPIRES = 10**6  # of every order of the story


def red(story):
    """The promises that the story breaks."""
    return {found.promise for found in judge(story.evidence).broken}


def lines(story, kind):
    return [line for line in story.evidence.logs if line["log"] == kind]


def event(story, order_id, kind):
    return next(
        e for e in story.evidence.events if (e["subject_id"], e["kind"]) == (order_id, kind)
    )


def test_a_whole_history_keeps_every_promise(story):
    verdict = judge(story.evidence)
    assert verdict.broken == []
    assert verdict.not_checked == []
    assert set(verdict.counts.values()) == {0}


def test_what_the_system_does_not_have_is_said_to_be_unchecked(story):
    story.evidence.transfers = None
    story.evidence.logs = [line for line in story.evidence.logs if line["log"] != "endpoint"]
    verdict = judge(story.evidence)
    assert verdict.not_checked == ["fen_off", "webhooks_lost", "webhooks_disordered"]


def lose_the_order(story):
    story.log("order", city="chaos", customer="c-o9", order="o9", price_fen=1, sent_ms=0)


def change_the_price(story):
    lines(story, "order")[0]["price_fen"] += 1


def lose_the_cancellation(story):
    story.log("cancel", order="o1", ok=True, code="cancelled_customer")


def place_the_order_again(story):
    story.place("o3")
    story.row("o3")["customer_id"] = "c-o1"


def answer_a_retry_with_another_order(story):
    story.log("order", city="chaos", customer="c-o1", order="o2", price_fen=700, sent_ms=0)


def offer_to_a_second_rider(story):
    event(story, "o1", "declined")["kind"] = "offered"
    event(story, "o1", "offered")["body"] |= {"number": 1}


def tell_two_riders_yes(story):
    story.action("accept", "r1", "o1", number=2)


def tell_two_riders_yes_without_an_end_between(story):
    story.action("accept", "r1", "o1", number=3)


def report_by_another_rider(story):
    event(story, "o1", "arrived")["body"]["rider_id"] = "r1"


def leave_a_gap(story):
    event(story, "o1", "stop_done")["seq"] = 99


def move_illegally(story):
    event(story, "o1", "arrived")["kind"] = "stop_done"


def serve_out_of_turn(story):
    event(story, "o1", "heading")["body"]["stop"] = 1


def go_on_after_the_end(story):
    story.event("order", "o2", "opened")


def change_the_row(story):
    story.row("o1")["state"] = "done"


def change_the_body(story):
    story.row("o1")["body"]["attempts"] = 1


def change_the_version(story):
    story.row("o1")["version"] -= 1


def change_the_attempt(story):
    story.evidence.assignments[0]["state"] = "withdrawn"


def send_a_rider_on_shift_twice(story):
    story.event("rider", "r1", "went_on_shift", rider={})


def write_a_plan_of_the_earlier_dispatcher(story):
    story.evidence.receipts[1]["round_at_ms"] = 250
    story.evidence.receipts[2]["round_at_ms"] = 150


def lose_a_position(story):
    del story.evidence.feed[5]


def leave_an_event_in_the_outbox(story):
    story.evidence.outbox.append({"event_id": story.evidence.feed.pop()["event_id"]})


def give_two_positions(story):
    last = story.evidence.feed[-1]
    story.evidence.feed.append({**last, "position": 99, "prev_position": last["position"]})
    story.evidence.heads[0]["position"] = 99


def hide_an_event_from_the_reader(story):
    story.evidence.logs.remove(lines(story, "event")[3])


def break_the_chain(story):
    story.evidence.feed[4]["prev_position"] -= 1


def swap_positions(story):
    feed = story.evidence.feed
    feed[2]["event_id"], feed[3]["event_id"] = feed[3]["event_id"], feed[2]["event_id"]


def move_the_head(story):
    story.evidence.heads[0]["position"] -= 1


def lose_an_accept(story):
    story.action("accept", "r2", "o2", number=4)


def lose_a_report(story):
    story.action("stop", "r2", "o1", stop=1, state="done", at_ms=77)


def lose_a_decline(story):
    story.action("decline", "r1", "o2", number=1, reason="no r1 again")


def say_yes_and_no(story):
    story.log("action", rider="r2", action_id=lines(story, "action")[1]["action_id"], ok=False)


def apply_a_report_twice(story):
    event(story, "o1", "arrived")["body"]["device_ms"] = 1
    event(story, "o1", "arrived")["kind"] = "heading"


def refuse_and_apply(story):
    sent = next(line for line in lines(story, "action_sent") if line["type"] == "stop")
    answer = next(x for x in lines(story, "action") if x["action_id"] == sent["action_id"])
    answer["ok"] = False


def lose_a_fix(story):
    del story.evidence.fixes[("r1", 2)]


def store_another_fix(story):
    story.evidence.fixes[("r1", 2)] = {999}


def take_too_much(story):
    story.evidence.transfers[0]["fen"] += 3


def settle_twice(story):
    story.transfer("o1", "capture", "escrow/chaos", "sales/chaos", 700)


def forget_to_hold(story):
    del story.evidence.transfers[0]


def forget_to_settle(story):
    del story.evidence.transfers[-1]


def keep_the_money_of_a_cancelled_order(story):
    story.evidence.transfers[-1] |= {"kind": "capture", "credit": "sales/chaos"}


def pay_somebody_else(story):
    story.evidence.transfers[-1]["credit"] = "customer/chaos/other"


def lose_a_webhook(story):
    story.evidence.logs.remove(lines(story, "receipt")[6])


def fail_a_webhook_for_good(story):
    lines(story, "receipt")[6]["answer"] = 500


def disorder_the_webhooks(story):
    of_o1 = [x for x in lines(story, "receipt") if (x["endpoint"], x["id"]) == ("w1", "o1")]
    one, other = of_o1[2], of_o1[3]
    kept = dict(one)
    one.update(other)
    other.update(kept)


def tell_the_loser_yes(story):
    lost = next(
        x for x in lines(story, "action_sent") if (x["rider"], x["type"]) == ("r2", "claim")
    )
    answer = next(x for x in lines(story, "action") if x["action_id"] == lost["action_id"])
    answer["ok"] = True


def tell_the_winner_no(story):
    won = next(x for x in lines(story, "action_sent") if (x["rider"], x["type"]) == ("r1", "claim"))
    answer = next(x for x in lines(story, "action") if x["action_id"] == won["action_id"])
    answer["ok"] = False


def offer_what_is_in_the_hall(story):
    event(story, "hall", "accepted")["kind"] = "timed_out"


def payment(story):
    return next(row for row in story.evidence.transfers if row["kind"] == "payment")


def pay_a_notice_twice(story):
    paid = payment(story)
    story.transfer("o1", "payment", paid["debit"], paid["credit"], paid["fen"])
    lines(story, "payment")[1]["transfer"] = story.evidence.transfers[-1]["id"]


def pay_without_a_notice(story):
    story.transfer(None, "payment", "gateway/p", "customer/chaos/c-o1", 5)


def lose_a_payment(story):
    story.evidence.transfers.remove(payment(story))


def pay_another_sum(story):
    payment(story)["fen"] += 1


def leave_an_address_in_the_clear(story):
    story.evidence.in_clear.append(("public.events", 1))


def offer_after_the_expiry(story):
    story.row("o1")["expires_at_ms"] = event(story, "o1", "offered")["at_ms"]


def expired(story, after_ms, *, asked=False):
    """An order that nobody had, and that expires so long after it could."""
    story.place("o3")
    if asked:
        story.offer("o3", 1, "r1", 250)
        story.event("order", "o3", "timed_out", number=1, rider_id="r1")
        event(story, "o3", "timed_out")["at_ms"] = EXPIRES + 7_000
    story.event("order", "o3", "expired")
    free_ms = EXPIRES + (7_000 if asked else 0)
    event(story, "o3", "expired")["at_ms"] = free_ms + after_ms
    attempts = {1: ("r1", "timed_out")} if asked else {}
    story.close("o3", "expired", attempts, ["skipped"] * 2, "release")


def expire_too_late(story):
    expired(story, LATE_MS + CLOCK_MS + 1)


def expire_too_late_after_the_last_offer(story):
    expired(story, LATE_MS + CLOCK_MS + 1, asked=True)


def open_at_the_end(story, after_ms):
    story.place("o3")
    story.log("load_ends")
    story.evidence.logs[-1]["ms"] = EXPIRES + after_ms


def never_expire(story):
    open_at_the_end(story, LATE_MS + 1)


def lose_a_service(story):
    story.log("fault", kind="kill http", target="http", twin=2, begins_ms=100, done="done")
    story.log("load_ends")
    story.evidence.logs[-1]["ms"] = 100 + 30_000


BREAKS = {
    "orders_lost": (lose_the_order, change_the_price, lose_the_cancellation),
    "orders_doubled": (place_the_order_again, answer_a_retry_with_another_order),
    "riders_doubled": (
        offer_to_a_second_rider,
        tell_two_riders_yes,
        tell_two_riders_yes_without_an_end_between,
        report_by_another_rider,
    ),
    "hall_doubled": (tell_the_loser_yes, tell_the_winner_no, offer_what_is_in_the_hall),
    "illegal_histories": (
        leave_a_gap,
        move_illegally,
        serve_out_of_turn,
        go_on_after_the_end,
        change_the_row,
        change_the_body,
        change_the_version,
        change_the_attempt,
        send_a_rider_on_shift_twice,
    ),
    "plans_stale": (write_a_plan_of_the_earlier_dispatcher,),
    "offered_late": (offer_after_the_expiry,),
    "expired_late": (expire_too_late, expire_too_late_after_the_last_offer, never_expire),
    "events_lost": (
        lose_a_position,
        leave_an_event_in_the_outbox,
        give_two_positions,
        hide_an_event_from_the_reader,
    ),
    "feed_broken": (break_the_chain, swap_positions, move_the_head),
    "actions_lost": (lose_an_accept, lose_a_report, lose_a_decline, say_yes_and_no),
    "actions_doubled": (apply_a_report_twice, refuse_and_apply),
    "fixes_lost": (lose_a_fix, store_another_fix),
    "fen_off": (
        take_too_much,
        settle_twice,
        forget_to_hold,
        forget_to_settle,
        keep_the_money_of_a_cancelled_order,
        pay_somebody_else,
        pay_a_notice_twice,
        pay_without_a_notice,
        lose_a_payment,
        pay_another_sum,
    ),
    "webhooks_lost": (lose_a_webhook, fail_a_webhook_for_good),
    "webhooks_disordered": (disorder_the_webhooks,),
    "personal_in_clear": (leave_an_address_in_the_clear,),
    "not_recovered": (lose_a_service,),
}


@pytest.mark.parametrize(
    ("promise", "how"),
    [(promise, how) for promise, hows in BREAKS.items() for how in hows],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_broken_history_turns_its_promise_red(story, promise, how):
    how(story)
    assert promise in red(story)


def test_every_promise_is_broken_here(story):
    assert BREAKS.keys() == judge(story.evidence).counts.keys()


@pytest.mark.parametrize("asked", [False, True])
def test_an_order_that_expires_in_time_keeps_every_promise(story, asked):
    expired(story, LATE_MS, asked=asked)
    assert judge(story.evidence).broken == []


def test_an_order_that_has_just_expired_is_not_judged_at_the_end(story):
    open_at_the_end(story, LATE_MS)
    assert not [b for b in judge(story.evidence).broken if b.promise == "expired_late"]


def test_fen_are_counted(story):
    story.evidence.transfers[0]["fen"] += 3  # the hold is 3 too much, and so is the escrow
    assert judge(story.evidence).counts["fen_off"] == 6


def test_an_accept_that_no_rider_was_told_of_is_no_loss(story):
    story.evidence.logs = [line for line in story.evidence.logs if line["log"] != "action"]
    assert red(story) == set()


def test_fixes_stored_twice_are_one(story):
    story.evidence.fixes[("r1", 1)] = {11, 12}
    assert red(story) == set()


def test_a_webhook_may_come_twice(story):
    story.evidence.logs.append(dict(lines(story, "receipt")[0]))
    assert red(story) == set()
