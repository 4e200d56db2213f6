"""Which fault when, from the seed alone."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

# (what is done, to whom): seconds that it lasts, and how much of it.
WAYS: dict[tuple[str, str], tuple[float, int]] = {
    **{("kill", name): (0.0, 0) for name in
       ("gateway", "http", "dispatcher", "solver", "sequencer", "sender", "valkey", "postgres",
        "backend")},
    ("pause", "gateway"): (3.0, 0),
    ("pause", "http"): (2.0, 0),
    ("pause", "dispatcher"): (6.0, 0),  # longer than its lease
    ("pause", "solver"): (3.0, 0),
    ("pause", "sequencer"): (3.0, 0),
    ("pause", "sender"): (3.0, 0),
    ("pause", "valkey"): (2.5, 0),
    ("pause", "postgres"): (2.0, 0),
    ("flush", "valkey"): (0.0, 0),
    **{("cut", name): (1.0, 0) for name in ("postgres", "redis", "http", "stream", "webhooks")},
    **{("delay", name): (3.0, 200) for name in ("postgres", "redis", "http", "stream")},
    **{("stall", name): (2.5, 0) for name in ("postgres", "redis", "http", "stream")},
    **{("half_open", name): (2.5, 0) for name in
       ("postgres", "redis", "http", "stream", "webhooks")},
    **{("silence", name): (2.0, 0) for name in ("postgres", "redis")},
    ("slow_fsync", "gateway"): (3.0, 400),
    ("slow_fsync", "postgres"): (3.0, 150),
    **{("clock_step", name): (4.0, 30_000) for name in
       ("gateway", "http", "dispatcher", "sequencer")},
    **{("receivers", name): (2.0, 0) for name in ("500", "timeout", "reset")},
}  # fmt: skip
TWINS = ("gateway", "http", "dispatcher", "sequencer", "sender", "stream")


@dataclass(frozen=True, slots=True)
class Fault:
    """`verb` is done to `target` for `seconds`; `amount` in the verb's own unit.

    `at` says when, 0 to 1: how much of the load is placed by then. `twin` (1 or 2) says which of
    two; for a dispatcher 1 is one that owns a city.
    """

    at: float
    verb: str
    target: str
    twin: int
    seconds: float
    amount: int

    @property
    def kind(self) -> str:
        return f"{self.verb} {self.target}"


def schedule(
    seed: int, count: int, *, webhooks: bool, even: bool = False, only: str = ""
) -> list[Fault]:
    """`count` faults over the whole load, with some chance between them, or `even`ly; of `only`
    these kinds, verbs or targets, with commas between.

    All ways are dealt before one comes again; the first deal begins with one of each verb and with
    every kill, so that a short run has these too.
    """
    rng = random.Random(f"faults {seed}")
    ways = [w for w in WAYS if webhooks or not (w[0] == "receivers" or w[1] in _OF_WEBHOOKS)]
    if only:
        names = {name.strip() for name in only.split(",")}
        ways = [w for w in ways if names & {w[0], w[1], f"{w[0]} {w[1]}"}]
    dealt: list[tuple[str, str]] = []
    while len(dealt) < count:
        deck = rng.sample(ways, len(ways))
        dealt += deck if dealt else _with_first(deck)
    dealt = dealt[:count]
    rng.shuffle(dealt)
    gap = 1 / max(1, count)
    faults = []
    for n, way in enumerate(dealt):
        lasts_s, amount = WAYS[way]
        faults.append(
            Fault(
                at=round((n + (0.0 if even else rng.uniform(0.0, 0.8))) * gap, 6),
                verb=way[0],
                target=way[1],
                twin=1 if way[1] == "dispatcher" and rng.random() < 0.8 else rng.choice((1, 2)),
                seconds=lasts_s,
                amount=amount * rng.choice((-1, 1)) if way[0] == "clock_step" else amount,
            )
        )
    return faults


_OF_WEBHOOKS = ("sender", "webhooks")


def _with_first(deck: list[tuple[str, str]]) -> list[tuple[str, str]]:
    firsts: list[tuple[str, str]] = []
    for way in deck:
        if way[0] == "kill" or way[0] not in {verb for verb, _ in firsts}:
            firsts.append(way)
    return firsts + [way for way in deck if way not in firsts]


def verbs(faults: Iterable[Fault]) -> set[str]:
    """What is done at all."""
    return {fault.verb for fault in faults}
