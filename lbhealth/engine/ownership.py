"""Keep two writers from fighting over one virtual service.

A lock is a bound abstract unix socket: it belongs to the network namespace, as IPVS tables
do, and vanishes with its process however that ends.  ldirectord takes no locks, so it is
looked for among the processes of the same network namespace.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path

from lbhealth.errors import TableOwnedError
from lbhealth.model import ServiceKey

__all__ = ["Ownership", "find_ldirectord"]


class Ownership:
    """The locks of one director."""

    def __init__(self) -> None:
        self._held: dict[ServiceKey, socket.socket] = {}

    def take(self, keys: Iterable[ServiceKey]) -> None:
        """Lock services, all or none.

        Raises TableOwnedError when another lbhealth drives one of them.
        """
        fresh: dict[ServiceKey, socket.socket] = {}
        try:
            for key in keys:
                if key not in self._held:
                    fresh[key] = _lock(key)
        except BaseException:
            for lock in fresh.values():
                lock.close()
            raise
        self._held.update(fresh)

    def drop(self, keys: Iterable[ServiceKey]) -> None:
        """Unlock services."""
        for key in keys:
            lock = self._held.pop(key, None)
            if lock is not None:
                lock.close()

    def close(self) -> None:
        """Unlock everything."""
        self.drop(tuple(self._held))


def _lock(key: ServiceKey) -> socket.socket:
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        lock.bind(f"\0lbhealth/{key}".encode())
    except OSError as error:
        lock.close()
        raise TableOwnedError(
            f"virtual service {key}",
            "another lbhealth in this network namespace",
            remedy="stop that one (`lbhealth status` finds it at its API socket), "
            "or take the service out of one of the two files",
        ) from error
    return lock


def find_ldirectord(proc: Path = Path("/proc")) -> int | None:
    """Process id of a running ldirectord in our network namespace, or None."""
    own = _namespace(proc / "self")
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if _is_ldirectord(words) and _namespace(entry) in (own, None):
            return int(entry.name)
    return None


def _is_ldirectord(words: list[bytes]) -> bool:
    """Perl running the program, or a child that has put its title in place of its words."""
    names = [word.partition(b" ")[0].rsplit(b"/", 1)[-1] for word in words[:3]]
    if names[0].startswith(b"ldirectord"):
        return True
    return names[0].startswith(b"perl") and b"ldirectord" in names[1:]


def _namespace(process: Path) -> str | None:
    try:
        return str((process / "ns" / "net").readlink())
    except OSError:
        return None
