"""The oldest PostgreSQL that counts: Debian's programs of version 15 instead of those of the embedded stack."""

import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from scorebeat.ops.local.data_folder import DataFolder
from scorebeat.ops.local.privileges import Identity, launcher, own
from scorebeat.ops.local.servers import postgres

VERSION = "15"
BINARIES = Path("/usr/lib/postgresql") / VERSION / "bin"
MISSING = f"there is no PostgreSQL {VERSION} in {BINARIES}: `make packages` installs Debian's, where it can"


def use() -> None:
    """From here on every server that this process starts is PostgreSQL 15's."""
    if not (BINARIES / "initdb").exists():
        pytest.exit(MISSING, returncode=4)
    patch = pytest.MonkeyPatch()  # never undone: it is of the whole session
    patch.setattr(postgres, "binaries", lambda: BINARIES)
    patch.setattr(postgres, "initdb", _initdb)


def _initdb(folder: DataFolder, new: Path, owner: Identity, settings: Mapping[str, str]) -> None:
    """As the embedded stack makes its cluster; version 15 has neither its locale provider nor initdb's --set."""
    password = folder.path / "password"
    _ = folder.password  # written by now
    own(password, owner)
    locale = ("--encoding=UTF8", "--locale=C.UTF-8")
    access = ("-U", postgres.USER, "--auth=scram-sha-256", f"--pwfile={password}")
    command = [str(BINARIES / "initdb"), "-D", str(new), *access, *locale, "--no-sync"]
    made = subprocess.run(
        launcher(owner, signal.SIGKILL, command),
        check=False,
        env=postgres.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert made.returncode == 0, made.stderr
    with (new / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in (postgres.tuning() | dict(settings)).items())
