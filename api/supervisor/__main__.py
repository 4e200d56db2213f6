"""`python -m api.supervisor FOLDER`: the two servers alone, until SIGTERM or Ctrl-C.

Prints one JSON line {"postgres": url, "redis": url} when both are ready. May import all of
`api.supervisor`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from api.supervisor.folder import DataFolder
from api.supervisor.servers import server_services
from api.supervisor.supervisor import Supervisor
from geo.errors import HexrunError


async def main(data_folder: Path) -> None:
    """Run both servers on `data_folder`."""
    with DataFolder(data_folder) as folder:
        services = server_services(folder)
        supervisor = Supervisor(folder, services)
        await supervisor.start()
        try:
            postgres, redis = (service.server.url for service in services if service.server)
            print(json.dumps({"postgres": postgres, "redis": redis}), flush=True)
            await supervisor.wait_stopped()
        finally:
            await supervisor.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    if len(sys.argv) != 2:
        sys.exit("usage: python -m api.supervisor FOLDER")
    try:
        asyncio.run(main(Path(sys.argv[1])))
    except HexrunError as error:
        sys.exit(str(error))
