"""A real day runs as its logs say: who asked when, for what, and who was there."""

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dispatch import events as e
from dispatch.policy import Policy
from dispatch.registry import job_type
from dispatch.snapshot import NEVER
from dispatch.vehicles import MEAN_KMH
from geo.errors import InvalidValue
from sim.city import build_city
from sim.days import DETOUR, DayBook, demand_of, fastest_mps, log_of, of_date, real_day
from sim.demand import draw_demand
from sim.logs.reading import order_area, read_couriers, read_log, read_mdrp
from sim.logs.report import SHOWN, Bad, BadLog, Kind
from sim.logs.table import VEHICLES
from sim.logs.writing import write_log
from sim.run import simulate
from sim.scenario import load_scenario

MIDNIGHT_MS = 1_514_782_800_000  # 2018-01-01 in Bogota
SECOND_MS = 1_000
ORDERS = [
    "order_id", "pick_up_lat", "pick_up_lng", "drop_off_lat", "drop_off_lng", "placement_time",
    "preparation_time", "ready_time", "expected_drop_off_time",
]  # fmt: skip
COURIERS = ["courier_id", "vehicle", "on_lat", "on_lng", "on_time", "off_time"]
QUICK = Policy(tick_ms=10_000)


def clock(second):
    second %= 86_400
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def write_day(folder, orders=60, couriers=40, seed=1, first_s=11 * 3600):
    """A small day in the Rappi files' form, about a made-up centre."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(orders):
        placed = first_s + n * 60
        shop = rng.integers(0, 8) * 0.004
        rows.append(
            (n + 1, 4.80 + shop, -75.70 + shop / 2, 4.81 + rng.random() * 0.02,
             -75.70 + rng.random() * 0.02, clock(placed), clock(placed + 60),
             clock(placed + 300 + int(rng.integers(0, 900))), clock(placed + 1_800))
        )  # fmt: skip
    _write(folder / "orders.csv", ORDERS, rows)
    kinds = ("motorcycle", "bicycle", "car", "walking")
    rows = [
        (n + 1, kinds[n % 4], 4.80 + rng.random() * 0.03, -75.70 + rng.random() * 0.02,
         clock(first_s - 1800), clock(first_s + orders * 60 + 7200))
        for n in range(couriers)
    ]  # fmt: skip
    rows += [
        (couriers + 1, "car", 4.80, -75.70, clock(first_s), clock(first_s)),  # never on
        (couriers + 2, "car", 6.24, -75.58, clock(first_s), clock(first_s + 7200)),  # Medellin
    ]
    _write(folder / "couriers.csv", COURIERS, rows)
    return folder


def _write(path, columns, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


@pytest.fixture
def day_folder(tmp_path):
    return write_day(tmp_path / "10")


@pytest.fixture
def logs(day_folder):
    return read_log(day_folder).log, read_couriers(day_folder).log


def run(real, seed=1, **kwargs):
    return simulate(real.day.scenario, seed, day=real.day, stopwatch=lambda: 0.0, **kwargs)


def test_the_files_are_read_as_they_are(logs):
    orders, couriers = logs
    assert (len(orders), len(couriers)) == (60, 42)
    assert (orders.zone, orders.id[0], orders.job_type[0]) == ("America/Bogota", "1", "delivery")
    assert orders.placed_ms[0] == MIDNIGHT_MS + 11 * 3600 * SECOND_MS
    assert (orders.promise_ms - orders.placed_ms == 1_800_000).all()
    assert int(orders.shops().max()) == 7
    assert couriers.vehicle[:4] == ("motorcycle", "bicycle", "car", "walking")
    assert couriers.on_ms[0] == MIDNIGHT_MS + (11 * 3600 - 1800) * SECOND_MS


def test_what_goes_past_midnight_is_of_the_next_day(tmp_path):
    folder = write_day(tmp_path / "10", orders=50, first_s=23 * 3600)
    orders, couriers = read_log(folder), read_couriers(folder)
    assert orders.report.good
    assert couriers.report.good
    assert orders.report.mended["expected_drop_off_time past midnight"] == 20
    assert (orders.log.promise_ms - orders.log.placed_ms == 1_800_000).all()
    assert couriers.report.mended == {"off_time past midnight": 41}
    ends_s = (23 * 3600 + 50 * 60 + 7200) * SECOND_MS
    assert couriers.log.off_ms[0] == MIDNIGHT_MS + ends_s


def test_a_promise_just_before_the_placement_is_bad(day_folder):
    text = (day_folder / "orders.csv").read_text()
    (day_folder / "orders.csv").write_text(text.replace(clock(11 * 3600 + 1_800), "10:59:00", 1))
    with pytest.raises(BadLog) as refused:
        read_log(day_folder)
    (found,) = refused.value.report.first[Kind.PROMISE_BEFORE_PLACEMENT]
    assert (found.row, found.value) == (2, "2018-01-01T10:59:00-05:00")


def test_a_day_runs_as_logged(logs):
    orders, couriers = logs
    real = real_day("day-10", orders, couriers, 1, policy=QUICK)
    assert (real.never_on, real.elsewhere, real.thinned) == (1, 1, 0)
    placed, ends, on = {}, {}, {}

    def note(event):
        if isinstance(event, e.RiderEvent):
            if isinstance(event.fact, e.WentOnShift):
                on[event.rider_id] = event.at_ms, event.fact.rider
        elif isinstance(event.fact, e.Placed):
            placed[event.order_id] = event.fact.order
        elif isinstance(event.fact, e.StopDone):
            ends.setdefault(event.order_id, []).append(event.at_ms)

    outcome = run(real, on_event=note)
    assert outcome.kpis["orders_delivered"] == 60
    assert not outcome.violations
    for row, order_id in enumerate(orders.id):
        order = placed[order_id]
        assert order.created_at_ms == orders.placed_ms[row]
        assert order.promise_to_ms == orders.promise_ms[row]
        assert order.stops[0].earliest_ms == orders.ready_ms[row]
        assert order.stops[0].place.lat == orders.pickup_lat[row]
        assert order.stops[1].place.lon == orders.door_lon[row]
        assert ends[order_id][0] >= orders.ready_ms[row]
    assert len(on) == 40
    assert on["1"][0] == couriers.on_ms[0]
    assert on["1"][1].place.lat == couriers.lat[0]
    assert run(real).event_log_sha256 == outcome.event_log_sha256


def test_a_day_in_our_own_format_is_the_same_day(logs, tmp_path):
    folder = tmp_path / "ours"
    folder.mkdir()
    for log, name in zip(logs, ("orders.csv", "couriers.csv"), strict=True):
        write_log(log, folder / name)
    ours = read_log(folder).log, read_couriers(folder).log
    days = [real_day("d", *pair, 1, policy=QUICK) for pair in (logs, ours)]
    assert run(days[0]).event_log_sha256 == run(days[1]).event_log_sha256


def test_an_untold_ready_time_is_true_all_the_same(logs):
    orders, couriers = logs
    picked_up = {}

    def note(event):
        if isinstance(event, e.Event) and isinstance(event.fact, e.Placed):
            assert event.fact.order.stops[0].earliest_ms is None
        elif isinstance(event, e.Event) and isinstance(event.fact, e.StopDone):
            picked_up.setdefault(event.order_id, event.at_ms)

    run(real_day("d", orders, couriers, 1, told=False, policy=QUICK), on_event=note)
    assert len(picked_up) == 60
    assert all(picked_up[i] >= ms for i, ms in zip(orders.id, orders.ready_ms, strict=True))


def test_more_couriers_are_the_same_and_some_more(logs):
    crews = {}
    for share in (0.125, 0.25, 1.0):
        real = real_day("d", *logs, 3, share=share)
        crews[share] = {member.rider.id: member for member in real.day.crew}
        assert len(real.day.crew) + real.thinned == 40
    assert 0 < len(crews[0.125]) < len(crews[0.25]) < len(crews[1.0]) == 40
    assert crews[0.125].items() <= crews[0.25].items() <= crews[1.0].items()
    other = real_day("d", *logs, 4, share=0.25).day.crew
    assert {member.rider.id for member in other} != crews[0.25].keys()


def test_vehicles_have_their_own_speeds(logs):
    orders, couriers = logs
    assert {*MEAN_KMH, "walking"} == set(VEHICLES)
    crew = real_day("d", orders, couriers, 1).day.crew
    by_kind = {
        name: [m.rider.speed_mps for m in crew if m.rider.vehicle == name] for name in MEAN_KMH
    }
    assert np.mean(by_kind["foot"]) == pytest.approx(5 / 3.6, rel=0.15)
    assert np.mean(by_kind["bicycle"]) == pytest.approx(15 / 3.6, rel=0.15)
    assert np.mean(by_kind["car"]) == pytest.approx(25 / 3.6, rel=0.15)
    scooters = dataclasses.replace(couriers, vehicle=("scooter",) * len(couriers))
    fast = [m.rider.speed_mps for m in real_day("d", orders, scooters, 1).day.crew]
    assert max(fast) == 25 / 3.6, "the legal limit, GB 17761"
    assert fastest_mps(crew) == 25 / 3.6


def test_an_order_that_was_taken_is_served_however_far(logs):
    """15 km is the most that a delivery goes; this one was taken, and has no price."""
    orders, couriers = logs
    far = dataclasses.replace(orders, door_lat=orders.door_lat + np.arange(60) // 59 * 0.2)
    real = real_day("d", far, couriers, 1, policy=QUICK)
    with pytest.raises(InvalidValue, match="m away"):
        job_type("delivery").quote(real.day.demand.request(59).form, int(far.placed_ms[59]))
    prices = []

    def note(event):
        if isinstance(event, e.Event) and isinstance(event.fact, e.Placed):
            prices.append(event.fact.order.price_fen)

    assert run(real, on_event=note).kpis["orders_created"] == 60
    assert [row for row, fen in enumerate(prices) if fen == 0] == [59]


def test_orders_that_nobody_can_carry_are_counted(logs):
    orders, couriers = logs
    heavy = dataclasses.replace(orders, load=np.where(np.arange(60) < 3, 500, orders.load))
    assert real_day("d", heavy, couriers, 1).too_large == 3
    assert real_day("d", orders, couriers, 1).too_large == 0


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan"), 1e-9])
def test_a_share_that_leaves_nobody(logs, share):
    with pytest.raises(InvalidValue, match="couriers"):
        real_day("d", *logs, 1, share=share)


def test_the_book_adds_what_the_log_knows(logs):
    orders = logs[0]
    book = DayBook(orders)
    for row, after_s in ((0, 60), (1, 120)):
        ready_ms = int(orders.ready_ms[row])
        for seq, (ms, fact) in enumerate(
            (
                (ready_ms + after_s * SECOND_MS, e.StopDone(rider_id="x", stop=0)),
                (ready_ms + 600_000, e.StopDone(rider_id="x", stop=1)),
                (ready_ms + 600_000, e.Finished(rider_id="x", number=1)),
            )
        ):
            book.add(e.Event(order_id=orders.id[row], seq=seq, at_ms=ms, fact=fact))
    found = book.result(6.0)
    assert found["ready_to_pickup_mean_min"] == pytest.approx(1.5)
    assert found["ready_to_door_mean_min"] == pytest.approx(10.0)
    assert found["promises_logged"] == 60
    cos = np.cos(np.radians(np.median(orders.pickup_lat)))
    way_m = 111_195 * np.hypot(
        orders.door_lat - orders.pickup_lat, (orders.door_lon - orders.pickup_lon) * cos
    )
    there = orders.ready_ms + way_m * DETOUR / 6.0 * 1000 <= orders.promise_ms
    assert found["promises_possible_share"] == pytest.approx(there.mean())
    assert 0 < found["promises_possible_share"] < 1


def swapped(folder, name, columns, rows):
    """The file's rows (from 1) with two columns changed round."""
    with (folder / name).open() as file:
        table = list(csv.reader(file))
    a, b = (table[0].index(column) for column in columns)
    for n in rows:
        table[n][a], table[n][b] = table[n][b], table[n][a]
    _write(folder / name, table[0], table[1:])


