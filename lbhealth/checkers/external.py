"""The `external` and `external-perl` checks: a program of the operator's decides.

The program is called as ldirectord calls it (check_external): virtual address or firewall mark,
virtual port, real address, real port, then `args`.  HAProxy's external checks have the same
order, and its environment variables are set too (configuration.txt, external-check command),
so that one script serves all three.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from lbhealth.checkers.child import Account, Child, Ended, account, unsafe
from lbhealth.checkers.outcome import errno_failure, printable
from lbhealth.errors import CheckError, CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target

__all__ = ["External", "ExternalPerl"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CONVENTIONS = ("exit", "monitoring-plugins")

_AT_ONCE = 50
"""Programs that run at the same time, for all checks of one event loop."""

_slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
    weakref.WeakKeyDictionary()
)

# As ldirectord runs it: the body of a function, so `return` ends it well and `die` badly.
_PERL = '$0 = shift; open(my $f, "<", $0) or die "$0: $!\\n"; close $f; do $0; die $@ if $@; exit 0'


@dataclass(frozen=True, slots=True)
class External:
    """Passes when a program says so.

    `command` is the absolute path of one program; no shell reads it.  `args` go after the
    four of ldirectord; they may hold secrets and are shown nowhere.  `virtual_address` (or the
    firewall mark) and `virtual_port` name the virtual service in the arguments.  `user` runs
    the program with that user's rights and groups; lbhealth must be root for that.

    `convention` "exit": status 0 is PASS, any other FAIL.  "monitoring-plugins" (Monitoring
    Plugins Development Guidelines, return codes): 0 is PASS, 1 PASS with the warning as its
    detail, 2 FAIL, any other ERROR.  The first line of output is the detail.

    The program runs in `/` and in a session of its own, with no input.  Whatever it leaves
    running in its process group is killed when it ends; out of time, the whole group gets TERM
    and 0.2 s later KILL.  Killed by a signal, or not to be run at all, is ERROR.
    """

    kind: ClassVar[str] = "external"
    owns_sockets: ClassVar[bool] = False

    command: str
    args: tuple[str, ...] = field(default=(), repr=False, metadata={"secret": True})
    virtual_address: str = ""
    virtual_port: str = ""
    convention: str = "exit"
    user: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be run or has no meaning."""
        object.__setattr__(self, "args", tuple(map(str, self.args)))
        if not self.command.startswith("/"):
            raise SettingError("command", "must be the absolute path of a program")
        if self.convention not in _CONVENTIONS:
            raise SettingError("convention", f"must be {' or '.join(_CONVENTIONS)}")
        for name in ("command", "virtual_address", "virtual_port"):
            if "\0" in getattr(self, name):
                raise SettingError(name, "holds a zero byte", getattr(self, name).index("\0"))
        if any("\0" in word for word in self.args):
            raise SettingError("args", "holds a zero byte")
        if self.user is not None and (not self.user or "\0" in self.user):
            raise SettingError("user", "not a user name")

    def arguments(self, target: Target) -> tuple[str, str, str, str]:
        """The four arguments of ldirectord; NOT_USED is HAProxy's word for no virtual service."""
        return (
            _bracketed(self.virtual_address) or "NOT_USED",
            self.virtual_port or ("0" if self.virtual_address else "NOT_USED"),
            _bracketed(target.address),
            str(target.port),
        )

    def environment(self, target: Target) -> dict[str, str]:
        """All that the program finds in its environment."""
        address, port = self.virtual_address.strip("[]"), self.virtual_port
        virtual = f"{_bracketed(address)}:{port}" if port else address
        return {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "HAPROXY_PROXY_NAME": virtual,
            "HAPROXY_PROXY_ADDR": address,
            "HAPROXY_PROXY_PORT": port,
            "HAPROXY_SERVER_NAME": str(target),
            "HAPROXY_SERVER_ADDR": target.address,
            "HAPROXY_SERVER_PORT": str(target.port),
            "HAPROXY_SERVER_MAXCONN": "0",
            "HAPROXY_SERVER_CURCONN": "0",
            "HAPROXY_SERVER_SSL": "0",
            "HAPROXY_SERVER_PROTO": "tcp",
            "LBHEALTH_VIRTUAL_ADDRESS": address,
            "LBHEALTH_VIRTUAL_PORT": port,
            "LBHEALTH_SERVER_ADDRESS": target.address,
            "LBHEALTH_SERVER_PORT": str(target.port),
            "LBHEALTH_SERVER_NAME": target.server_name or "",
            "LBHEALTH_PROTOCOL": str(target.protocol),
        }

    def program(self) -> tuple[str, ...]:
        """The words before the arguments.  Raises CheckError when they cannot be had."""
        return (self.command,)

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Run the program once and judge how it ends."""
        ctx.phase = Status.PROCTOUT
        slot = await _slot(ctx)
        try:
            ended = await self._run(target, ctx)
        finally:
            slot.release()
        ctx.note("<", ended.output)
        return self._judge(ended)

    async def _run(self, target: Target, ctx: CheckContext) -> Ended:
        runs_as = account(self.user)
        if reason := unsafe(self.command, runs_as):
            raise CheckError(reason)
        four = self.arguments(target)
        hidden = f" and {len(self.args)} more" if self.args else ""
        ctx.note(">", " ".join((self.command, *four)) + hidden)
        words = (*self.program(), *four, *self.args)
        async with self._start(words, self.environment(target), runs_as) as child:
            return await child.ended()

    def _start(self, words: Sequence[str], environment: dict[str, str], runs_as: Account) -> Child:
        try:
            try:
                return Child(words, environment, runs_as)
            except OSError as error:
                if error.errno != errno.ENOEXEC:
                    raise
                # No #! line: execvp, and so ldirectord, hands such a file to the shell.
                return Child(("/bin/sh", *words), environment, runs_as)
        except (OSError, subprocess.SubprocessError) as error:
            raise CheckError(self._cannot_run(error)) from error

    def _cannot_run(self, error: Exception) -> str:
        name = printable(self.command)
        code = getattr(error, "errno", None)
        if code == errno.ENOENT:
            if os.path.exists(self.command):
                return f"{name} cannot be run: the interpreter in its #! line does not exist"
            return f"{name} does not exist"
        if code in (errno.EACCES, errno.EPERM):
            return f"{name} cannot be executed: permission denied; see its mode and owner"
        if code in (errno.EAGAIN, None):
            return f"{name} cannot be run: {printable(str(error))}"
        return f"{name} cannot be run: {errno_failure(code).detail}"

    def _judge(self, ended: Ended) -> Passed:
        line = printable(ended.first_line)
        if ended.signal is not None:
            raise CheckError(_said(f"killed by {signal.Signals(ended.signal).name}", line))
        if self.convention == "exit":
            text = _said(f"exit status {ended.status}", line)
            if ended.status == 0:
                return Passed(Status.PROCOK, text)
            raise CheckFailed(Status.PROCERR, text)
        line = line.partition("|")[0].strip()  # performance data follow the bar
        if ended.status in (0, 1):
            return Passed(Status.PROCOK, _said("warning", line) if ended.status else line or "ok")
        if ended.status == 2:
            raise CheckFailed(Status.PROCERR, _said("critical", line))
        known = ended.status == 3
        raise CheckError(_said("unknown" if known else f"exit status {ended.status}", line))


@dataclass(frozen=True, slots=True)
class ExternalPerl(External):
    """`external` for a file of Perl code, which is run by the `perl` on the system's PATH.

    It ends by `exit N`, by `return` or by its last line (status 0), or by `die`, as under
    ldirectord, which however keeps the code compiled and runs it inside itself.
    """

    kind: ClassVar[str] = "external-perl"

    def program(self) -> tuple[str, ...]:
        """Perl, told to run the file like the body of a function."""
        perl = shutil.which("perl", path=_PATH)
        if perl is None:
            raise CheckError("perl is not installed")
        if not os.path.isfile(self.command):
            raise CheckError(f"{printable(self.command)} does not exist or is no file")
        if not os.access(self.command, os.R_OK):
            raise CheckError(f"{printable(self.command)} cannot be read: permission denied")
        return (perl, "-e", _PERL, self.command)


async def _slot(ctx: CheckContext) -> asyncio.Semaphore:
    """A place among the running programs, held.

    A check that waits is no fault of the server: when half of its time is gone, it is ERROR.
    """
    loop = asyncio.get_running_loop()
    slot = _slots.setdefault(loop, asyncio.Semaphore(_AT_ONCE))
    if not slot.locked():
        await slot.acquire()
        return slot
    now = loop.time()
    try:
        async with asyncio.timeout_at(now + (ctx.deadline - now) / 2):
            await slot.acquire()
    except TimeoutError:
        raise CheckError(
            f"{_AT_ONCE} external checks are running already: make them faster or rarer"
        ) from None
    return slot


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def _said(what: str, line: str) -> str:
    return f"{what}: {line}" if line else what
