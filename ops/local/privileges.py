"""Which user runs the servers: PostgreSQL refuses root, and must still reach its programs and its data."""

import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scorebeat.core.errors import UsageError
from scorebeat.ops.local import launch

UNPRIVILEGED = ("postgres", "nobody")
"""Users that run the servers for root if user namespaces are forbidden; the first one that exists."""


@dataclass(frozen=True)
class Identity:
    """The user of a server: `word` is for the launcher, `uid` and `gid` own the server's folders."""

    word: str
    uid: int
    gid: int


def launcher(identity: Identity, orphan_signal: int, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` as `identity`, ended by `orphan_signal` if this process dies."""
    return [*_python(), "run", str(orphan_signal), str(os.getpid()), identity.word, *command]


def ourselves() -> Identity:
    return Identity("self", os.geteuid(), os.getegid())


def namespaces_allowed() -> bool:
    """Whether this machine allows user namespaces; a container without privileges does not."""
    if sys.platform != "linux":
        return False
    return _reach("namespace", []).returncode == 0


def for_servers(data: Path, programs: Sequence[Path], namespaces: Callable[[], bool] = namespaces_allowed) -> Identity:
    """The identity that may run PostgreSQL on this data folder and can reach the programs.

    A plain user runs it as itself. Root runs it as the folder's owner. If that is root, it runs in a
    user namespace, else as an unprivileged user. Raises UsageError, which names the folder closed to that user.
    """
    our_uid, owner = os.geteuid(), data.stat()
    if our_uid == 0 and owner.st_uid != 0:
        identity = Identity(f"user:{owner.st_uid}:{owner.st_gid}", owner.st_uid, owner.st_gid)
    elif our_uid != 0 and _has_name(our_uid):
        return ourselves()
    elif namespaces():  # for root, and for a user without a name, whom initdb refuses as well
        identity = Identity("namespace", our_uid, os.getegid())
    else:
        identity = _unprivileged() if our_uid == 0 else ourselves()
    probe = _reach(identity.word, [*programs, data.parent])
    if probe.returncode == 0:
        return identity
    evidence = probe.stdout.strip() or probe.stderr.strip()
    if identity.word == "namespace":
        who = "root without its privileges"
    else:
        who = f"user {pwd.getpwuid(identity.uid).pw_name if _has_name(identity.uid) else identity.uid}"
    raise UsageError(
        f"PostgreSQL would run as {who}, who cannot enter {evidence}. Nothing was started. "
        "Set SCOREBEAT_DATA to a folder that everyone may reach, such as /var/lib/scorebeat, with Scorebeat "
        "installed in such a folder too; or run as a plain user"
    )


def own(path: Path, owner: Identity) -> None:
    """Make the owner of the servers the owner of one file or folder; only root can, and only root needs to."""
    if os.geteuid() == 0:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


def _unprivileged() -> Identity:
    for name in UNPRIVILEGED:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(f"user:{user.pw_uid}:{user.pw_gid}", user.pw_uid, user.pw_gid)
    raise UsageError(
        "PostgreSQL does not run as root, user namespaces are forbidden here, and there is no user "
        f"{' or '.join(UNPRIVILEGED)} to run it as: run Scorebeat as a plain user"
    )


def _reach(word: str, paths: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    command = [*_python(), "reach", word, *(str(path) for path in paths)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _python() -> list[str]:
    return [sys.executable, "-I", "-S", launch.__file__]
