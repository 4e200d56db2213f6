"""The schedule is the seed's, and even a short one has every kind."""

from bench.chaos.schedule import WAYS, schedule, verbs

SHORT = 26


def test_the_same_seed_gives_the_same_faults():
    one, same, other = (schedule(seed, SHORT, webhooks=True) for seed in (1, 1, 2))
    assert one == same != other


def test_a_short_schedule_does_everything_and_kills_everybody():
    for seed in range(20):
        faults = schedule(seed, SHORT, webhooks=True)
        assert verbs(faults) == {verb for verb, _ in WAYS}
        killed = {fault.target for fault in faults if fault.verb == "kill"}
        assert killed == {target for verb, target in WAYS if verb == "kill"}


def test_all_ways_come_before_one_comes_again():
    faults = schedule(1, len(WAYS), webhooks=True)
    assert {(fault.verb, fault.target) for fault in faults} == WAYS.keys()


def test_without_webhooks_nobody_breaks_them():
    faults = schedule(1, 200, webhooks=False)
    assert not {fault.kind for fault in faults} & {"kill sender", "cut webhooks", "receivers 500"}


def test_only_what_is_named_is_done():
    kinds = {fault.kind for fault in schedule(1, 40, webhooks=True, only="silence, kill http")}
    assert kinds == {"silence postgres", "silence redis", "kill http"}


def test_even_faults_are_as_far_apart_as_can_be():
    instants = [fault.at for fault in schedule(1, 4, webhooks=True, even=True)]
    assert instants == [0.0, 0.25, 0.5, 0.75]


def test_faults_come_in_time():
    faults = schedule(3, 40, webhooks=False)
    instants = [fault.at for fault in faults]
    assert instants == sorted(instants)
    assert instants[0] >= 0.0
    assert instants[-1] < 1.0
