"""The comparison itself, on runs whose truth is known."""

import numpy as np
import pytest

from geo.errors import InvalidValue
from sim.experiments.compare import Design, compare, precision_of, report
from sim.experiments.table import OF_THE_MACHINE, SeedTable, read_csv, write_csv
from sim.tally import NAMES

KPI = "click_to_door_mean_min"


def kpis(**known):
    return {name: 0 for name in NAMES} | known


class Runs:
    """Both arms vary together by the seed; B is `better` minutes faster, give or take `noise`."""

    def __init__(self, better=1.0, noise=0.2, stop_after=None):
        self.better, self.noise, self.stop_after = better, noise, stop_after
        self.asked = []

    def __call__(self, seeds):
        self.asked += seeds
        return [self.pair(seed) for seed in seeds]

    def pair(self, seed):
        if self.stop_after is not None and seed > self.stop_after:
            return None
        rng = np.random.default_rng(seed)
        day = 30.0 + 3.0 * rng.normal()
        a = kpis(**{KPI: day, "on_time_share": 0.9, "lateness_p95_min": None, "riders": 7})
        faster = self.better + self.noise * rng.normal()
        b = a | {KPI: day - faster, "on_time_share": 0.9 + 0.01 * self.better, "riders": 8}
        return a, b


def line(found, name):
    return next(row for row in report(found) if row["kpi"] == name)


def test_it_runs_as_many_seeds_as_the_precision_takes_and_no_more():
    runs = Runs()
    found = compare(runs, Design(kpis=(KPI,), precision="0.1", seed=5))
    n = len(found.table.seeds)
    assert runs.asked == list(range(5, 5 + n))
    assert 8 < n < 100
    assert not found.interrupted
    assert found.unreached == {}
    row = line(found, KPI)
    assert row["high"] - row["low"] <= 0.2
    assert row["low"] < -1.0 < row["high"]
    assert row["verdict"] == "B is better"
    assert row["variance_cut"] > 100  # 2 * 9 over 0.04, more or less
    assert report(found)[0]["kpi"] == KPI


def test_the_verdict_knows_which_way_is_better():
    found = compare(Runs(better=-1.0), Design(kpis=(KPI,), precision="50%"))
    assert line(found, KPI)["verdict"] == "B is worse"
    assert line(found, "on_time_share")["verdict"] == "B is worse"
    assert line(found, "riders")["verdict"] == "B is higher"
    assert line(found, "km")["verdict"] == "no difference shown"
    assert line(found, "km")["variance_cut"] is None
    assert line(found, "lateness_p95_min")["verdict"] == "too few seeds"


def test_the_same_against_itself_is_zero():
    found = compare(Runs(better=0.0, noise=0.0), Design(kpis=(KPI,), precision="0.1%"))
    assert len(found.table.seeds) == 8
    for row in report(found):
        if row["kpi"] not in ("riders", "lateness_p95_min"):
            assert (row["difference"], row["low"], row["high"]) == (0.0, 0.0, 0.0)
            assert row["verdict"] == "no difference shown"


def test_no_more_than_seeds_max():
    found = compare(Runs(), Design(kpis=(KPI,), precision="0.001", seeds_max=11))
    assert len(found.table.seeds) == 11
    assert found.unreached == {KPI: "takes more than 11 seeds"}
    assert not found.interrupted


def test_the_strictest_figure_decides():
    both = Design(kpis=("on_time_share", KPI), precision="0.1")
    assert len(compare(Runs(), both).table.seeds) == len(
        compare(Runs(), Design(kpis=(KPI,), precision="0.1")).table.seeds
    )


class Told:
    """Both arms by seed: of the first figure what `a` and `b` say, of the second a calm one."""

    def __init__(self, a, b):
        self.a, self.b, self.asked = a, b, []

    def __call__(self, seeds):
        self.asked += seeds
        return [(self.of(self.a, seed), self.of(self.b, seed)) for seed in seeds]

    def of(self, figure, seed):
        return kpis(**{KPI: figure(seed), "utilisation": 0.5 + 0.001 * (seed % 3)})


def test_a_figure_that_no_run_has_ends_with_the_first_stage():
    runs = Told(lambda seed: None, lambda seed: None)
    found = compare(runs, Design(kpis=(KPI,), precision="1%"))
    assert runs.asked == list(range(1, 9))
    assert found.unreached == {KPI: "nothing to measure in the first 8 seeds"}
    assert line(found, KPI)["verdict"] == "too few seeds"


def test_a_share_of_nothing_asks_for_a_number():
    runs = Told(lambda seed: 0.0, lambda seed: float(seed % 2))
    found = compare(runs, Design(kpis=(KPI,), precision="1%"))
    assert runs.asked == list(range(1, 9))
    assert "give --precision as a number" in found.unreached[KPI]
    numbered = compare(runs, Design(kpis=(KPI,), precision="0.2"))
    assert len(numbered.table.seeds) > 8
    assert numbered.unreached == {}


def test_a_hopeless_figure_does_not_stop_the_others():
    noise = np.random.default_rng(8).normal(size=300)
    runs = Told(lambda seed: None, lambda seed: None)
    runs.of = lambda figure, seed: kpis(
        **{KPI: None, "km": 10.0 + (noise[seed] if figure is runs.b else 0.0)}
    )
    found = compare(runs, Design(kpis=(KPI, "km"), precision="0.5"))
    assert 8 < len(found.table.seeds) < 200
    assert list(found.unreached) == [KPI]


