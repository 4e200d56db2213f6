"""The command `hexrun`; the one place that may import both api and sim.

app       the commands and their options
roles     one process of the live system each, a module a role
live      `hexrun up` and the demo's services under the supervisor
demo      `hexrun demo`: the live city with bots, status line and KPIs
bots      riders and customers who use the live system through its doors
keys      `hexrun key ...`
simulate  `hexrun sim ...`
workers   runs in several processes

Heavy imports stand inside the commands, so that `hexrun --help` answers at once.
"""

from __future__ import annotations

import errno
import sys

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE)


def main() -> None:
    """Runs the command line; an error of our own tree is one line and exit code 2.

    So is a disk that is full, or a reader of stdout that has gone; Ctrl-C is exit code 130.
    """
    from api.cli.app import app
    from geo.errors import HexrunError

    try:
        app()
    except HexrunError as error:
        print(f"hexrun: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = error.filename or "standard output"
        print(f"hexrun: {where}: cannot be written: {error.strerror}", file=sys.stderr)
        sys.exit(2)
