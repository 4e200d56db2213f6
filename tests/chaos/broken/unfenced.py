"""`hexrun` whose dispatcher writes its plans whoever owns the city.

It pauses itself between its first plan and the writing of it; once it goes on it writes at once,
before it can hear that it has lost the city. HEXRUN_TEST_MARK is touched when it pauses.
"""

import asyncio
import os
import signal
import threading
from pathlib import Path

import asyncpg

from api.cli import main
from api.store import Store

MARK = Path(os.environ["HEXRUN_TEST_MARK"])
URL = os.environ["HEXRUN_POSTGRES_URL"]
honest = Store.write_plan


async def write_whoever_owns_it(city, offers, receipts):
    connection = await asyncpg.connect(URL.replace("+asyncpg", ""))
    epoch = await connection.fetchval("SELECT epoch FROM leases WHERE city = $1", city)
    await connection.close()
    store = await Store.open(URL)
    written = await honest(store, city, epoch, offers, receipts)
    await store.close()
    return written


async def unfenced(self, city, epoch, offers, receipts=()):
    if not offers or MARK.exists():
        return await honest(self, city, epoch, offers, receipts)
    MARK.touch()
    os.kill(os.getpid(), signal.SIGSTOP)
    found = []
    work = write_whoever_owns_it(city, offers, receipts)
    thread = threading.Thread(target=lambda: found.append(asyncio.run(work)))
    thread.start()
    thread.join()  # on purpose in the way of everything else
    return found[0]


Store.write_plan = unfenced
main()
