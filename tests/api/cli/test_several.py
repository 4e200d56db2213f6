"""Several cities by the command: the same in any number of processes, which end with it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PAIR = """
name: pair
cities:
  - {like: small, name: east, duration_s: 900, orders: {count: 40, peaks: []}, riders: {count: 9}}
  - {like: small, name: west, duration_s: 900, orders: {count: 30, peaks: []}, riders: {count: 7}}
  - {like: faults, name: south, duration_s: 900, orders: {count: 20, peaks: []}, riders: {count: 5}}
"""
# Long enough to be caught in the middle.
LONG = "name: long\ncities: [{like: lunch, name: one}, {like: lunch, name: two}, lunch]\n"
WAIT_S = 60


def hexrun(*args, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "api.cli", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def figures(*args):
    done = hexrun(*args)
    out, err = done.communicate(timeout=WAIT_S)
    assert done.returncode == 0, err
    assert err == ""
    return json.loads(out)


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def children(pid):
    """The processes whose parent it is, the resource tracker left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            argv = (stat.parent / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid and "spawn_main" in argv:
            found.append(int(stat.parent.name))
    return found


def until(true, what):
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def workers_of(running):
    """Two workers that are tied to their parent: they ignore Ctrl-C from then on."""

    def ready(pid):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        ignored = int(next(line for line in lines if line.startswith("SigIgn:")).split()[1], 16)
        return bool(ignored >> (signal.SIGINT - 1) & 1)

    until(lambda: sum(map(ready, children(running.pid))) == 2, "two workers")
    return children(running.pid)


def is_alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_one_process_or_two_give_the_same(file):
    path = file(PAIR)
    one, two = (figures("sim", "run", path, "--workers", n, "--json") for n in (1, 2))
    machine = ("_s", "_mib", "_ms_p95", "_us_per_event")
    assert len(one["cities"]) == 3
    for shown in (one, two, *one["cities"], *two["cities"]):
        for name in [name for name in shown if name.endswith(machine)]:
            del shown[name]
    assert one == two
    assert one["orders_created"] == 90
    assert one["violations"] == []


def test_an_error_in_one_city_names_it(file):
    # Two kilometres hold no thousand cells: only the run itself finds out.
    path = file(PAIR.replace("name: west", "name: west, city: {radius_m: 2000, hot_spots: 1000}"))
    for workers in (1, 2):
        done = hexrun("sim", "run", path, "--workers", workers)
        out, err = done.communicate(timeout=WAIT_S)
        assert done.returncode == 2
        assert out == ""
        assert err.startswith("hexrun: west: city.hot_spots: 1000 is not valid")
        assert len(err.splitlines()) == 1


def test_more_processes_than_cities_are_refused_for_one_city():
    done = hexrun("sim", "run", "small", "--workers", 2)
    assert "workers: 2 is not valid, expected 1: small is one city" in done.communicate()[1]
    assert done.returncode == 2


def test_ctrl_c_tells_what_is_done(file):
    # As from a terminal, to every process of the group.
    running = hexrun("sim", "run", file(LONG), "--workers", 2, "--json", start_new_session=True)
    workers_of(running)
    time.sleep(2)  # well into the runs
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=WAIT_S)
    assert running.returncode == 130
    assert "Traceback" not in err
    shown = json.loads(out)
    assert shown["interrupted"] is True
    assert shown["until"].startswith("2026-06-01T0")
    assert 1 <= len(shown["cities"]) <= 2
    assert shown["cities_not_begun"] == 3 - len(shown["cities"])


def test_a_second_ctrl_c_ends_at_once_and_leaves_no_process(file):
    running = hexrun("sim", "run", file(LONG), "--workers", 2, start_new_session=True)
    workers = workers_of(running)
    os.kill(workers[0], signal.SIGSTOP)  # one that cannot heed the first
    running.send_signal(signal.SIGINT)
    line = ""
    while "again ends at once" not in line:
        line = running.stderr.readline()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=WAIT_S)
    assert running.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    until(lambda: not any(map(is_alive, workers)), "workers end")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's leash")
def test_workers_end_with_a_parent_that_is_killed(file):
    running = hexrun("sim", "run", file(LONG), "--workers", 2)
    workers = workers_of(running)
    running.kill()
    running.wait()  # not communicate: workers that live on would hold its pipes
    until(lambda: not any(map(is_alive, workers)), "workers end")


def test_a_worker_that_is_killed_is_told_with_its_city(file):
    running = hexrun("sim", "run", file(LONG), "--workers", 2)
    os.kill(workers_of(running)[0], signal.SIGKILL)
    _, err = running.communicate(timeout=WAIT_S)
    assert running.returncode == 2
    last = err.strip().splitlines()[-1]
    assert "a worker process died" in last
    assert last.split(": ")[1] in ("one", "two", "lunch")
