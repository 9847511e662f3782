"""Becomes another program, after it takes an identity and arranges to die with its parent.

Run by its path (`python -I -S launch.py ...`), so it needs the standard library only and no import path:

    launch.py run SIGNAL PARENT IDENTITY COMMAND ...   the kernel sends SIGNAL when process PARENT dies
    launch.py reach IDENTITY PATH ...                  prints the first folder that IDENTITY cannot enter, if any

IDENTITY is `self`, `namespace`, or `user:UID:GID`. Exit status 125: the identity cannot be
taken, or the command not be run.
"""

import ctypes
import os
import pwd
import signal
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
REFUSED = 125


def main(arguments: list[str]) -> int:
    if arguments[0] == "reach":
        return _reach(arguments[1], arguments[2:])
    signal_number, parent, identity, command = int(arguments[1]), int(arguments[2]), arguments[3], arguments[4:]
    if not _taken(identity):
        return REFUSED
    if sys.platform == "linux":  # nothing like it elsewhere; after the identity: a change of user forgets it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os.kill(os.getpid(), signal.SIGKILL)
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted, and it does not return
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
    return REFUSED


def _taken(identity: str) -> bool:
    kind, _, ids = identity.partition(":")
    try:
        if kind == "namespace":
            _enter_namespace()
        elif kind == "user":
            uid, gid = (int(number) for number in ids.split(":"))
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
    except OSError as error:
        sys.stderr.write(f"cannot run as {identity}: {error}\n")
        return False
    return True


def _enter_namespace() -> None:
    """Become a plain user in a new user namespace; outside of it we remain the same user.

    So PostgreSQL, which refuses user 0, runs as a process of root and reads files that only root may read.
    """
    uid, gid = os.geteuid(), os.getegid()
    inside = next((user.pw_uid for user in pwd.getpwall() if user.pw_uid != 0), 1)  # initdb wants a name
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{inside} {uid} 1\n")
    (own / "gid_map").write_text(f"{inside} {gid} 1\n")


def _reach(identity: str, paths: list[str]) -> int:
    if not _taken(identity):
        return REFUSED
    for path in paths:
        for step in [*reversed(Path(path).parents), Path(path)]:
            if not os.access(step, os.X_OK):
                sys.stdout.write(f"{step}\n")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
