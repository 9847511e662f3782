"""Certificates for a test's servers and clients, from authorities of the test's own."""

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

HOST = "localhost"
"""The name in a server's certificate by default."""


@dataclass(frozen=True)
class Certificates:
    """An authority, and files of what it signed; other authorities do not know it."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    @property
    def ca(self) -> Path:
        """The authority's own certificate."""
        path = self.folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(path))
        return path

    def issue(self, name: str = HOST, *, expired: bool = False) -> tuple[Path, Path]:
        """A certificate and its key, in a file each."""
        ended = datetime.now(UTC) - timedelta(days=1) if expired else None
        issued = self.authority.issue_cert(name, common_name=name, not_after=ended)
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        return certificate, key

    def server(self, name: str = HOST, *, expired: bool = False) -> ssl.SSLContext:
        """For a server that requires no certificate of its clients."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self.issue(name, expired=expired))
        return context

    def demanding_server(self) -> ssl.SSLContext:
        """For a server that talks only to clients whose certificate this authority signed."""
        context = self.server()
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def locked_key(self) -> bytes:
        """A key in PEM that a passphrase protects."""
        key = load_pem_private_key(self.authority.issue_cert(HOST).private_key_pem.bytes(), None)
        locked = BestAvailableEncryption(b"passphrase")
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)


def certificates(folder: Path) -> Certificates:
    """A new authority, its files in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return Certificates(folder)
