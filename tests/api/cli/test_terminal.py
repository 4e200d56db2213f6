"""The commands at a terminal: progress, Ctrl-C, output that cannot be written, lists as JSON."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from geo.cells import cell_of, to_text

HEXRUN = [sys.executable, "-m", "api.cli"]


def hexrun(*args, **more):
    return subprocess.run(
        [*HEXRUN, *map(str, args)], capture_output=True, text=True, check=False, **more
    )


class Terminal:
    """A command whose stderr is a terminal; `read` gives what came there, up to a pattern."""

    def __init__(self, *args):
        ours, theirs = pty.openpty()
        env = os.environ | {"COLUMNS": "160", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [*HEXRUN, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            env=env,
            start_new_session=True,
        )
        os.close(theirs)
        self.ours, self.seen = ours, ""

    def read(self, until=None):
        with suppress(OSError):  # the end of a terminal on Linux
            while until is None or not re.search(until, self.seen):
                data = os.read(self.ours, 4096)
                if not data:
                    break
                self.seen += data.decode(errors="replace")
        assert until is None or re.search(until, self.seen)
        return self.seen

    def end(self):
        self.read()
        out, _ = self.process.communicate(timeout=60)
        os.close(self.ours)
        return out


@pytest.fixture
def arms(tmp_path):
    """Two scenarios of a few orders, the second with slower riders."""
    text = "name: tiny\n" + (
        "city: {name: t, lat: 30.6, lon: 104.0, radius_m: 2000, hot_spots: 1}\n"
        "start_ms: 1780282800000\nduration_s: 900\nhorizon_s: 7200\norders: {count: 25}\n"
        "merchants: {count: 10}\njobs: {delivery: 1.0}\n"
    )
    paths = []
    for name, speed in (("quick", 6.0), ("slow", 4.0)):
        path = tmp_path / f"{name}.yaml"
        riders = f"riders: {{count: 9, speed_mps: {speed}, shifts: [{{start_h: 0, hours: 2}}]}}\n"
        path.write_text(text + riders)
        paths.append(path)
    return paths


def test_progress_has_rate_time_left_and_the_virtual_time():
    terminal = Terminal("sim", "run", "small", "--json")
    out = terminal.end()
    assert terminal.process.returncode == 0
    assert json.loads(out)["orders_created"] == 600
    assert "small, seed 1" in terminal.seen
    assert "/600" in terminal.seen
    assert "orders/s" in terminal.seen
    assert "h simulated" in terminal.seen
    assert " left" in terminal.seen


def test_ctrl_c_prints_the_figures_so_far():
    terminal = Terminal("sim", "run", "city", "--json")
    terminal.read(r"[1-9]\.\d h simulated")
    os.killpg(terminal.process.pid, signal.SIGINT)
    shown = json.loads(terminal.end())
    assert terminal.process.returncode == 130
    assert shown["interrupted"] is True
    assert "2026-05-31T16:00" < shown["until"] <= "2026-06-01T12:00", "it begins at 16:00 UTC"
    assert 0 < shown["orders_delivered"] < shown["orders_created"] < 100_000
    assert "stopping" in terminal.seen


def test_ctrl_c_in_a_comparison_reports_the_seeds_that_are_done():
    terminal = Terminal(
        *("sim", "compare", "small", "small", "--precision", "1%", "--seeds-min", 50, "--json")
    )
    terminal.read(r"([4-9]|[1-9]\d) of 100 runs")
    terminal.process.send_signal(signal.SIGINT)
    shown = json.loads(terminal.end())
    assert terminal.process.returncode == 130
    assert shown["interrupted"] is True
    assert 2 <= shown["seeds"] < 50
    first = shown["results"][0]
    assert (first["kpi"], first["difference"]) == ("click_to_door_mean_min", 0.0)


def test_ctrl_c_before_the_first_seed_is_done_is_told():
    terminal = Terminal("sim", "compare", "city", "city", "--json")
    terminal.read(r"[1-9]\d*/[1-9]")
    terminal.process.send_signal(signal.SIGINT)
    shown = json.loads(terminal.end())
    assert terminal.process.returncode == 130
    assert (shown["seeds"], shown["interrupted"], shown["results"]) == (0, True, [])
    assert shown["precision_reached"] is False


def test_a_comparison_fits_80_columns_and_shows_what_was_asked(arms):
    ask = ("sim", "compare", *arms, "--kpi", "income_per_online_h_yuan")
    narrow = os.environ | {"COLUMNS": "80"}
    told = hexrun(*ask, "--precision", "50%", env=narrow).stdout
    rows = [row for row in told.splitlines() if "per online h" in row]
    assert len(rows) == 1
    assert "click to door" not in told
    assert re.search(r"of \d+ figures that were not asked for \d+ show a difference", told)
    assert "one of twenty does by chance" in told
    every = hexrun(*ask, "--precision", "50%", "--all", env=narrow).stdout
    rest = re.split(r"──\s*\n", every)[1]
    table = [row for row in rest.split("\nincome_per")[0].splitlines() if row.strip()]
    assert any("click to door mean" in row for row in table)
    assert len(table) > 10
    assert max(map(len, table)) <= 80
    assert all(re.search(r" (better|worse|higher|lower|\?) *$", row) for row in table), "unwrapped"


def test_the_bar_knows_how_many_orders_a_table_of_rates_brings(tmp_path):
    path = tmp_path / "rates.yaml"
    path.write_text(
        "name: rates\ncity: {name: t, lat: 30.6, lon: 104.0, radius_m: 2000, hot_spots: 1}\n"
        "start_ms: 1780282800000\nduration_s: 3600\nhorizon_s: 7200\n"
        "merchants: {count: 10}\njobs: {delivery: 1.0}\n"
        "riders: {count: 9, speed_mps: 5.0, shifts: [{start_h: 0, hours: 2}]}\n"
        f"demand: {{rates: [{{cell: '{to_text(cell_of(30.6, 104.0))}', per_h: [40.0]}}]}}\n"
    )
    arms = ("base", "base", "--scenario", path)
    terminal = Terminal("sim", "compare", *arms, "--precision", "90%", "--json")
    assert json.loads(terminal.end())["precision_reached"]
    assert re.search(r"\d+/640\b", terminal.seen), "16 runs of 40 orders"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full")
@pytest.mark.parametrize("command", ["sim scenarios --json", "jobs list", "sim scenarios"])
def test_a_full_disk_is_one_line(command):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*HEXRUN, *command.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == ("hexrun: standard output: cannot be written: No space left on device\n")


def test_a_reader_that_has_gone_is_one_line():
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [*HEXRUN, "sim", "scenarios"], stdout=theirs, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(theirs)
    assert done.returncode == 2
    assert done.stderr == "hexrun: standard output: cannot be written: Broken pipe\n"


def test_lists_are_one_line_of_json():
    listed = hexrun("sim", "scenarios", "--json")
    assert len(listed.stdout.splitlines()) == 1
    found = {row["scenario"]: row for row in json.loads(listed.stdout)["scenarios"]}
    assert found["lunch"] == {
        "scenario": "lunch", "cities": 1, "orders": 5_000, "riders": 650, "hours": 3.0,
        "jobs": ["delivery"],
    }  # fmt: skip
    assert found["country"]["cities"] == 10
    jobs = json.loads(hexrun("jobs", "list", "--json").stdout)
    assert jobs["job_types"]["delivery"] == ["pickup", "dropoff"]
    assert "country" in hexrun("sim", "scenarios").stdout


def test_another_policy_for_the_same_orders(arms, tmp_path):
    policy = tmp_path / "slow.yaml"
    policy.write_text("tick_ms: 60_000\n")
    usual, slow = (
        json.loads(hexrun("sim", "run", arms[0], *more, "--json").stdout)
        for more in ((), ("--policy", policy))
    )
    assert usual["orders_created"] == slow["orders_created"] == 25
    assert slow["rounds"] < usual["rounds"] / 2
    assert slow["match_mean_min"] > usual["match_mean_min"]
    wrong = hexrun("sim", "run", arms[0], "--policy", tmp_path / "none.yaml")
    assert wrong.returncode == 2
    assert "none.yaml: no such file" in wrong.stderr


def test_a_comparison_by_one_process_or_two_and_its_check(arms, tmp_path):
    table = tmp_path / "table.csv"
    ask = ("sim", "compare", *arms, "--precision", "1min", "--seeds-max", 12, "--json")
    one = json.loads(hexrun(*ask, "--save", table).stdout)
    two = json.loads(hexrun(*ask, "--workers", 2).stdout)
    assert one["results"] == two["results"]
    assert one["seeds"] in range(8, 13)
    first = one["results"][0]
    assert first["verdict"] == "B is worse"
    assert first["low"] < first["difference"] < first["high"]
    assert len(table.read_text().splitlines()) == 1 + 2 * one["seeds"]
    check = json.loads(hexrun("sim", "aa", table, "--draws", 200, "--json").stdout)
    assert check["draws"] == 200
    assert 0.0 <= check["false_alarm_share"]["to_door_mean_min"] < 0.3
    assert check["false_alarm_share"]["orders_created"] is None


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("base", "base"), "scenario: None is not valid, expected --scenario"),
        (("small", "small", "--kpi", "joy"), "kpi: 'joy' is not valid, expected one of"),
        (("small", "small", "--precision", "6 km"), "precision: '6 km'"),
        (("small", "no.yaml"), "no.yaml: no such file"),
        (("small", "country"), "scenario: 'country'"),
    ],
)
def test_a_wrong_comparison_is_one_line(args, told):
    done = hexrun("sim", "compare", *args)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_table_that_cannot_be_written(arms, tmp_path):
    save = tmp_path / "none" / "table.csv"
    done = hexrun("sim", "compare", *arms, "--precision", "90%", "--save", save)
    assert done.returncode == 2
    assert done.stderr == f"hexrun: {save}: cannot be written: there is no such folder\n"