def test_swapped_couriers_are_told_who_were_elsewhere_are_not(day_folder):
    swapped(day_folder, "couriers.csv", ("on_lat", "on_lng"), range(1, 36))
    near = order_area(read_log(day_folder).log)
    with pytest.raises(BadLog) as refused:
        read_couriers(day_folder, near=near)
    assert dict(refused.value.report.bad) == {Kind.SWAPPED: 35}
    (found, *_) = refused.value.report.first[Kind.SWAPPED]
    assert (found.row, found.column) == (2, "on_lat")
    with pytest.raises(BadLog, match="swapped_coordinates: 35"):
        read_couriers(day_folder)  # the zone says so, too
    assert len(read_couriers(day_folder, near=near, bad=Bad.DROP).log) == 7


@pytest.mark.parametrize("rows", [range(1, 61), range(1, 34)], ids=["all", "most"])
def test_places_that_cannot_lie_in_the_zone_are_the_swapped_ones(day_folder, rows):
    """-75.7 is a latitude as well: that of the Antarctic coast."""
    for end in ("pick_up", "drop_off"):
        swapped(day_folder, "orders.csv", (f"{end}_lat", f"{end}_lng"), rows)
    with pytest.raises(BadLog) as refused:
        read_log(day_folder)
    report = refused.value.report
    assert dict(report.bad) == {Kind.SWAPPED: len(rows)}
    assert [f.row for f in report.first[Kind.SWAPPED]] == [n + 1 for n in list(rows)[:SHOWN]]
    assert ("or they are not in America/Bogota" in str(refused.value)) == (len(rows) == 60)


