"""A rider claims an order of the hall over his socket."""

from dispatch.model import Matching


async def test_the_first_rider_has_it_and_hears_his_route(live):
    for rider_id in ("r1", "r2"):
        await live.on_shift(rider_id)
    first, second = await live.enter("rider", "r1"), await live.enter("rider", "r2")
    await live.place("h", matching=Matching.HALL)
    for _ in range(2):
        await first.say("claim", action_id="1", order_id="h")
        assert (await first.hear("result"))["code"] == "ok"
    await second.say("claim", action_id="1", order_id="h")
    assert (await second.hear("result"))["code"] == "already_taken"
    await second.say("claim", action_id="2", order_id="nothing")
    assert (await second.hear("result"))["code"] == "not_found"
    while not (route := await first.hear("route"))["stops"]:
        pass
    assert [(s["order_id"], s["stop"]) for s in route["stops"]] == [("h", 0), ("h", 1)]


async def test_a_claim_is_not_shown_as_an_offer(live):
    await live.on_shift("r1")
    rider = await live.enter("rider", "r1")
    await live.place("h", matching=Matching.HALL)
    await rider.say("claim", action_id="1", order_id="h")
    await rider.hear("result")
    await live.offer(await live.place("b"), "r1")
    assert (await rider.hear("offer"))["order_id"] == "b"
