"""What the shell is offered at Tab, by the protocol that its own script speaks."""

import os
import subprocess
import sys

import pytest

from api.cli.completion import KPIS
from sim.country import shipped_countries
from sim.scenario import shipped
from sim.tally import NAMES

COMMAND = "import sys; sys.argv[0] = 'hexrun'; from api.cli import main; main()"


def offered(line, cwd="."):
    words = line.split(" ")
    told = {
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_HEXRUN_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [sys.executable, "-c", COMMAND],
        env=os.environ | told,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_scenarios_countries_and_files_by_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    assert offered("hexrun sim run ", tmp_path) == [
        *sorted((*shipped(), *shipped_countries())),
        "mine.yaml",
    ]
    assert offered("hexrun sim run lu", tmp_path) == ["lunch"]
    assert offered("hexrun sim compare ba", tmp_path) == ["base"]
    assert offered("hexrun sim run x --policy mi", tmp_path) == ["mine.yaml"]
    assert offered(f"hexrun sim compare base {tmp_path}/m") == [f"{tmp_path}/mine.yaml"]
    assert offered("hexrun sim run nothing/such") == []  # the shell looks for files itself


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("hexrun sim comp", ["compare"]),
        ("hexrun sim compare base lunch --kpi lateness_m", ["lateness_mean_min"]),
        ("hexrun role disp", ["dispatcher"]),
    ],
)
def test_words_of_the_command_line(line, told):
    assert offered(line) == told


def test_the_figures_that_are_offered_are_figures():
    assert set(KPIS) <= set(NAMES)
