"""The three tables: whole, without traps, and drawn in the documentation as they are."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.lifecycle import ASSIGNMENT, ORDER, STOP, diagram
from dispatch.model import AssignmentState, OrderState, StopState
from geo.errors import HexrunError, IllegalMove

MACHINES = [(ORDER, OrderState), (ASSIGNMENT, AssignmentState), (STOP, StopState)]
DOC = Path(__file__).resolve().parents[2] / "docs" / "lifecycle.md"
EDGE = re.compile(r"^    (\w+) --> (\w+): (\w+)$", re.MULTILINE)
ENDS = {
    "order": "completed cancelled_customer cancelled_merchant cancelled_system expired returned "
    "failed",
    "assignment": "finished declined timed_out withdrawn dropped",
    "stop": "done skipped failed",
}

machines = pytest.mark.parametrize(
    ("machine", "states"), MACHINES, ids=[m.name for m, _ in MACHINES]
)


@machines
def test_every_state_is_reachable(machine, states):
    reached, grown = {machine.first}, True
    while grown:
        found = reached | {b for (a, _), b in machine.table.items() if a in reached}
        grown, reached = found != reached, found
    assert reached == set(states)


@machines
def test_the_ends_are_those_of_the_design(machine, states):
    ends = {s for s in states if machine.ended(s)}
    assert ends == {states(name) for name in ENDS[machine.name].split()}
    assert not [edge for edge in machine.table if edge[0] in ends]


@machines
def test_an_end_is_reachable_from_everywhere(machine, states):
    """No state is a trap: whatever happens, a way to some end is left."""
    ahead = {s: {b for (a, _), b in machine.table.items() if a is s} for s in states}
    safe = {s for s in states if machine.ended(s)}
    for _ in states:
        safe |= {s for s in states if ahead[s] & safe}
    assert safe == set(states)


@machines
@given(data=st.data())
def test_an_illegal_move_names_machine_state_and_move(machine, states, data):
    state = data.draw(st.sampled_from(list(states)))
    moves = [*sorted({by for _, by in machine.table}), "fly", ""]
    move = data.draw(st.sampled_from(moves))
    if (state, move) in machine.table:
        assert machine.can(state, move)
        assert machine.move(state, move) is machine.table[state, move]
        return
    assert not machine.can(state, move)
    with pytest.raises(IllegalMove) as caught:
        machine.move(state, move)
    error = caught.value
    assert isinstance(error, HexrunError)
    assert (error.machine, error.state, error.move) == (machine.name, state, move)
    assert machine.name in str(error)
    assert repr(move) in str(error)
    assert str(state) in str(error)


@machines
def test_a_table_cannot_be_changed(machine, states):
    with pytest.raises(TypeError):
        machine.table[machine.first, "fly"] = machine.first


@machines
def test_the_documentation_shows_the_table(machine, states):
    drawn = re.findall(r"```mermaid\n(.*?)\n```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    assert drawn.count(diagram(machine)) == 1
    assert len(drawn) == len(MACHINES)


@machines
def test_a_diagram_says_what_the_table_says(machine, states):
    text = diagram(machine)
    assert {(a, by): b for a, b, by in EDGE.findall(text)} == dict(machine.table)
    assert len(EDGE.findall(text)) == len(machine.table)
    assert f"    [*] --> {machine.first}\n" in text
    ends = set(re.findall(r"^    (\w+) --> \[\*\]$", text, re.MULTILINE))
    assert ends == {s for s in states if machine.ended(s)}
