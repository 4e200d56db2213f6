"""What can be compared, by name and file."""

from importlib.resources import files

import pytest

from geo.errors import InvalidValue, MissingFile, UnknownKey, UnknownName
from sim.experiments.arms import read_arm
from sim.scenario import load_scenario

SMALL = load_scenario("small")
SMALL_FILE = files("sim") / "scenarios" / "small.yaml"


def test_policies_on_a_scenario_and_whole_scenarios(tmp_path):
    assert read_arm("base", SMALL).scenario == SMALL
    policy = tmp_path / "calm.yaml"
    policy.write_text("tick_ms: 20_000\n")
    arm = read_arm(str(policy), SMALL)
    assert arm.scenario.policy.tick_ms == 20_000
    assert arm.scenario.policy.version == "calm"
    assert arm.scenario.orders == SMALL.orders
    assert read_arm("lunch", SMALL).scenario == load_scenario("lunch")
    whole = tmp_path / "own.yaml"
    whole.write_text(SMALL_FILE.read_text().replace("name: small", "name: own"))
    assert read_arm(str(whole), None).scenario.name == "own"


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("tick: 1", UnknownKey, "mine.yaml: tick"),
        ("name: x\ncities: [small]", InvalidValue, "one city"),
        ("[1]", InvalidValue, "a mapping"),
        ("city: {name: x}", InvalidValue, "required"),
    ],
)
def test_wrong_files(tmp_path, text, error, told):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(error, match=told):
        read_arm(str(path), SMALL)


def test_what_is_not_there(tmp_path):
    with pytest.raises(UnknownName, match="scenario: 'smal'"):
        read_arm("smal", SMALL)
    with pytest.raises(MissingFile, match=r"no\.yaml"):
        read_arm(str(tmp_path / "no.yaml"), SMALL)
    for name in ("base", str(tmp_path / "policy.yaml")):
        (tmp_path / "policy.yaml").write_text("tick_ms: 1")
        with pytest.raises(InvalidValue, match=r"scenario: None .* --scenario"):
            read_arm(name, None)