def first_twice(couriers, **columns):
    """The log with its first courier's row twice, and columns of its own."""
    return dataclasses.replace(
        couriers,
        id=couriers.id[:1] + couriers.id,
        vehicle=couriers.vehicle[:1] + couriers.vehicle,
        lat=np.r_[couriers.lat[0], couriers.lat],
        lon=np.r_[couriers.lon[0], couriers.lon],
        **columns,
    )


def test_a_courier_may_have_two_shifts(logs):
    orders, couriers = logs
    noon_ms = MIDNIGHT_MS + 12 * 3600 * SECOND_MS
    split = first_twice(
        couriers,
        on_ms=np.r_[couriers.on_ms[0], noon_ms, couriers.on_ms[1:]],
        off_ms=np.r_[noon_ms - 600_000, couriers.off_ms],
    )
    real = real_day("d", orders, split, 1, policy=QUICK)
    crew = {member.rider.id: member for member in real.day.crew}
    assert (crew["1"].shift_end_ms, crew["1#2"].shift_start_ms) == (noon_ms - 600_000, noon_ms)
    assert crew["1"].rider.speed_mps == crew["1#2"].rider.speed_mps
    alone = {m.rider.id: m for m in real_day("d", *logs, 1, policy=QUICK).day.crew}
    assert all(crew[name] == member for name, member in alone.items() if name != "1")
    assert run(real).kpis["orders_delivered"] == 60
    for share in (0.2, 0.4, 0.6):
        some = {m.rider.id for m in real_day("d", orders, split, 1, share=share).day.crew}
        assert ("1" in some) == ("1#2" in some)


