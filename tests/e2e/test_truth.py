"""Ten minutes of a real demo lie within what the simulator expects of the same scenario."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from api.cli.instants import shown, zone_of
from api.recording import Recording
from bench.truth import FIGURES, compare
from sim.scenario import load_scenario

SPAN_S = 600
SEEDS = 40

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def ended(make_demo, tmp_path_factory):
    """The folder of a demo that has run for a little longer than what is measured."""
    demo = make_demo(tmp_path_factory.mktemp("truth") / "city", minutes=SPAN_S / 60 + 0.5)
    code, kpis, err = demo.end()
    assert code == 0, err
    yield demo.folder, kpis
    shutil.rmtree(demo.folder, ignore_errors=True)


def test_a_demo_lies_within_the_simulators_interval(ended):
    folder, _ = ended
    truths = compare(folder, load_scenario("demo"), 1, SPAN_S, SEEDS)
    shown = [f"{t.name}: {t.live:.4f} in {t.low:.4f} to {t.high:.4f}" for t in truths]
    print(f"load {os.getloadavg()}", *shown, sep="\n")
    assert [t.name for t in truths] == list(FIGURES)
    assert all(t.low < t.high for t in truths)
    assert [line for line, t in zip(shown, truths, strict=True) if not t.holds] == []


def test_a_scenario_with_slower_riders_is_told_apart(ended):
    folder, _ = ended
    scenario = load_scenario("demo")
    slower = replace(scenario, riders=replace(scenario.riders, speed_mps=6.0, answer_s=1.5))
    wrong = {t.name for t in compare(folder, slower, 1, SPAN_S, 8) if not t.holds}
    assert {"click_to_door_mean_min", "match_mean_min"} <= wrong


def test_a_fork_of_its_journal_is_near_the_recording(ended, tmp_path):
    folder, _ = ended
    policy = tmp_path / "other.yaml"
    policy.write_text("tick_ms: 10000\n")
    zone = zone_of("Asia/Shanghai")
    at = shown(Recording(folder).begun_ms + 300_000, zone).replace(" ", "T")
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "sim", "fork", str(folder), "--at", at,
         "--policy", str(policy), "--replicas", "8", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    near = found["recorded_and_as_it_was"]["click_to_door_mean_min"]
    assert near["recorded"] == pytest.approx(near["was"]["mean"], rel=0.05)
    waited = found["causes_min"]["waited_for_offer"]
    assert waited["low"] > 0.03, "rounds of 10 s rather than 2 s: orders wait 4 s longer for one"
