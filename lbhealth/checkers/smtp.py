"""The `smtp` and `submission` checks: greeting, EHLO, TLS and login if wanted, QUIT; no mail.

The dialogue is aiosmtplib's.  What it is not left to decide: the socket (source, mark), TLS (it
would upgrade, and verify, unasked), this host's name (it would ask DNS), how to try to log in
(a wrong password three times) and how to close (it waits for the server's last TLS words).
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any, ClassVar

import aiosmtplib

from lbhealth.checkers.outcome import failure_from, printable
from lbhealth.checkers.settings import check_line, check_tls
from lbhealth.checkers.sockets import connect
from lbhealth.checkers.tls import client_context, tls_name
from lbhealth.errors import CheckError, CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target

__all__ = ["Smtp", "Submission"]

_PATIENCE = 0.2
"""Seconds to wait for the answer to a farewell."""

# RFC 5321, 4.1.2: a domain or an address literal; underscores occur.
_HELO = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[A-Za-z0-9:.]+\]")
_MAX_HELO = 255
_SHOWN = frozenset({b"EHLO", b"HELO", b"QUIT"})
_BUSY = 421
_UNREADABLE = -1  # aiosmtplib's code for what is no SMTP reply
# RFC 4954, 6: the mechanism, not the password, is what the server does not want.
_OTHER_MECHANISM = frozenset({504, 534, 538})


@dataclass(frozen=True, slots=True)
class Smtp:
    """Passes when the server greets with 220 and accepts EHLO, or HELO where it knows no other.

    With `tls` "implicit" the connection begins in TLS, with "starttls" TLS must be offered and
    is begun after EHLO; see `Https` for `verify` and `ca_file`.  With `login` the server must
    let that user in.  `helo` is the name given to the server: by default this host's own if it
    has a dot, else "localhost.localdomain", which is what ldirectord always sends.
    """

    kind: ClassVar[str] = "smtp"
    owns_sockets: ClassVar[bool] = True

    helo: str | None = None
    login: str = ""
    password: str = field(default="", repr=False, metadata={"secret": True})
    tls: str = "none"
    verify: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be sent."""
        if self.helo is not None and (len(self.helo) > _MAX_HELO or not _HELO.fullmatch(self.helo)):
            raise SettingError("helo", "not a domain name or an address in square brackets")
        check_line("login", self.login, strict=True)
        check_line("password", self.password, strict=True)
        if self.password and not self.login:
            raise SettingError("password", "has no effect without login")
        check_tls(self.tls, self.verify, self.ca_file)

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Hold the dialogue to its QUIT."""
        context = client_context(self.verify, self.ca_file)
        sock = await connect(target, ctx)
        client = _Client(sock, tls_name(target), self._name(), self.tls, context, ctx)
        try:
            detail = await self._talk(client, ctx)
            await client.farewell()
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal(error, "") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise failure_from(_root(error), ctx.phase) from error
        finally:
            client.close()
        return Passed(Status.L7OK, detail)

    def _name(self) -> str:
        if self.helo is not None:
            return self.helo
        name = socket.gethostname()
        fit = "." in name and len(name) <= _MAX_HELO and _HELO.fullmatch(name)
        return name if fit else "localhost.localdomain"

    async def _talk(self, client: _Client, ctx: CheckContext) -> str:
        greeting = await client.greeting(ctx)
        await client.hello()
        if self.tls == "starttls":
            await client.secure(ctx)
            await client.hello()
        if self.login:
            await client.log_in(self.login, self.password, encrypted=self.tls != "none")
        return printable(f"220 {greeting}".splitlines()[0].rstrip(), 100)


@dataclass(frozen=True, slots=True)
class Submission(Smtp):
    """`smtp` on the port where users hand mail in (587; RFC 6409)."""

    kind: ClassVar[str] = "submission"


class _Client(aiosmtplib.SMTP):
    """aiosmtplib on a ready socket, with a trace, and closed without waiting."""

    def __init__(
        self,
        sock: socket.socket,
        server_name: str,
        helo: str,
        tls: str,
        context: ssl.SSLContext,
        ctx: CheckContext,
    ) -> None:
        super().__init__(
            hostname=server_name,
            local_hostname=helo,
            timeout=None,  # the engine's deadline is the only one
            use_tls=tls == "implicit",
            start_tls=False,
            tls_context=context,
            sock=sock,
        )
        self._ctx = ctx
        self._was_open = False

    async def greeting(self, ctx: CheckContext) -> str:
        """Begin, in TLS if implicit, and read the greeting; it may have many lines."""
        ctx.phase = Status.L6TOUT if self.use_tls else Status.L7TOUT
        try:
            response = await self.connect()
        except aiosmtplib.SMTPConnectResponseError as error:
            ctx.note("<", f"{error.code} {error.message}")
            raise _refusal(error, "greeting") from error
        except aiosmtplib.SMTPException:
            self._beyond_tls(ctx)
            raise
        except ValueError as error:  # asyncio, before it has taken the socket
            if self.sock is not None:
                self.sock.close()
            name = printable(str(self.hostname))
            raise CheckError(f"{name} cannot be a TLS server name") from error
        except BaseException:
            self._beyond_tls(ctx)
            raise
        self._note_tls(ctx)
        ctx.phase = Status.L7TOUT
        ctx.note("<", f"{response.code} {response.message}")
        return response.message

    async def hello(self) -> None:
        """EHLO, or HELO for a server that does not know EHLO (RFC 5321, 3.2)."""
        try:
            await self.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            if error.code < 500 or not self.is_connected:
                raise
            await self.helo()

    async def secure(self, ctx: CheckContext) -> None:
        """STARTTLS."""
        if not self.supports_extension("starttls"):
            raise CheckFailed(Status.L7STS, "the server does not offer STARTTLS")
        ctx.note(">", "STARTTLS")
        ctx.phase = Status.L6TOUT
        try:
            response = await self.starttls()
        except aiosmtplib.SMTPResponseException as error:
            ctx.note("<", f"{error.code} {error.message}")
            raise _refusal(error, "STARTTLS") from error
        except ssl.SSLError:  # some of which are ValueErrors
            raise
        except ValueError as error:
            name = printable(str(self.hostname))
            raise CheckError(f"{name} cannot be a TLS server name") from error
        ctx.note("<", f"{response.code} {response.message}")
        self._note_tls(ctx)
        ctx.phase = Status.L7TOUT

    async def log_in(self, user: str, password: str, *, encrypted: bool) -> None:
        """Log in once; another way is tried only where the way was at fault.

        PLAIN comes first inside TLS, since servers that keep hashes can do no other; outside
        it CRAM-MD5, which does not give the password away.
        """
        order = ("plain", "login", "cram-md5") if encrypted else ("cram-md5", "plain", "login")
        methods = [name for name in order if name in self.server_auth_methods]
        if not methods:
            raise CheckFailed(Status.L7STS, "the server offers no way to log in known here")
        for method in methods:
            log_in = getattr(self, f"auth_{method.replace('-', '')}")
            try:
                await log_in(user.encode(), password.encode())
            except aiosmtplib.SMTPAuthenticationError as error:
                if error.code in _OTHER_MECHANISM and method != methods[-1]:
                    continue
                raise _refusal(error, "login") from error
            return

    async def farewell(self) -> None:
        """QUIT.  The verdict is in already, whatever the server does about it."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.quit()
        except (aiosmtplib.SMTPException, TimeoutError) as error:
            self._ctx.note("*", f"after QUIT: {printable(str(error))}")

    async def execute_command(self, *args: bytes, **options: Any) -> aiosmtplib.SMTPResponse:
        """Send a command, showing no secret, and read the reply."""
        if args[0] in _SHOWN:
            self._ctx.note(">", b" ".join(args))
        elif args[0] == b"AUTH":
            self._ctx.note(">", b" ".join((*args[:2], *(b"***" for _ in args[2:]))))
        else:
            self._ctx.note(">", "***")
        response = await super().execute_command(*args, **options)
        self._ctx.note("<", f"{response.code} {response.message}")
        return response

    def close(self) -> None:
        """Drop the connection: a TLS transport that is closed may stay for 30 s."""
        if self.transport is not None:
            self._was_open = True
            self.transport.abort()  # type: ignore[attr-defined]  # a Transport
        super().close()

    def _beyond_tls(self, ctx: CheckContext) -> None:
        # connect() has closed what was open: only then was it the greeting that was waited for.
        if self._was_open:
            ctx.phase = Status.L7TOUT

    def _note_tls(self, ctx: CheckContext) -> None:
        if tls := self.get_transport_info("ssl_object"):
            ctx.note("*", f"{tls.version()}, {tls.cipher()[0]}")


def _refusal(error: aiosmtplib.SMTPResponseException, what: str) -> CheckFailed:
    """The verdict on a reply that does not let the dialogue go on."""
    text = printable(f"{error.code} {error.message}")
    if error.code == _UNREADABLE:
        return CheckFailed(Status.L7RSP, f"no SMTP reply: {printable(error.message)}")
    if error.code == _BUSY:
        return CheckFailed(Status.L7STS, f"busy or closing: {text}")
    if not 400 <= error.code < 600:
        return CheckFailed(Status.L7RSP, f"unexpected reply: {text}")
    return CheckFailed(Status.L7STS, f"{what} refused: {text}" if what else text)


def _root(error: BaseException) -> BaseException:
    """What aiosmtplib wrapped: an error of the system or of TLS says more."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error