def test_a_courier_cannot_be_on_twice_at_once(logs):
    couriers = logs[1]
    for after_ms in (0, 60_000):
        on_ms = np.r_[couriers.on_ms[0], couriers.on_ms[0] + after_ms, couriers.on_ms[1:]]
        with pytest.raises(InvalidValue, match=r"on_ms\[1\]"):
            first_twice(couriers, on_ms=on_ms, off_ms=np.r_[couriers.off_ms[0], couriers.off_ms])


def test_a_courier_who_is_on_already_is_told_by_row(day_folder):
    text = (day_folder / "couriers.csv").read_text()
    (day_folder / "couriers.csv").write_text(text.replace("\n5,", "\n1,", 1))
    with pytest.raises(BadLog, match=r"row 6, courier_id: '1', .* and row 2 has it"):
        read_couriers(day_folder)


def test_a_day_is_taken_out_of_a_log_of_weeks(logs, tmp_path):
    orders, couriers = logs
    day_ms = 86_400_000

    def weeks(log):
        """The same day 21 times; couriers keep their ids."""
        columns = {}
        for name in (f.name for f in dataclasses.fields(log) if f.name != "zone"):
            own, step = getattr(log, name), day_ms if name.endswith("_ms") else 0
            if isinstance(own, np.ndarray):
                columns[name] = np.concatenate([own + n * step for n in range(21)])
            else:
                mark = name == "id" and log is orders
                columns[name] = tuple(f"{n}-{i}" if mark else i for n in range(21) for i in own)
        return dataclasses.replace(log, **columns)

    long = weeks(orders), weeks(couriers)
    with pytest.raises(InvalidValue, match="--date 2026-03-02"):
        real_day("d", *long, 1)
    with pytest.raises(InvalidValue, match="a date of the log, 2018-01-01 to 2018-01-21"):
        of_date(*long, "2018-02-01")
    mine, on = of_date(*long, "2018-01-03")
    assert mine.id == tuple(f"2-{i}" for i in orders.id)
    assert on.id == couriers.id
    assert (mine.placed_ms - orders.placed_ms == 2 * day_ms).all()
    assert run(real_day("d", mine, on, 1, policy=QUICK)).kpis["orders_delivered"] == 60
    assert of_date(orders, couriers, "2018-01-01") == logs


