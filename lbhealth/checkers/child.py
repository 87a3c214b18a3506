"""One child process of a check: no shell, no thread, nothing left when it is over.

The child leads a session and so a process group of its own.  Its end is seen by a descriptor of
the process (pidfd_open, Linux 5.3) in the event loop, or by looking every few milliseconds
where the kernel has none.  It is reaped only after its group was killed: until then its number,
which is the group's, cannot be given to another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from lbhealth.checkers.outcome import printable
from lbhealth.errors import CheckError

__all__ = ["Account", "Child", "Ended", "account", "unsafe"]

OUTPUT_LIMIT = 64 * 1024
"""Bytes kept of each output; what comes after is read and forgotten."""

GRACE = 0.2
"""Seconds between TERM and KILL, and after KILL before a child in the kernel's hands is left."""

_LOOK_EVERY = 0.01
_PATIENCE = 0.02
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Account:
    """Whose rights a child gets; `groups` None: nothing changes."""

    uid: int
    gid: int
    groups: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: `status` 0..255 unless a `signal` killed it, and what it said."""

    status: int
    signal: int | None
    output: bytes
    errors: bytes

    @property
    def first_line(self) -> str:
        """The first line with something on it, of the output, else of the errors."""
        for data in (self.output, self.errors):
            for line in data.splitlines():
                if line.strip():
                    return line.strip().decode("utf-8", "backslashreplace")
        return ""


@functools.lru_cache(maxsize=64)
def _look_up(name: str) -> Account:
    user = pwd.getpwnam(name)
    return Account(user.pw_uid, user.pw_gid, tuple(os.getgrouplist(name, user.pw_gid)))


def account(name: str | None) -> Account:
    """The rights of a user, looked up once; without a name, those that this process has.

    Raises CheckError when there is no such user, or this process may not become it.
    """
    own = Account(os.geteuid(), os.getegid())
    if name is None:
        return own
    try:
        found = _look_up(name)
    except KeyError:
        raise CheckError(f"user: there is no user {printable(name)} on this host") from None
    if found.uid == own.uid:
        return own
    if own.uid != 0:
        raise CheckError(f"user: only root can run a program as {printable(name)}")
    return found


def unsafe(path: str, runs_as: Account) -> str | None:
    """Why a file must not be run with root's rights, with the remedy; None when it may.

    It must not when group or others can change it or its directory (except one with the
    sticky bit): they would be root.
    """
    if runs_as.uid != 0:
        return None
    try:
        real = os.path.realpath(path)
        file, directory = os.stat(real), os.stat(os.path.dirname(real))
    except OSError:
        return None  # running it says what is wrong
    if file.st_mode & _OTHERS_WRITE:
        return f"others than root can change {printable(real)}: chmod go-w it, or set user"
    if directory.st_mode & _OTHERS_WRITE and not directory.st_mode & stat.S_ISVTX:
        place = printable(os.path.dirname(real))
        return f"others than root can replace files in {place}: chmod go-w it, or set user"
    return None


class Child:
    """A running child.  Enter it to be sure of its end; OSError when it cannot be started.

    Made and used inside a running event loop.
    """

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], runs_as: Account
    ) -> None:
        changes = runs_as.groups is not None
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
            user=runs_as.uid if changes else None,
            group=runs_as.gid if changes else None,
            extra_groups=runs_as.groups,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[tuple[int, int | None]] = self._loop.create_future()
        self._handle: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._kept = {
            self._process.stdout.fileno(): bytearray(),
            self._process.stderr.fileno(): bytearray(),
        }
        self._open = set(self._kept)

    async def __aenter__(self) -> Self:
        for descriptor in self._kept:
            os.set_blocking(descriptor, False)
            self._loop.add_reader(descriptor, self._read, descriptor)
        self._watch()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if not self._over.done():
                    self._signal(number)
                    await asyncio.wait({self._over}, timeout=GRACE)
        finally:
            self._signal(signal.SIGKILL)  # whoever else is in the group
            self._close()

    async def ended(self) -> Ended:
        """Wait until the child ends; others that hold its output open are not waited for.

        Raises CheckError when the system does not tell how it ended.
        """
        status, number = await asyncio.shield(self._over)
        for descriptor in tuple(self._open):
            self._read(descriptor, whole=True)
        output, errors = (bytes(kept) for kept in self._kept.values())
        return Ended(status, number, output, errors)

    def _read(self, descriptor: int, *, whole: bool = False) -> None:
        """Take what is in a pipe: once, or up to the limit."""
        kept = self._kept[descriptor]
        with contextlib.suppress(BlockingIOError):
            while data := os.read(descriptor, OUTPUT_LIMIT):
                kept += data[: OUTPUT_LIMIT - len(kept)]
                if not whole or len(kept) == OUTPUT_LIMIT:
                    return
            self._loop.remove_reader(descriptor)
            self._open.discard(descriptor)

    def _watch(self) -> None:
        """Look whether the child has ended; if not, look again when there is reason to."""
        if self._over.done():
            return
        try:
            found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            why = "how the program ended is not known: lbhealth was started with SIGCHLD ignored"
            self._over.set_exception(CheckError(why))
            self._over.exception()  # read here: nobody may be waiting any more
            return
        if found is not None:
            exited = found.si_code == os.CLD_EXITED
            self._over.set_result((found.si_status, None) if exited else (0, found.si_status))
        elif self._handle is None:
            try:
                self._handle = os.pidfd_open(self._process.pid)
            except (OSError, AttributeError):  # Python may be built without it, too
                self._timer = self._loop.call_later(_LOOK_EVERY, self._watch)
            else:
                self._loop.add_reader(self._handle, self._watch)

    def _signal(self, number: signal.Signals) -> None:
        # Not reaped yet, so the number is still the group's.  PermissionError: the group
        # has become another user's, by a program with the setuid bit.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _close(self) -> None:
        """Give everything back; a child stuck in the kernel is reaped when the next one starts."""
        if self._timer is not None:
            self._timer.cancel()
        if self._handle is not None:
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
        for descriptor in self._open:
            self._loop.remove_reader(descriptor)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        # At once, but where a second cancellation left it no time to die of KILL.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
