"""The benchmark's rules and the knobs that suit them, as a policy of the same `decide`."""

from __future__ import annotations

from dispatch.policy import Policy

MINUTE_MS = 60_000
RULES = {"diversion": False, "one_merchant_a_bundle": True, "bundles_in_sequence": True}
"""What no policy for the benchmark may leave out."""


def mdrp_policy() -> Policy:
    """Rounds on the minute over the whole town, committing at the last moment.

    The weights were chosen on eight days of five seeds; most of them matter less than the noise
    there (0.1 min of click-to-door):

    - riding costs nothing, a courier's waiting a little: work is spread over couriers who would
      stand idle, which pays fewer guarantees (cost an order 10.9 instead of 11.2);
    - lateness beyond the target and cold food cost little beside the customer's time, since an
      order that is late already must not be left to go on waiting;
    - an order that is left over costs a day, so that none is dropped for being dear;
    - nothing is committed ahead: distances are exact, so the last moment is known.
    """
    return Policy(
        version="mdrp",
        tick_ms=MINUTE_MS,
        candidates=400,
        route_stops_max=8,
        passes_max=4,
        door_weight=1_000,
        late_weight=100,
        fresh_weight=100,
        ride_weight=0,
        wait_weight=100,
        end_weight=0,
        unassigned_ms=24 * 60 * MINUTE_MS,
        commit_ahead_ms=0,
        look_ahead_ms=24 * 60 * MINUTE_MS,
        **RULES,
    )
