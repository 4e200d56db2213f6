"""Runs of the simulator in several processes, or in this one; may import sim.

Each worker is spawned, runs one job at a time and ends with its parent, however that ends. What
they share is a row of numbers: how far each job is, and whether all are to stop.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from types import TracebackType
from typing import Any

from api.clock import monotonic_s
from api.supervisor.leash import tie_to_parent
from geo.errors import HexrunError, RunFailed
from sim.commands import peak_rss_mib, run_scenario
from sim.report import RunResult
from sim.run import Progress
from sim.scenario import Scenario

POLL_S = 0.25
Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Job:
    """One run; `name` says in errors which."""

    name: str
    scenario: Scenario
    seed: int


@dataclass(frozen=True, slots=True)
class _Done:
    """From a worker: the result, or what was refused; errors of ours do not travel as such."""

    result: RunResult | None
    error: str
    pid: int
    peak_mib: float


class Workers:
    """`count` processes for up to `jobs_max` jobs; one is this process itself.

    `stop` is asked again and again: once it is true every run ends at its next simulated minute,
    and those not begun are left out.
    """

    def __init__(self, count: int, jobs_max: int, stop: Stop) -> None:
        self._stop, self._begun = stop, 0
        self._peaks: dict[int, float] = {}
        # The last number is the order to stop.
        self._row: Any = RawArray("q", jobs_max + 1)
        self._pool = _spawned(count, self._row) if count > 1 else None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._row[-1] = 1  # what still runs after an error is of no use
            self._pool.shutdown(cancel_futures=True)

    @property
    def peak_mib(self) -> float:
        """The sum of the most memory that each process has held, this one included: at no moment
        did all of them hold more."""
        return sum({**self._peaks, os.getpid(): peak_rss_mib()}.values())

    def run(self, jobs: Sequence[Job], told: Callable[[int, int], None]) -> list[RunResult | None]:
        """The results in the order of the jobs; None for one that was not begun.

        `told` hears now and then how many orders have ended in the runs of this call, and how many
        runs are done. Raises RunFailed naming the job for what one refused, or for a worker that
        died.
        """
        first, self._begun = self._begun, self._begun + len(jobs)
        if self._pool is None:
            return self._one_by_one(jobs, first, told)
        return self._side_by_side(self._pool, jobs, first, told)

    def _one_by_one(
        self, jobs: Sequence[Job], first: int, told: Callable[[int, int], None]
    ) -> list[RunResult | None]:
        out: list[RunResult | None] = []
        for i, job in enumerate(jobs):

            def progress(now: Progress, i: int = i) -> None:
                self._row[first + i] = now.ended
                told(sum(self._row[first : first + len(jobs)]), i)

            if self._stop():
                out.append(None)
                continue
            try:
                out.append(
                    run_scenario(
                        job.scenario,
                        job.seed,
                        stopwatch=monotonic_s,
                        progress=progress,
                        stop=self._stop,
                    )
                )
            except HexrunError as error:
                raise RunFailed(job.name, str(error)) from None
        return out

    def _side_by_side(
        self,
        pool: ProcessPoolExecutor,
        jobs: Sequence[Job],
        first: int,
        told: Callable[[int, int], None],
    ) -> list[RunResult | None]:
        out: list[RunResult | None] = [None] * len(jobs)
        waiting: dict[Future[_Done], int] = {
            pool.submit(_run, job, first + i): i for i, job in enumerate(jobs)
        }
        while waiting:
            done, _ = wait(waiting, POLL_S, FIRST_COMPLETED)
            if self._stop() and not self._row[-1]:
                self._row[-1] = 1
                for future in waiting:
                    future.cancel()
            for future in done:
                i = waiting.pop(future)
                if not future.cancelled():
                    out[i] = self._taken(jobs[i], future)
            told(sum(self._row[first : first + len(jobs)]), len(jobs) - len(waiting))
        return out

    def _taken(self, job: Job, future: Future[_Done]) -> RunResult | None:
        try:
            done = future.result()
        except BrokenProcessPool:
            why = "a worker process died, perhaps for want of memory; try fewer --workers"
            raise RunFailed(job.name, why) from None
        except Exception as error:
            error.add_note(f"in the run of {job.name}")
            raise
        self._peaks[done.pid] = done.peak_mib
        if done.error:
            raise RunFailed(job.name, done.error)
        return done.result


def _spawned(count: int, row: Any) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        count,
        # Fork would copy the locks of threads that do not exist in the child.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(os.getpid(), row),
    )


# --- in the worker ---

_shared: Any = None


def _begin(parent_pid: int, row: Any) -> None:
    global _shared
    tie_to_parent(parent_pid)
    # Ctrl-C reaches every process of the terminal; the parent tells this one what comes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _shared = row


def _run(job: Job, slot: int) -> _Done:
    def progress(now: Progress) -> None:
        _shared[slot] = now.ended

    result, error = None, ""
    if not _shared[-1]:
        try:
            result = run_scenario(
                job.scenario,
                job.seed,
                stopwatch=monotonic_s,
                progress=progress,
                stop=lambda: bool(_shared[-1]),
            )
        except HexrunError as refused:
            error = str(refused)
    return _Done(result, error, os.getpid(), peak_rss_mib())
