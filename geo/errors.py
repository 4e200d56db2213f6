"""The one error tree of hexrun; imports nothing.

HexrunError
├── InvalidValue          a caller gave a field a value that cannot be right
│   ├── UnknownKey        a file or form has a key that nothing reads
│   └── UnknownName       a name (job type, coordinate system, scenario) that is not registered
├── IllegalMove           a life-cycle table has no such transition; nothing changed
├── BrokenSnapshot        a snapshot that breaks its own rules; names the row
├── MissingFile           a file that a folder must hold is not there
├── CannotWrite           a file that was asked for cannot be written; says why
├── Conflict              the same key was used for something else
│   ├── StaleEpoch        a plan of an owner whose lease another one has taken
│   ├── PriceExpired      a price that was promised for a time that is over
│   └── FeedGone          a position of the feed whose following events are not kept any more
├── Unauthorised          no token, or a token that is not valid
├── Forbidden             a valid token that does not reach this object
├── NotFound              no such object
├── Unreadable            personal data whose key is missing, or that were changed
├── RateLimited           too many requests for now; says when to ask again
├── Unavailable           a server that is needed does not answer; asking again may help
├── RunFailed             one of several simulated runs came to no end; names the run
├── FolderInUse           a data folder is owned by another live process
└── StartupError          a part that is needed to start is missing or did not come up
"""

from __future__ import annotations


class HexrunError(Exception):
    """Base of every error that hexrun raises on purpose."""


class InvalidValue(HexrunError):
    """`field` holds `value`, which cannot be right; `expected` says what would be."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field, self.value, self.expected = field, value, expected
        super().__init__(f"{field}: {value!r} is not valid, expected {expected}")


class UnknownKey(InvalidValue):
    """A key that nothing reads."""


class UnknownName(InvalidValue):
    """A name that is not registered."""


class IllegalMove(HexrunError):
    """`machine` has no transition from `state` by `move`."""

    def __init__(self, machine: str, state: str, move: str) -> None:
        self.machine, self.state, self.move = machine, state, move
        super().__init__(f"{machine}: no move {move!r} from state {state!r}")


class BrokenSnapshot(HexrunError):
    """Table `table`, row `row`: `rule` does not hold."""

    def __init__(self, table: str, row: int, rule: str) -> None:
        self.table, self.row, self.rule = table, row, rule
        super().__init__(f"snapshot {table}[{row}]: {rule}")


class MissingFile(HexrunError):
    """`path` is not there; `needed_for` says who reads it."""

    def __init__(self, path: str, needed_for: str) -> None:
        self.path, self.needed_for = path, needed_for
        super().__init__(f"{path}: no such file, needed for {needed_for}")


class CannotWrite(HexrunError):
    """`path` cannot be written, for `reason`; nothing half-written is left there."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: cannot be written: {reason}")


class Conflict(HexrunError):
    """The same key was used for something else."""


class StaleEpoch(Conflict):
    """The lease of `city` is at epoch `current`, the writer holds `epoch`."""

    def __init__(self, city: str, epoch: int, current: int | None) -> None:
        self.city, self.epoch, self.current = city, epoch, current
        super().__init__(f"city {city}: the lease is at epoch {current}, the writer's is {epoch}")


class PriceExpired(Conflict):
    """A price that was promised for a time that is over."""


class FeedGone(Conflict):
    """Events after `after` are gone from the feed, whose first position is `first`."""

    def __init__(self, after: int, first: int) -> None:
        self.after, self.first = after, first
        super().__init__(
            f"after: {after} lies before what is kept: events are missing up to position"
            f" {first - 1}; read the orders as they stand, and go on after {first - 1}"
        )


class Unauthorised(HexrunError):
    """No token, or one that is not valid; `genuine` for one of ours that is over or revoked."""

    def __init__(self, message: str, *, genuine: bool = False) -> None:
        self.genuine = genuine
        super().__init__(message)


class Forbidden(HexrunError):
    """A valid token that does not reach this object."""


class NotFound(HexrunError):
    """No such object."""


class Unreadable(HexrunError):
    """Personal data whose key is missing, or that were changed; the message has none of them."""


class RateLimited(HexrunError):
    """More requests than `limit` allows `who`; asking again makes sense in `retry_after_s`."""

    def __init__(self, who: str, limit: str, retry_after_s: int) -> None:
        self.who, self.limit, self.retry_after_s = who, limit, retry_after_s
        super().__init__(f"too many requests: {who} may make {limit}; again in {retry_after_s} s")


class Unavailable(HexrunError):
    """A server that is needed does not answer: nothing was changed, or its answer was lost."""


class Overloaded(Unavailable):
    """There is no room for this now; `what` names what is full. Nothing was done."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"too much at once ({what}): ask again in some seconds")


class RunFailed(HexrunError):
    """One of several simulated runs, `run`, came to no end."""

    def __init__(self, run: str, why: str) -> None:
        self.run, self.why = run, why
        super().__init__(f"{run}: {why}")


class FolderInUse(HexrunError):
    """`folder` is owned by the live process `pid`."""

    def __init__(self, folder: str, pid: int, command: str) -> None:
        self.folder, self.pid, self.command = folder, pid, command
        super().__init__(
            f"{folder}: in use by process {pid} ({command}); stop it or name another folder"
        )


class StartupError(HexrunError):
    """A part that is needed to start is missing or did not come up."""
