"""PostgreSQL and Valkey alone, for tests and tools.

May import the supervisor and what it runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from api.supervisor.embedded import EmbeddedPostgres, EmbeddedValkey, ServerUrls
from api.supervisor.folder import DataFolder
from api.supervisor.service import POSTGRES, VALKEY, Service
from api.supervisor.supervisor import Supervisor


def server_services(folder: DataFolder) -> list[Service]:
    """The services `postgres` and `valkey` on `folder`, or the real ones that are named."""
    return [
        Service(POSTGRES, server=EmbeddedPostgres(folder), ready_limit_s=300.0),  # WAL replay
        Service(VALKEY, server=EmbeddedValkey(folder)),
    ]


@asynccontextmanager
async def open_servers(data_folder: Path) -> AsyncIterator[ServerUrls]:
    """Both servers, ready, until the block ends; supervised as in `hexrun up`.

    Use it from the main thread.

    Raises:
        FolderInUse: another process holds the folder.
        StartupError: one did not come up.
    """
    with DataFolder(data_folder) as folder:
        services = server_services(folder)
        supervisor = Supervisor(folder, services, handle_signals=False)
        await supervisor.start()
        try:
            postgres, valkey = (service.server for service in services)
            assert postgres is not None
            assert valkey is not None
            yield ServerUrls(postgres=postgres.url, redis=valkey.url)
        finally:
            await supervisor.stop()
