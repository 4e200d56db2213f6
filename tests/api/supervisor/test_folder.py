"""The data folder has one owner, is taken over from a dead one, and keeps socket paths short."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.supervisor import DataFolder
from api.supervisor.folder import LOCK_NAME, SOCKET_PATH_BYTES_MAX
from geo.errors import FolderInUse, InvalidValue

HOLD = """
import sys, time
from pathlib import Path
from api.supervisor import DataFolder
folder = DataFolder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(open_path: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    line = [sys.executable, "-c", HOLD, str(open_path / "data")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_makes_its_folders_and_says_who_holds_it(tmp_path: Path) -> None:
    with DataFolder(tmp_path / "new" / "data") as folder:
        for name in ("postgres", "valkey", "segments", "journal", "logs", "run"):
            assert (folder.path / name).is_dir()
        owner = json.loads((folder.path / LOCK_NAME).read_text())
        assert owner["pid"] == os.getpid()
        assert owner["command"].split()[0] == sys.orig_argv[0]
        assert owner["started_ms"] > 1_700_000_000_000
    assert (folder.path / LOCK_NAME).read_text() == ""


def test_a_second_owner_is_told_the_first(open_path: Path, holder: subprocess.Popen[bytes]) -> None:
    with pytest.raises(FolderInUse) as caught:
        DataFolder(open_path / "data")
    assert caught.value.pid == holder.pid
    assert "time.sleep(600)" in caught.value.command
    assert str(holder.pid) in str(caught.value)


def test_one_process_cannot_hold_it_twice_but_again(tmp_path: Path) -> None:
    with DataFolder(tmp_path), pytest.raises(FolderInUse, match=str(os.getpid())):
        DataFolder(tmp_path)
    with DataFolder(tmp_path):
        pass


def test_is_taken_over_from_a_dead_owner(
    open_path: Path, holder: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with DataFolder(open_path / "data") as folder:
        assert json.loads((folder.path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert f"process {holder.pid}, which died" in caplog.text


def test_an_owner_that_has_not_said_who_it_is_still_owns_it(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        os.truncate(folder.path / LOCK_NAME, 0)
        with pytest.raises(FolderInUse, match="unknown"):
            DataFolder(tmp_path)


def test_a_short_open_folder_keeps_its_sockets(open_path: Path) -> None:
    with DataFolder(open_path / "d") as folder:
        assert folder.sockets == folder.run
        assert folder.socket("a.sock") == folder.run / "a.sock"


def test_a_long_folder_has_its_sockets_elsewhere(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 60) / ("y" * 60)
    with DataFolder(long) as folder:
        assert folder.sockets != folder.run
        assert len(os.fsencode(folder.socket("z" * 32))) <= SOCKET_PATH_BYTES_MAX
        about = folder.sockets.stat()
        assert about.st_uid == os.geteuid()
        assert stat.S_IMODE(about.st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
        sockets = folder.sockets
    assert not sockets.exists()


def test_the_short_folder_is_reused_but_not_one_that_others_write(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 60) / ("y" * 60)
    with DataFolder(long) as folder:
        usual = folder.sockets
    usual.mkdir(mode=0o700)
    with DataFolder(long) as folder:
        assert folder.sockets == usual
    usual.mkdir()
    usual.chmod(0o777)
    try:
        with DataFolder(long) as folder:
            assert folder.sockets != usual
    finally:
        usual.rmdir()


def test_a_socket_name_that_would_not_fit_is_refused(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder, pytest.raises(InvalidValue, match="at most 32 bytes"):
        folder.socket("s" * 33)


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidValue, match="a folder that this user can write"):
        DataFolder(tmp_path / "file")
