"""The demo as its user meets it: a page with moving riders, KPIs at the end, a replay that agrees.

The tests share one demo and run in the order of this file.
"""

import json
import os
import subprocess
import sys
import time

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("HEXRUN_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-background-networking",
]
FIRST_MOVE_LIMIT_S = 60


@pytest.fixture(scope="module")
def page(demo):
    address = demo.address()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        yield page
        browser.close()


def riders(page):
    return {r["id"]: (r["lat"], r["lon"]) for r in page.evaluate("window.hexrun.riders()")}


def wait_for(condition, limit_s, what):
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"after {limit_s} s still not: {what}")


def test_a_rider_moves_within_a_minute_of_the_start(demo, page):
    first = wait_for(lambda: riders(page), 30, "riders on the page")

    def moved():
        return [r for r, place in riders(page).items() if first.get(r, place) != place]

    wait_for(moved, 40, "a rider that moves")
    assert time.monotonic() - demo.began_s < FIRST_MOVE_LIMIT_S
    wait_for(lambda: len(riders(page)) == 300, 30, "all 300 riders")


def test_orders_change_state_on_the_page(page):
    def states():
        return {o["order_id"]: o["state"] for o in page.evaluate("window.hexrun.orders()")}

    first = wait_for(states, 30, "orders on the page")
    changed = wait_for(
        lambda: [o for o, s in states().items() if first.get(o, s) != s], 30, "a changed order"
    )
    assert changed
    wait_for(lambda: "under_way" in states().values(), 30, "an order under way")


def test_the_page_can_be_looked_at(page, tmp_path):
    time.sleep(8)  # a city in full swing
    path = os.environ.get("HEXRUN_SCREENSHOT") or str(tmp_path / "demo.png")
    page.screenshot(path=path)
    assert os.path.getsize(path) > 20_000


def test_it_ends_with_its_kpis(demo):
    code, kpis, err = demo.end()
    assert code == 0, err
    assert kpis["orders_created"] > 20
    assert kpis["orders_delivered"] > 0
    assert 0 < kpis["on_time_share"] <= 1
    assert kpis["fixes_acknowledged"] > 5_000
    assert kpis["fixes_received"] == kpis["fixes_acknowledged"] == kpis["fixes_sent"]
    assert kpis["rounds"] > 10
    assert kpis["round_ms_p95"] > 0
    assert kpis["refused_plans"] == 0
    assert kpis["actions_done"] + kpis["actions_refused"] == kpis["actions_sent"]
    assert kpis["actions_refused"] <= 0.02 * kpis["actions_sent"]
    for trouble in ("orders_refused", "riders_refused", "errors_heard", "bots_failed"):
        assert kpis[trouble] == 0, trouble
    assert kpis["rider_reconnects"] == 0
    assert kpis["rounds_greedy"] == 0


def test_nothing_of_it_is_left_running(demo):
    demo.end()
    left = subprocess.run(
        ["pgrep", "-f", "--", str(demo.folder)], capture_output=True, text=True, check=False
    )
    assert left.stdout.split() == []


def test_its_journal_replays_to_the_same_plans(demo):
    _, kpis, _ = demo.end()
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "sim", "replay", str(demo.folder), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["rounds"] == result["rounds_equal"] == kpis["rounds"]
    assert result["fixes"] == kpis["fixes_received"]


def test_another_folder_in_the_way_is_refused(tmp_path):
    (tmp_path / "precious").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "demo", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "an empty folder" in done.stderr
    assert (tmp_path / "precious").read_text() == "mine"
