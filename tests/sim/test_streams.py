"""Streams: each actor's draws depend on the seed and its own names alone."""

import pytest

from sim.streams import stream


def test_the_same_names_give_the_same_draws():
    assert (
        stream(7, "rider", "r1").random(5).tolist() == stream(7, "rider", "r1").random(5).tolist()
    )


@pytest.mark.parametrize(
    "other", [(8, "rider", "r1"), (7, "rider", "r2"), (7, "riderr1"), (7, "rider/r1"), (7, "r1")]
)
def test_other_names_or_seeds_give_other_draws(other):
    assert stream(*other).random() != stream(7, "rider", "r1").random()


def test_an_actor_that_draws_more_moves_nobody():
    greedy, before = stream(1, "a"), stream(1, "b").random(3).tolist()
    greedy.random(1000)
    assert stream(1, "b").random(3).tolist() == before


def test_the_draws_are_those_of_every_machine():
    # A change here changes every scenario's outcome.
    assert stream(1, "demand", "times").integers(0, 1000, 4).tolist() == PINNED


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        stream(-1, "a")


PINNED = [469, 803, 260, 30]
