"""Knobs are right once they are built."""

from dataclasses import FrozenInstanceError, fields

import pytest

from dispatch.policy import Policy
from geo.errors import InvalidValue

NUMBERS = [f.name for f in fields(Policy) if f.type == "int"]


@pytest.mark.parametrize("name", NUMBERS)
def test_no_knob_is_negative(name):
    with pytest.raises(InvalidValue) as caught:
        Policy(**{name: -1})
    assert caught.value.field == f"policy.{name}"


@pytest.mark.parametrize("name", ["tick_ms", "candidates", "passes_max", "unassigned_ms"])
def test_what_cannot_be_zero(name):
    Policy(**{name: 1})
    with pytest.raises(InvalidValue, match=f"policy.{name}"):
        Policy(**{name: 0})


@pytest.mark.parametrize(("stops", "right"), [(1, False), (2, True), (12, True), (13, False)])
def test_a_route_has_between_2_and_12_stops(stops, right):
    if right:
        assert Policy(route_stops_max=stops).route_stops_max == stops
    else:
        with pytest.raises(InvalidValue, match="2 to 12"):
            Policy(route_stops_max=stops)


def test_a_policy_does_not_change():
    with pytest.raises(FrozenInstanceError):
        Policy().tick_ms = 5


def test_many_numbers_are_tried():
    assert len(NUMBERS) > 12
