"""How often the comparison cries wolf, on a stored table of real runs.

`small.csv` holds the figures of 100 seeds of the scenario `small`, as `hexrun sim compare --save`
writes them, in six digits; arm B decides a millisecond later.
"""

from pathlib import Path

import numpy as np
import pytest

from geo.errors import InvalidValue
from sim.experiments.compare import Design
from sim.experiments.relabel import false_alarms
from sim.experiments.table import SeedTable, read_csv

TABLE = read_csv((Path(__file__).parent / "small.csv").read_text())
KPI = "click_to_door_mean_min"


@pytest.mark.parametrize(("precision", "seeds"), [("2%", 24), ("1.2%", 65)])
def test_of_100_figures_that_do_not_differ_5_are_said_to(precision, seeds):
    design = Design(kpis=(KPI,), precision=precision)
    rng = np.random.default_rng(1)
    found = false_alarms(TABLE, design, 6_000, rng, across=True)
    assert found.seeds == pytest.approx(seeds, rel=0.05)
    shares = {name: share for name, share in found.share.items() if share is not None}
    assert len(shares) > 20
    wrong = {name: share for name, share in shares.items() if not 0.035 < share < 0.065}
    assert not wrong  # 5 % +- 1, and what 6,000 draws are uncertain by
    assert np.mean(list(shares.values())) == pytest.approx(0.05, abs=0.01)


def test_of_normal_figures_as_often_within_seeds():
    rng = np.random.default_rng(2)
    day = rng.normal(30.0, 3.0, (400, 1))
    table = SeedTable((KPI,), tuple(range(400)), day, day + rng.normal(0.0, 0.3, (400, 1)))
    design = Design(kpis=(KPI,), precision="0.1")
    found = false_alarms(table, design, 6_000, rng)
    assert 20 < found.seeds < 100
    assert found.share[KPI] == pytest.approx(0.05, abs=0.01)


def test_a_figure_that_never_differs_raises_no_alarm():
    design = Design(kpis=(KPI,), precision="5%")
    found = false_alarms(TABLE, design, 50, np.random.default_rng(3))
    assert found.share["orders_created"] is None
    assert found.seeds == 8


def test_what_cannot_be_checked():
    one = SeedTable((KPI,), (1,), np.ones((1, 1)), np.ones((1, 1)))
    gap = SeedTable((KPI,), (1, 2), np.ones((2, 1)), np.array([[1.0], [np.nan]]))
    design, rng = Design(kpis=(KPI,), precision="5%"), np.random.default_rng(4)
    with pytest.raises(InvalidValue, match=r"table: 1 .* 2 seeds"):
        false_alarms(one, design, 10, rng)
    with pytest.raises(InvalidValue, match="every run of the table has"):
        false_alarms(gap, design, 10, rng)
