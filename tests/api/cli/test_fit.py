"""`hexrun sim fit`: a log becomes a scenario that runs, and a report that a program can read."""

import json

import numpy as np
import pytest

from api.cli.app import app
from geo.errors import InvalidValue, MissingFile
from sim.day import draw_day
from sim.scenario import load_scenario

START_MS = 1_780_243_200_000  # Monday 1 June 2026, 00:00 in Shanghai
DAY_MS = 86_400_000


@pytest.fixture
def log(tmp_path):
    """Two days of a small town: 300 orders a day from five shops."""
    rng = np.random.default_rng(4)
    at_ms = np.sort(np.concatenate([
        START_MS + day * DAY_MS + rng.normal(12.5, 1.5, 300).clip(1, 23) * 3_600_000
        for day in range(2)
    ])).astype(np.int64)  # fmt: skip
    lines = ["id,placed_ms,merchant,pickup_lat,pickup_lon,door_lat,door_lon,ready_ms,zone"]
    for i, at in enumerate(at_ms.tolist()):
        shop = int(5 * rng.random() ** 2)
        lat, lon = 30.66 + shop * 0.01, 104.06
        north, east = rng.normal(0.0, 0.006, 2)
        ready = at + int(max(rng.normal(600, 100), 100.0) * 1000)
        place = f"{lat},{lon},{lat + north:.6f},{lon + east:.6f}"
        lines.append(f"{i},{at},shop {shop},{place},{ready},Asia/Shanghai")
    path = tmp_path / "orders.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def fit(capfd, *args):
    app(["sim", "fit", *map(str, args)], standalone_mode=False)
    return capfd.readouterr().out


def test_a_log_becomes_a_scenario_and_a_report(log, capfd):
    out = log.parent / "town.yaml"
    told = json.loads(fit(capfd, log, "--out", out, "--hold-out", "2026-06-02", "--json"))
    assert (told["name"], told["orders"], told["days"]) == ("town", 300, 1)
    assert told["goodness"]["held_out"] is True
    assert told["goodness"]["day"] == "2026-06-02"
    assert told["goodness"]["orders"] == 300
    for measure in told["goodness"]["measures"].values():
        assert measure["fitted"] < measure["rival"]
    scenario = load_scenario(out)
    assert [f"town.{t}.csv" for t in ("rates", "doors", "merchants")] == [
        file.rpartition("/")[2] for file in told["files"][1:]
    ]
    drawn = draw_day(scenario, 1).demand
    assert len(drawn) == pytest.approx(300, abs=70)
    assert set(np.array(drawn.merchants)[drawn.merchant]) == {f"shop {i}" for i in range(5)}


def test_a_table_for_people_says_whether_the_day_was_seen(log, capfd):
    shown = fit(capfd, log)
    assert "in the log" in shown
    assert "quarter hours deviance per df" in shown
    assert "volume ratio 1.00" in " ".join(shown.split())
    day = log.with_name("monday.csv")
    day.write_text("".join(log.read_text().splitlines(keepends=True)[:301]))
    assert "held out" in fit(capfd, log, "--hold-out", day)


def test_what_cannot_be_held_out_is_refused(log, capfd):
    with pytest.raises(InvalidValue, match="2026-07-01"):
        fit(capfd, log, "--hold-out", "2026-07-01")
    with pytest.raises(MissingFile):
        fit(capfd, log, "--hold-out", log.parent / "other.csv")
    with pytest.raises(InvalidValue, match="one local day"):
        fit(capfd, log, "--hold-out", log, "--out", log.parent / "town.yaml")
    with pytest.raises(InvalidValue, match="ends in"):
        fit(capfd, log, "--out", log.parent / "town.json")
    assert sorted(path.name for path in log.parent.iterdir()) == ["orders.csv"]
