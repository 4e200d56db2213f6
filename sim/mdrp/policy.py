"""The benchmark's rules and the knobs that suit them, as a policy of the same `decide`."""

from __future__ import annotations

from dispatch.policy import Policy

MINUTE_MS = 60_000


def mdrp_policy() -> Policy:
    """Rounds on the minute; a courier is told when he has to leave, and is never diverted."""
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
        wait_weight=0,
        end_weight=0,
        unassigned_ms=24 * 60 * MINUTE_MS,
        commit_ahead_ms=0,
        diversion=False,
        one_merchant_a_bundle=True,
        bundles_in_sequence=True,
    )