def test_requests_and_their_log_are_two_forms_of_one(logs):
    orders = logs[0]
    again = log_of(demand_of(orders), orders.zone)
    assert again.id == orders.id
    np.testing.assert_array_equal(again.ready_ms, orders.ready_ms)
    np.testing.assert_array_equal(again.door_lon, orders.door_lon)
    small = load_scenario("small")
    drawn = draw_demand(small, build_city(small, 1), 1)
    log = log_of(drawn, "Asia/Shanghai")
    assert (log.id[7], log.promise_ms[7]) == (drawn.request(7).order_id, NEVER)
    assert log.ready_ms[7] == drawn.request(7).form.stops[0].earliest_ms
    assert log.merchant[7] == drawn.request(7).form.merchant_id


def test_a_benchmark_day_is_a_log_too(tmp_path):
    folder = tmp_path / "day"
    folder.mkdir()
    tables = {
        "orders": ["order\tx\ty\tplacement_time\trestaurant\tready_time",
                   "o2\t300\t400\t61\tr1\t70", "o1\t0\t1000\t60\tr1\t60"],
        "restaurants": ["restaurant\tx\ty", "r1\t1000\t0"],
        "couriers": ["courier\tx\ty\ton_time\toff_time", "c1\t0\t0\t0\t300"],
        "instance_parameters": [
            "meters_per_minute\tpickup service minutes\tdropoff service minutes\t"
            "target click-to-door\tmaximum click-to-door\tpay per order\tguaranteed pay per hour",
            "320\t4\t4\t40\t90\t10\t15"],
    }  # fmt: skip
    for name, lines in tables.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    log = read_log(folder).log
    assert (log.id, log.merchant) == (("o1", "o2"), ("r1", "r1"))
    assert log.placed_ms.tolist() == [1_514_764_800_000 + m * 60_000 for m in (60, 61)]
    assert (log.promise_ms - log.placed_ms).tolist() == [40 * 60_000] * 2
    assert log.door_lat[0] == pytest.approx(1000 / 111_195.08)
    moved = read_mdrp(folder, 30.65, 104.06).log
    assert (moved.pickup_lat[0], moved.door_lon[0]) == pytest.approx((30.65, 104.06))


