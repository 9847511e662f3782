"""Debian's PostgreSQL, which has TLS and the embedded one has not: a server that takes nobody in without it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from scorebeat.ops.local.privileges import Identity, for_servers, launcher, own
from scorebeat.ops.local.processes import Child, Process
from tests.support.certificates import Certificates
from tests.support.fixtures import free_port, wait_for
from tests.support.postgres_15 import BINARIES, MISSING
from tests.support.stack_fixtures import UNSAFE_BUT_FAST

PASSWORD = "a word"
CERTIFIED = "certified"
"""A role that is let in only with a certificate of the same authority."""
HBA = f"""hostssl all {CERTIFIED} all scram-sha-256 clientcert=verify-ca
hostssl all all all scram-sha-256
"""


@dataclass(frozen=True)
class TlsServer:
    """It listens on the loopback addresses, and its certificate names `localhost`."""

    port: int
    certificates: Certificates
    log: Path

    def url(self, host: str = "localhost", user: str = "postgres", **parameters: object) -> str:
        """With `verify-full` and the right authority by default."""
        values = {"sslmode": "verify-full", "sslrootcert": self.certificates.ca, **parameters}
        query = "&".join(f"{name}={value}" for name, value in values.items() if value is not None)
        return f"postgresql://{user}:{PASSWORD.replace(' ', '%20')}@{host}:{self.port}/postgres?{query}"


@contextmanager
def tls_server(folder: Path, certificates: Certificates) -> Iterator[TlsServer]:
    """A cluster of its own; skips the test where Debian's programs are missing."""
    if not (BINARIES / "postgres").exists():
        pytest.skip(MISSING)
    identity = for_servers(folder, [BINARIES / "postgres"])
    cluster = _cluster(folder, certificates, identity)
    server = TlsServer(free_port(), certificates, folder / "server.log")
    with server.log.open("wb") as output:
        child = Child(_process(cluster, server.port, identity), output)
        try:
            wait_for(lambda: _responds(server))
            yield server
        finally:
            child.stop(hurried=lambda: False)


def _cluster(folder: Path, certificates: Certificates, identity: Identity) -> Path:
    cluster, password = folder / "cluster", folder / "password"
    cluster.mkdir(mode=0o700)
    password.write_text(PASSWORD)
    for path in (cluster, password):
        own(path, identity)
    made = ("--no-sync", "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8")
    command = [str(BINARIES / "initdb"), "-D", str(cluster), *made, "--locale=C.UTF-8"]
    subprocess.run(launcher(identity, signal.SIGKILL, command), check=True, capture_output=True, start_new_session=True)
    certificate, key = certificates.issue()
    for name, path in (("server.crt", certificate), ("server.key", key), ("ca.crt", certificates.ca)):
        (cluster / name).write_bytes(path.read_bytes())
        (cluster / name).chmod(0o600)
        own(cluster / name, identity)
    (cluster / "pg_hba.conf").write_text(HBA)
    return cluster


def _process(cluster: Path, port: int, identity: Identity) -> Process:
    options = {
        "listen_addresses": "localhost",
        "port": str(port),
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_ca_file": "ca.crt",
        "timezone": "UTC",
        **UNSAFE_BUT_FAST,
    }
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    argv = (str(BINARIES / "postgres"), "-D", str(cluster), *words)
    stop = ((signal.SIGINT, 20.0),)
    return Process("postgres", argv, environment, stop, orphan_signal=signal.SIGINT, identity=identity)


def _responds(server: TlsServer) -> bool:
    with suppress(psycopg2.OperationalError):
        connection = psycopg2.connect(server.url(), connect_timeout=5)
        connection.close()
        return True
    return False