def test_reached_is_what_the_printed_interval_says():
    """What the first seeds saw next to nothing of gets a wider interval than was planned."""
    runs = Told(
        lambda seed: 20.0,
        lambda seed: 20.0 + (9.0 * (-1) ** seed if seed > 8 else 0.01 * (seed % 2)),
    )
    both = Design(kpis=(KPI, "km"), precision="0.1")
    noise = np.random.default_rng(9).normal(size=300)
    of = runs.of
    runs.of = lambda figure, seed: (
        of(figure, seed) | {"km": float(noise[seed]) if figure is runs.b else 0.0}
    )
    found = compare(runs, both)
    row = line(found, KPI)
    assert len(found.table.seeds) > 50
    assert row["difference"] - row["low"] > 0.1
    assert "--seeds-min" in found.unreached[KPI]
    for seed in range(200):
        alike = compare(Runs(noise=1.0), Design(kpis=(KPI,), precision="0.6", seed=1 + 300 * seed))
        row = line(alike, KPI)
        assert bool(alike.unreached) == (row["difference"] - row["low"] > 0.6 * (1 + 1e-9))


def test_what_was_done_is_kept():
    stopped = compare(Runs(stop_after=5), Design(kpis=(KPI,), precision="1%"))
    assert stopped.interrupted
    assert list(stopped.unreached) == [KPI]
    assert stopped.table.seeds == (1, 2, 3, 4, 5)
    assert line(stopped, KPI)["verdict"] == "B is better"
    one = compare(Runs(stop_after=1), Design(kpis=(KPI,), precision="1%"))
    assert line(one, KPI)["verdict"] == "too few seeds"
    assert line(one, KPI)["low"] is None
    assert compare(Runs(stop_after=0), Design(kpis=(KPI,), precision="1%")) is None


@pytest.mark.parametrize(
    ("text", "kpi", "amount", "is_share"),
    [
        ("0.5%", KPI, 0.005, True),
        ("6s", KPI, 0.1, False),
        ("250 ms", KPI, 0.25 / 60, False),
        ("0.2", KPI, 0.2, False),
        ("1.5min", KPI, 1.5, False),
        ("6min", "online_h", 0.1, False),
        ("0.01", "on_time_share", 0.01, False),
        ("1e-3", "on_time_share", 0.001, False),
    ],
)
def test_a_precision(text, kpi, amount, is_share):
    precision = precision_of(text, kpi)
    assert precision.amount == pytest.approx(amount)
    assert precision.is_share is is_share
    assert precision.half_width(-20.0) == pytest.approx(amount * 20 if is_share else amount)


@pytest.mark.parametrize(
    ("text", "kpi", "told"),
    [
        ("fast", KPI, "precision: 'fast' .* duration in min, s, ms, h"),
        ("0%", KPI, "more than 0"),
        ("-1s", KPI, "more than 0"),
        ("nan", KPI, "'nan'"),
        ("6s", "on_time_share", "for on_time_share .* its own unit"),
        ("6km", KPI, "duration in min"),
        ("", KPI, "precision: ''"),
    ],
)
def test_a_wrong_precision(text, kpi, told):
    with pytest.raises(InvalidValue, match=told):
        Design(kpis=(kpi,), precision=text)


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"seeds_min": 7}, "seeds_min: 7 .* 8 or more"),
        ({"seeds_max": 7}, r"seeds_max: 7 .* 8 \(seeds_min\)"),
        ({"kpis": ()}, "kpi: .* at least one"),
    ],
)
def test_a_wrong_design(knobs, told):
    with pytest.raises(InvalidValue, match=told):
        Design(**({"kpis": (KPI,), "precision": "1%"} | knobs))


def test_a_table_is_read_back_as_it_was():
    table = compare(Runs(), Design(kpis=(KPI,), precision="20%")).table
    again = read_csv(write_csv(table))
    assert (again.names, again.seeds) == (table.names, table.seeds)
    np.testing.assert_array_equal(again.a, table.a)
    np.testing.assert_array_equal(again.b, table.b)
    assert np.isnan(again.a[:, again.column("lateness_p95_min")]).all()
    assert not set(OF_THE_MACHINE) & set(table.names)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "columns arm, seed"),
        ("arm,seed,x\na,1,2\n", "two lines a seed"),
        ("arm,seed,x\na,1,2\nb,2,2\n", "line 3: 'b' .* same seed"),
        ("arm,seed,x\nb,1,2\na,1,2\n", "line 2: 'b'"),
        ("arm,seed,x\na,1,two\nb,1,2\n", "line 2: .*'two'"),
        ("arm,seed,x\na,1\nb,1,2\n", "line 2"),
    ],
)
def test_a_wrong_table(text, told):
    with pytest.raises(InvalidValue, match=told):
        read_csv(text)


def test_a_table_has_a_row_a_seed():
    with pytest.raises(InvalidValue, match=r"table\.b"):
        SeedTable(("x",), (1, 2), np.zeros((2, 1)), np.zeros((3, 1)))
    with pytest.raises(InvalidValue, match=r"kpi: 'y' .* one of x"):
        SeedTable(("x",), (1,), np.zeros((1, 1)), np.zeros((1, 1))).column("y")