def hexrun(*args):
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *map(str, args)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_prints_one_line_of_json(tmp_path):
    folder = write_day(tmp_path / "10", orders=12)
    policy = tmp_path / "mine.yaml"
    policy.write_text("tick_ms: 10_000\n")
    done = hexrun("sim", "day", folder, "--couriers", "0.5", "--policy", policy, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["scenario"] == "day-10"
    assert found["orders_delivered"] == found["orders_created"] == 12
    assert found["riders"] + found["couriers_thinned"] == 40
    assert found["couriers_logged"] == 42
    assert found["orders_too_large"] == 0
    assert found["promises_logged"] == 12
    assert found["click_to_door_mean_min"] > found["ready_to_door_mean_min"] > 0


def test_somebody_elses_couriers_are_read_with_a_mapping(tmp_path):
    folder = write_day(tmp_path / "10", orders=12)
    text = (folder / "couriers.csv").read_text()
    (folder / "couriers.csv").write_text(text.replace(",".join(COURIERS), "wer,womit,y,x,von,bis"))
    mapping = tmp_path / "mine.yaml"
    mapping.write_text(
        "columns: {id: wer, vehicle: womit, lat: y, lon: x, on: von, off: bis}\n"
        "zone: America/Bogota\ntime: clock\ndate: '2018-01-01'\n"
    )
    done = hexrun("sim", "day", folder, "--map-couriers", mapping, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["couriers_logged"] == 42
    out = tmp_path / "clean.csv"
    done = hexrun("sim", "export", folder / "couriers.csv", out, "--couriers", "--map", mapping)
    assert "42 shifts are in" in done.stdout
    assert read_couriers(out).log.vehicle[3] == "walking"


def test_a_benchmark_folder_is_told_its_own_command(tmp_path):
    (tmp_path / "instance_parameters.txt").touch()
    done = hexrun("sim", "day", tmp_path)
    assert done.returncode == 2
    assert "hexrun sim mdrp" in done.stderr


def test_the_report_of_a_refused_log_is_json_too(day_folder):
    text = (day_folder / "orders.csv").read_text()
    (day_folder / "orders.csv").write_text(text.replace("\n2,", "\n1,", 1))
    done = hexrun("sim", "day", day_folder, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["bad"] == {"duplicate_id": 1}
    told = hexrun("sim", "export", day_folder, day_folder / "out.csv")
    assert told.returncode == 2
    assert "row 3, order_id: '1'" in told.stderr
    assert not (day_folder / "out.csv").exists()
    done = hexrun("sim", "export", day_folder, day_folder / "out.csv", "--bad", "drop", "--json")
    assert json.loads(done.stdout)["kept"] == 59
    assert len(read_log(day_folder / "out.csv").log) == 59


@pytest.fixture(params=["2", "10", "12", "14"])
def real_folder(request):
    """A real day's files; skips where they are not."""
    folder = Path(os.environ.get("HEXRUN_RAPPI", "")) / request.param
    if not (folder / "orders.csv").is_file():
        pytest.skip("the real days are not here: set HEXRUN_RAPPI to their folder")
    return folder


def test_the_real_days_are_good_and_whole(real_folder):
    orders, couriers = read_log(real_folder), read_couriers(real_folder)
    assert orders.report.good
    assert couriers.report.good
    with (real_folder / "orders.csv").open() as file:
        assert len(orders.log) == sum(1 for _ in file) - 1
    assert (orders.log.promise_ms - orders.log.placed_ms < 24 * 3_600_000).all()
    real = real_day("d", orders.log, couriers.log, 1, share=0.125)
    assert len(real.day.crew) == pytest.approx(len(couriers.log) / 8, rel=0.3)
