"""What a service does before its first round."""

from dispatch.warm import warm_up


def test_it_warms_up_twice():
    warm_up()
    warm_up()
