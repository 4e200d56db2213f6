"""The names of facts on the wire."""

import re

import pytest
from msgspec.structs import fields

from dispatch import events as e
from dispatch.commands import Command, RiderCommand
from dispatch.model import Value


def test_every_fact_has_a_name_of_its_own():
    facts = [*e.Fact.__args__, *e.RiderFact.__args__]
    assert len(e.FACTS) == len(facts)
    assert set(e.FACTS.values()) == set(facts)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in e.FACTS)


@pytest.mark.parametrize(
    ("fact", "name"),
    [
        (e.StopDone, "stop_done"),
        (e.WentOnShift, "went_on_shift"),
        (e.Opened(), "opened"),
        (e.Accepted(number=1, rider_id="r"), "accepted"),
    ],
)
def test_names_are_in_snake_case(fact, name):
    assert e.kind_of(fact) == name
    assert e.FACTS[name] is (fact if isinstance(fact, type) else type(fact))


@pytest.mark.parametrize("value", [*Command.__args__, *RiderCommand.__args__, *e.FACTS.values()])
def test_commands_and_facts_are_values(value):
    assert issubclass(value, Value)
    assert value.__struct_config__.frozen
    if value in (*Command.__args__, *RiderCommand.__args__):
        assert fields(value)[0].name == "at_ms", "a command says when"
