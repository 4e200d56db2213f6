"""The page in a real browser, before a scripted city on real sockets."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from api import messages as m
from geo.datum import System

# How long an ended order stays on the map.
LINGER_S = 6
MAP_WIDTH, MAP_HEIGHT = 932, 800


def places(opened):
    return {r["id"]: (r["lat"], r["lon"]) for r in opened.ask("riders()")}


def states(opened):
    return {o["order_id"]: o["state"] for o in opened.ask("orders()")}


def on(page, testid):
    return page.get_by_test_id(testid)


def test_it_says_hello_and_watches_the_city(city, opened):
    city.riders = [city.rider("r1", city.centre.lat, city.centre.lon)]
    here = opened()
    here.until(lambda: here.ask("connected()"), "connected")
    here.until(lambda: places(here), "the snapshot")
    assert city.asked == [m.Hello(token=city.token, system=System.WGS84), m.WatchCity()]
    assert city.subprotocols == ["hexrun.v1.json"]
    assert here.ask("frames()") == 2
    expect(on(here.page, "connection")).to_have_text("Live")
    expect(on(here.page, "frame-age")).to_have_text(re.compile(r"^frame \d\.\d s ago$"))
    assert here.page.title() == "Demo · hexrun"


def test_riders_glide_from_fix_to_fix(city, opened):
    lat, lon = city.centre.lat, city.centre.lon
    city.riders = [
        city.rider("r1", lat, lon),
        city.rider("r2", lat - 0.01, lon - 0.01, "busy", 90),
        city.rider("r3", lat + 0.01, lon + 0.01, "off"),
    ]
    here = opened()
    here.until(lambda: len(places(here)) == 3, "three riders")
    here.page.wait_for_timeout(800)
    before, picture = places(here), on(here.page, "map").screenshot()
    assert before["r1"] == pytest.approx((lat, lon), abs=1e-7)
    city.move(city.rider("r1", lat, lon + 0.008))
    between = set()

    def arrived():
        now = places(here)["r1"]
        assert now[0] == pytest.approx(lat, abs=1e-7)
        if lon + 1e-6 < now[1] < lon + 0.008 - 1e-6:
            between.add(now[1])
        return now[1] == pytest.approx(lon + 0.008, abs=1e-7)

    here.until(arrived, "r1 at his new place")
    assert len(between) >= 3, "he was there at once"
    assert places(here)["r2"] == before["r2"]
    assert on(here.page, "map").screenshot() != picture


def test_counts_by_state(city, opened):
    lat, lon = city.centre.lat, city.centre.lon
    each = ["idle", "idle", "idle", "offered", "busy", "busy", "off"]
    city.riders = [city.rider(f"r{i}", lat, lon + i / 500, s) for i, s in enumerate(each)]
    city.orders = [
        city.order("o1", "open"),
        city.order("o2", "open", promise_in_s=-30),
        city.order("o3", "assigned", "r4"),
        city.order("o4", "under_way", "r5", ("done", "heading")),
    ]
    city.status = {"orders": {"done": 2, "completed": 40, "expired": 1}}
    here = opened()

    def counts(*names):
        return {name: here.text(name) for name in names}

    riders = {"riders-total": "7", "riders-idle": "3", "riders-offered": "1", "riders-busy": "2"}
    here.until(lambda: counts(*riders) == riders, "the riders' counts")
    orders = {
        "riders-off": "1",
        "orders-total": "4",
        "orders-open": "2",
        "orders-assigned": "1",
        "orders-under_way": "1",
        "orders-late": "1",
        "orders-done": "42",
        "orders-lost": "0",
    }
    here.until(lambda: counts(*orders) == orders, "the orders' counts")
    city.move(city.rider("r0", lat, lon, "offered"))
    expect(on(here.page, "riders-offered")).to_have_text("2")
    expect(on(here.page, "riders-idle")).to_have_text("2")


def test_an_order_lives_and_ends(city, opened):
    city.riders = [city.rider("r1", city.centre.lat, city.centre.lon)]
    here = opened()
    here.until(lambda: places(here), "the snapshot")
    changes = on(here.page, "changes").locator("li")
    expect(changes).to_have_count(0)
    for state, rider_id, words in (
        ("open", None, "Open"),
        ("assigned", "r1", "Assigned"),
        ("under_way", "r1", "Under way"),
    ):
        city.push(m.Orders(orders=[city.order("o1", state, rider_id)]))
        expect(changes.first).to_contain_text(words)
        expect(on(here.page, f"orders-{state}")).to_have_text("1")
        expect(on(here.page, "orders-total")).to_have_text("1")
        assert states(here) == {"o1": state}
    expect(changes.first).to_contain_text("r1")
    city.push(m.Orders(orders=[city.order("o1", "done", "r1", ("done", "done"))]))
    city.push(m.Orders(orders=[city.order("o2", "expired")]))
    expect(on(here.page, "orders-done")).to_have_text("1")
    expect(on(here.page, "orders-kept")).to_have_text("100%")
    expect(on(here.page, "orders-lost")).to_have_text("1")
    expect(on(here.page, "orders-total")).to_have_text("0")
    city.push(m.Orders(orders=[city.order("o1", "completed", "r1", ("done", "done"))]))
    expect(changes).to_have_count(5)
    here.until(lambda: states(here) == {}, "the order has faded", LINGER_S + 4)
    city.push(m.Orders(orders=[city.order("o1", "completed", "r1", ("done", "done"))]))
    here.page.wait_for_timeout(400)
    assert states(here) == {}
    expect(on(here.page, "orders-done")).to_have_text("1")


def test_details_of_the_picked(city, opened):
    city.riders = [city.rider("r1", city.centre.lat, city.centre.lon, "busy", 45)]
    city.orders = [city.order("o1", "under_way", "r1", ("done", "heading"))]
    here = opened()
    here.until(lambda: states(here), "the snapshot")
    details = on(here.page, "details")
    expect(details).to_be_hidden()
    here.find("o1")
    expect(details).to_contain_text("Under way")
    expect(details).to_contain_text("min left")
    expect(details.locator(".stops li")).to_have_text(
        [re.compile(r"Pickup\s*Done"), re.compile(r"Dropoff.*away.*Heading")]
    )
    city.push(m.Orders(orders=[city.order("o1", "under_way", "r1", ("done", "arrived"))]))
    expect(details.locator(".stops li").last).to_contain_text("Arrived")
    details.get_by_role("button", name="r1").click()
    expect(details).to_contain_text("1 live order")
    expect(details).to_contain_text("NE 45°")
    here.page.get_by_role("button", name="Close the details").click()
    expect(details).to_be_hidden()
    here.find("nobody")
    expect(here.page.locator("#find-answer")).to_have_text("Not on the map")


def test_a_click_on_a_rider_picks_him_and_one_beside_does_not(city, opened):
    city.riders = [city.rider("r1", city.centre.lat, city.centre.lon)]
    here = opened()
    here.until(lambda: places(here), "the snapshot")
    here.page.mouse.click(MAP_WIDTH / 2, MAP_HEIGHT / 2)
    expect(on(here.page, "details")).to_contain_text("r1")
    here.page.mouse.click(MAP_WIDTH / 2 + 90, MAP_HEIGHT / 2)
    expect(on(here.page, "details")).to_be_hidden()


def test_it_comes_back_after_a_cut(city, opened):
    lat, lon = city.centre.lat, city.centre.lon
    city.riders = [city.rider("r1", lat, lon), city.rider("r2", lat, lon + 0.001)]
    city.orders = [city.order("o1", "open")]
    here = opened()
    here.until(lambda: len(places(here)) == 2, "the snapshot")
    banner = on(here.page, "banner")
    expect(banner).to_be_hidden()
    city.riders, city.orders = [city.rider("r1", lat, lon)], []
    city.cut()
    expect(banner).to_contain_text("Connection lost")
    here.until(lambda: here.ask("connected()"), "connected again")
    here.until(lambda: set(places(here)) == {"r1"}, "the second snapshot")
    assert states(here) == {}
    expect(banner).to_be_hidden()
    expect(on(here.page, "connection")).to_have_text("Live")
    assert len(city.subprotocols) == 2


def test_an_error_of_the_server_is_shown_in_words(city, opened):
    city.first_error = m.Error(
        code="unavailable",
        field="type",
        value=None,
        expected="again, in some seconds",
        message="orders cannot be read now",
    )
    here = opened()
    here.until(lambda: here.ask("connected()"), "connected")
    error = on(here.page, "error")
    expect(error).to_contain_text("orders cannot be read now")
    expect(error).to_contain_text("unavailable")
    here.page.get_by_role("button", name="Dismiss the message").click()
    expect(error).to_be_hidden()


def test_a_refusal_is_said_and_not_hammered(city, opened):
    city.refusal = "the token has expired"
    here = opened()
    expect(on(here.page, "connection")).to_have_text("Refused")
    expect(on(here.page, "banner")).to_contain_text("The token has expired.")
    here.page.wait_for_timeout(1000)
    assert len(city.subprotocols) == 1
    city.refusal = ""
    here.page.get_by_role("button", name="Try now").click()
    here.until(lambda: here.ask("connected()"), "connected")


def test_without_a_token_it_asks_for_one(city, opened):
    here = opened(address="")
    assert not here.ask("connected()")
    page = here.page
    page.get_by_label("Token").fill(city.token)
    page.get_by_label("Stream").fill(f"ws://127.0.0.1:{city.port}")
    page.get_by_role("button", name="Connect").click()
    here.until(lambda: here.ask("connected()"), "connected")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_states_can_be_hidden(city, opened):
    city.riders = [city.rider("r1", city.centre.lat, city.centre.lon)]
    here = opened()
    here.until(lambda: places(here), "the snapshot")
    idle = here.page.get_by_role("button", name=re.compile("^Idle"))
    idle.click()
    expect(idle).to_have_attribute("aria-pressed", "false")
    here.page.mouse.click(MAP_WIDTH / 2, MAP_HEIGHT / 2)
    expect(on(here.page, "details")).to_be_hidden()


def test_on_a_phone_the_panel_is_a_sheet(city, opened):
    city.riders = [city.rider("r1", city.centre.lat, city.centre.lon)]
    here = opened(width=390, height=844)
    here.until(lambda: places(here), "the snapshot")
    expect(on(here.page, "riders-idle")).to_be_hidden()
    here.page.get_by_role("button", name="Show the counts and changes").click()
    expect(on(here.page, "riders-idle")).to_have_text("1")
    wide = here.page.evaluate("() => document.documentElement.scrollWidth")
    assert wide == 390


def test_every_control_has_a_name(city, opened):
    here = opened()
    here.until(lambda: here.ask("connected()"), "connected")
    nameless = here.page.evaluate(
        """() => [...document.querySelectorAll("button, input, canvas")].filter((it) =>
            !(it.getAttribute("aria-label") || it.textContent.trim() || it.labels?.length)
        ).map((it) => it.outerHTML)"""
    )
    assert nameless == []
