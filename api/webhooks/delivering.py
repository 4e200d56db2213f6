"""Delivers one endpoint's events while this process has its lease; may import the store.

The cursor and the lanes that are behind are written twice a second, not for each event: after a
crash what was delivered since then is delivered once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

from api.cancelling import end_if_cancelled
from api.clock import monotonic_s, now_ms
from api.settings import WebhookSettings
from api.store import Positioned
from api.store.webhook_sending import Behind, Entry, Progress, WebhookSending
from api.store.webhooks import Endpoint
from api.webhooks import counters
from api.webhooks.calling import Outcome, WebhookCaller, message
from api.webhooks.lanes import Lanes
from api.webhooks.targets import check_url
from geo.errors import InvalidValue

View = Callable[[Positioned, str], Mapping[str, Any]]
"""The event as an answer shows it, with its points in the named coordinate system."""

CALLS_MAX = 16  # at once, to one endpoint
RETRIES_MAX = 8  # of these: retries that hang must not hold up what is new
HELD_MAX = 500  # events in memory
BEHIND_MAX = 10_000  # lanes; with so many nothing new is read
BREAK_AFTER = 20  # failures in a row; from then on what is new goes one at a time, paced
TRIAL_S_MAX = 300.0
SAVE_EVERY_S = 0.5
NOT_TO_BE_READ = "not sent: too old for the feed, or of a kind that the endpoint does not take"

log = structlog.get_logger(__name__)


class LeaseLost(Exception):
    """Another sender may have the endpoint: nothing more may be sent or written."""


class Delivering:
    """One endpoint under one lease. `run` ends by `leave`, or raises when the lease is lost.

    The sender keeps `endpoint` (its secrets), `head` (the city's last position) and
    `lease_until_s` (monotonic) up to date and says `wake`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        lease_until_s: float,
        sending: WebhookSending,
        caller: WebhookCaller,
        view: View,
        settings: WebhookSettings,
    ) -> None:
        self.endpoint = endpoint
        self.lease_until_s = lease_until_s
        self.head = 0
        self.lanes = Lanes(endpoint.cursor, (), settings.retry_s, settings.give_up_s)
        self._sending, self._caller, self._view = sending, caller, view
        self._settings = settings
        self._failing_since_ms = endpoint.failing_since_ms
        self._failures = 0
        self._paused_reason = _refusal(endpoint, settings)
        self._trial_at_s = 0.0
        self._saved = (endpoint.cursor, endpoint.failing_since_ms)
        self._save_at_s = 0.0
        self._fresh: set[asyncio.Task[None]] = set()
        self._retries: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._leaving = False

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def leave(self) -> None:
        """End once what is under way has its answer."""
        self._leaving = True
        self._woken.set()

    async def run(self) -> None:
        """Deliver until told to leave or paused; then give the lease back.

        Raises:
            LeaseLost: another one has the endpoint.
            One of `UNAVAILABLE`: PostgreSQL is away; nothing is lost.
        """
        try:
            behind = await self._sending.behind(self.endpoint.id)
            self.lanes = Lanes(
                self.endpoint.cursor, behind, self._settings.retry_s, self._settings.give_up_s
            )
            while not (self._leaving or self._paused_reason):
                end_if_cancelled()
                await self._read()
                self._start()
                await self._wait()
                await self._save()
            while self._fresh or self._retries:
                await self._wait()
            await self._save(now=True)
            await self._sending.release(self.endpoint.id, self.endpoint.epoch)
        finally:
            await _end([*self._fresh, *self._retries])

    async def resend(self, position: int) -> None:
        """Send a dead letter once more, out of its order; not while it is being paused."""
        if self._paused_reason:
            return
        entry = await self._sending.entry(self.endpoint, position)
        problem: str | None = NOT_TO_BE_READ
        if entry is not None:
            outcome = await self._attempt(entry)
            problem = None if outcome.delivered else outcome.problem
        await self._sending.settle_dead(self.endpoint, position, problem)

    # --- what to send ------------------------------------------------------------------------

    async def _read(self) -> None:
        room = HELD_MAX - self.lanes.waiting
        until = self.head
        if room <= 0 or self.lanes.read_to >= until or self.lanes.behind >= BEHIND_MAX:
            return
        found = await self._sending.entries(self.endpoint, self.lanes.read_to, until, room)
        # Fewer than asked for: these were all.
        read_to = until if len(found) < room else found[-1].placed.position
        self.lanes.admit(found, read_to)

    def _start(self) -> None:
        while len(self._retries) < RETRIES_MAX and self._calls < CALLS_MAX:
            behind = self.lanes.take_due(now_ms())
            if behind is None:
                break
            self._begin(self._retries, self._retry(behind))
        while self._calls < CALLS_MAX and self._may_start_fresh():
            entry = self.lanes.take_fresh()
            if entry is None:
                break
            self._trial_at_s = monotonic_s() + self._trial_wait_s()
            self._begin(self._fresh, self._first(entry))

    @property
    def _calls(self) -> int:
        return len(self._fresh) + len(self._retries)

    @property
    def _broken(self) -> bool:
        return self._failures >= BREAK_AFTER

    def _may_start_fresh(self) -> bool:
        return not self._broken or (not self._fresh and monotonic_s() >= self._trial_at_s)

    def _trial_wait_s(self) -> float:
        """Each trial that fails is one more order behind: the longer it is down, the fewer."""
        down_ms = 0 if self._failing_since_ms is None else now_ms() - self._failing_since_ms
        return max(self._settings.retry_s[0], min(down_ms / 10_000, TRIAL_S_MAX))

    def _begin(self, among: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
        among.add(asyncio.create_task(work, name=f"webhook to {self.endpoint.id}"))

    async def _wait(self) -> None:
        """Until a call ends, a retry is due, it is time to save, or somebody says `wake`."""
        if self._may_read_more():
            await asyncio.sleep(0)
        else:
            woken = asyncio.create_task(self._woken.wait())
            await asyncio.wait(
                {*self._fresh, *self._retries, woken},
                timeout=self._until_something(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            woken.cancel()
        self._woken.clear()
        for tasks in (self._fresh, self._retries):
            for task in [t for t in tasks if t.done()]:
                tasks.discard(task)
                task.result()

    def _may_read_more(self) -> bool:
        return not (
            self._leaving
            or self._paused_reason
            or self._broken
            or self._calls >= CALLS_MAX
            or self.lanes.read_to >= self.head
            or self.lanes.waiting >= HELD_MAX // 2
            or self.lanes.behind >= BEHIND_MAX
        )

    def _until_something(self) -> float:
        times_s = [SAVE_EVERY_S]
        due_ms = self.lanes.next_due_ms()
        if due_ms is not None and len(self._retries) < RETRIES_MAX and not self._leaving:
            times_s.append((due_ms - now_ms()) / 1000)
        return max(0.0, min(times_s))

    # --- attempts ----------------------------------------------------------------------------

    async def _first(self, entry: Entry) -> None:
        outcome = await self._attempt(entry)
        if outcome.delivered:
            self.lanes.delivered(entry)
        else:
            self.lanes.failed(entry, now_ms(), outcome.problem)

    async def _retry(self, behind: Behind) -> None:
        entry = await self._sending.entry(self.endpoint, behind.position)
        if entry is not None:
            outcome = await self._attempt(entry)
            if not outcome.delivered:
                if not self.lanes.failed_again(behind, entry, now_ms(), outcome.problem):
                    return
                counters.DELIVERIES.labels(self.endpoint.city, "dead").inc()
                log.warning(
                    "webhook_event_given_up",
                    endpoint=self.endpoint.id,
                    city=self.endpoint.city,
                    position=behind.position,
                    attempts=behind.attempts + 1,
                    problem=outcome.problem,
                )
        while True:
            until = self.lanes.read_to
            position = await self._sending.next_of(
                self.endpoint, behind.subject, behind.position, until
            )
            # What was read meanwhile was not put into this lane, as it was behind.
            if position is not None or self.lanes.read_to == until:
                break
        self.lanes.advance(behind, position)

    async def _attempt(self, entry: Entry) -> Outcome:
        if monotonic_s() >= self.lease_until_s:
            raise LeaseLost
        endpoint = self.endpoint
        event_id = str(entry.event_id)
        body = message(event_id, self._view(entry.placed, endpoint.coordinate_system))
        outcome = await self._caller.call(endpoint, event_id, body)
        kind = "refused" if outcome.status is not None else "no_answer"
        counters.DELIVERIES.labels(endpoint.city, "delivered" if outcome.delivered else kind).inc()
        counters.LATENCY.labels(endpoint.city).observe(outcome.latency_ms / 1000)
        if outcome.delivered:
            if (
                self._broken
            ):  # it is up again: nothing waits for a time that was set while it was down
                self.lanes.hasten(now_ms())
            self._failures, self._failing_since_ms = 0, None
        else:
            self._note_failure(outcome)
        return outcome

    def _note_failure(self, outcome: Outcome) -> None:
        at_ms = now_ms()
        self._failures += 1
        if self._failing_since_ms is None:
            self._failing_since_ms = at_ms
        if outcome.gone:
            self._paused_reason = "gone: it answered 410"
        elif at_ms - self._failing_since_ms >= self._settings.pause_s * 1000:
            self._paused_reason = (
                f"failing: no success since {self._failing_since_ms}; the last: {outcome.problem}"
            )

    # --- what is kept ------------------------------------------------------------------------

    async def _save(self, *, now: bool = False) -> None:
        state = self.lanes.cursor, self._failing_since_ms
        # Paused when nothing is under way any more, so that all of it is kept.
        reason = self._paused_reason if now else None
        dirty = state != self._saved or self.lanes.changed or reason
        if not dirty or (not now and monotonic_s() < self._save_at_s):
            return
        changes = self.lanes.take_changes()
        progress = Progress(
            cursor=state[0],
            failing_since_ms=state[1],
            behind=changes.behind,
            caught_up=changes.caught_up,
            dead=changes.dead,
            paused_reason=reason,
        )
        if not await self._sending.save(self.endpoint, progress):
            raise LeaseLost
        self._saved = state
        self._save_at_s = monotonic_s() + SAVE_EVERY_S
        if reason:
            log.warning(
                "webhook_endpoint_paused",
                endpoint=self.endpoint.id,
                city=self.endpoint.city,
                reason=reason,
            )


def _refusal(endpoint: Endpoint, settings: WebhookSettings) -> str | None:
    """Why it may not be called, though it might when it was made."""
    try:
        check_url(endpoint.url, allow_private=settings.allow_private)
    except InvalidValue as error:
        return f"not allowed: expected a url with {error.expected}"
    return None


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
