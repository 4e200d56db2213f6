"""Lists of the operator's commands as one line of JSON."""

import json
import os
import subprocess
import sys

from api.data_keys import KeyRing


def told(*args, **env):
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", *map(str, args), "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | env,
    )
    assert len(done.stdout.splitlines()) == 1
    return json.loads(done.stdout)


def test_keys_and_swept_files(tmp_path, new_database):
    key = KeyRing.open(tmp_path / "data-keys").newest
    url = new_database("lists", lasting=False)
    listed = told("data-keys", "list", "--data", tmp_path, HEXRUN_POSTGRES_URL=url)
    assert listed == {"data_keys": [{"key": key, "rows": 0, "missing": False}]}
    swept = told("sweep", "--data", tmp_path)
    assert swept == {"files_dropped": 0, "older_than_days": swept["older_than_days"]}
