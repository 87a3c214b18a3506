"""The `ftp` check: a login, and a file fetched whole if one is named.

aioftp holds the dialogue.  What is done here instead: the sockets (source, mark, and never to an
address that the server names), the reading of replies (aioftp sets no limits and does not know
digits inside a multi-line reply, RFC 959, 4.2), TLS on the data connection (aioftp begins it
before RETR, servers expect it after), and the closing of what is open when a check is cancelled.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, field
from typing import Any, ClassVar

import aioftp
from aioftp.common import SSLSessionBoundContext

from lbhealth.checkers.outcome import excerpt, failure_from, printable
from lbhealth.checkers.patterns import compile_pattern
from lbhealth.checkers.settings import check_line, check_tls
from lbhealth.checkers.sockets import connect
from lbhealth.checkers.tls import client_context, tls_name
from lbhealth.errors import CheckError, CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target

__all__ = ["Ftp"]

_PATIENCE = 0.2
"""Seconds to wait for the answer to a farewell."""

_MAX_BYTES = 64 * 1024
_MAX_LINES = 1000
_PIECE = 64 * 1024
_REPLY = re.compile(rb"[1-5][0-9]{2}(?:[ -].*)?", re.DOTALL)
_BUSY = "421"


@dataclass(frozen=True, slots=True)
class Ftp:
    """Passes when the server lets `login` in and hands over the file `request`, if one is named.

    The file is named relative to the directory after login, and transferred whole, in binary,
    over a passive connection (EPSV; PASV where an IPv4 server knows no other).  `receive` is a
    Perl regular expression that must match in its first megabyte.  With `tls` "implicit" the
    connection begins in TLS, with "starttls" by AUTH TLS before the login (RFC 4217); the file
    then comes inside TLS too.  See `Https` for `verify` and `ca_file`.

    ldirectord ignores all errors of FTP where `receive` is empty.
    """

    kind: ClassVar[str] = "ftp"
    owns_sockets: ClassVar[bool] = True
    SEARCHED: ClassVar[int] = 1024 * 1024
    """Bytes of the file in which something is looked for."""

    login: str = "anonymous"
    password: str = field(default="lbhealth@", repr=False, metadata={"secret": True})
    request: str = ""
    receive: str = ""
    tls: str = "none"
    verify: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be sent or found."""
        if not self.login:
            raise SettingError("login", 'must not be empty; FTP\'s guest is "anonymous"')
        for name in ("login", "password", "request"):
            check_line(name, getattr(self, name), strict=True)
        if self.receive:
            if not self.request:
                raise SettingError("receive", "needs a request: the file to look into")
            compile_pattern(self.receive, "receive")
        check_tls(self.tls, self.verify, self.ca_file)

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Log in, fetch, take leave, judge."""
        context = None if self.tls == "none" else client_context(self.verify, self.ca_file)
        client = _Client(target, ctx, context, implicit=self.tls == "implicit")
        try:
            await client.greeting()
            if self.tls == "starttls":
                await client.secure()
            await client.log_in(self.login, self.password)
            size, content = await self._fetch(client) if self.request else (0, b"")
            await client.farewell()
        except OSError as error:
            raise failure_from(error, ctx.phase) from error
        finally:
            client.drop()
        return self._judge(size, content)

    async def _fetch(self, client: _Client) -> tuple[int, bytes]:
        """The file's size, and as much of it as is looked into."""
        size, content = 0, bytearray()
        stream = await client.open_file(self.request)
        while piece := await stream.read(_PIECE):
            size += len(piece)
            if self.receive and len(content) < self.SEARCHED:
                content += piece[: self.SEARCHED - len(content)]
        await client.transferred(stream, size)
        return size, bytes(content)

    def _judge(self, size: int, content: bytes) -> Passed:
        if not self.request:
            return Passed(Status.L7OK, "logged in")
        if self.receive and not compile_pattern(self.receive, "receive").search(content):
            where = "the file does" if size <= len(content) else f"its first {len(content)} do"
            raise CheckFailed(
                Status.L7RSP,
                f'{size} bytes, but {where} not match "{printable(self.receive, 100)}"; '
                f"it begins {excerpt(content)}",
            )
        return Passed(Status.L7OK, f"{size} bytes")


class _Client(aioftp.Client):
    """aioftp on sockets of our own, with limits and a trace."""

    def __init__(
        self, target: Target, ctx: CheckContext, context: ssl.SSLContext | None, *, implicit: bool
    ) -> None:
        super().__init__()
        self._target = target
        self._ctx = ctx
        self._context = context
        self._implicit = implicit
        self._name = tls_name(target)
        self._writers: list[asyncio.StreamWriter] = []
        self._lines = self._bytes = 0

    # -- the steps of a check

    async def greeting(self) -> None:
        """Connect, begin TLS if implicit, read the greeting."""
        try:
            await self.connect(self._name, self._target.port)
        except aioftp.StatusCodeError as error:
            raise _refusal(error, "greeting") from error

    async def secure(self) -> None:
        """AUTH TLS (RFC 4217, 4)."""
        await self._ask("AUTH TLS", "234", "TLS")
        assert self._context is not None
        await self._start_tls(self.stream, self._context)

    async def log_in(self, user: str, password: str) -> None:
        """USER, and PASS if the server asks for it; once."""
        code = await self._ask(f"USER {user}", ("23x", "331"), "login")
        if code == "331":
            await self._ask(f"PASS {password}", ("23x", "202"), "login")

    async def open_file(self, name: str) -> aioftp.DataConnectionThrottleStreamIO:
        """A passive connection on which the server has begun to send the file."""
        if self._context is not None:
            await self._ask("PBSZ 0", "200", "protection of the transfer")
            await self._ask("PROT P", "200", "protection of the transfer")
        try:
            stream = await self.get_stream(f"RETR {name}", "1xx")
        except aioftp.StatusCodeError as error:
            raise _refusal(error, "transfer") from error
        except (ValueError, IndexError) as error:
            raise CheckFailed(Status.L7RSP, "the server names no port for the transfer") from error
        if self._context is not None:
            control = self.stream.writer.get_extra_info("ssl_object")
            # Many servers take the transfer only from the session that has logged in.
            context = SSLSessionBoundContext(
                ssl.PROTOCOL_TLS_CLIENT, context=control.context, session=control.session
            )
            await self._start_tls(stream, context)
        return stream

    async def transferred(self, stream: aioftp.DataConnectionThrottleStreamIO, size: int) -> None:
        """Close the data connection; the server must say that it has sent everything."""
        self._ctx.note("*", f"{size} bytes received")
        try:
            await stream.finish()
        except aioftp.StatusCodeError as error:
            raise _refusal(error, f"transfer after {size} bytes") from error

    async def farewell(self) -> None:
        """QUIT.  The verdict is in already, whatever the server does about it."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.command("QUIT", "2xx")
        except (aioftp.StatusCodeError, CheckFailed, OSError) as error:
            self._ctx.note("*", f"after QUIT: {printable(str(error))}")

    def drop(self) -> None:
        """Drop every connection, at once."""
        for writer in self._writers:
            writer.transport.abort()

    # -- what aioftp calls

    async def command(self, command: str | None = None, *args: Any, **options: Any) -> Any:
        """Send a command, not showing a password, and read the reply."""
        if command:
            self._ctx.note(">", "PASS ***" if command.startswith("PASS ") else command)
        return await super().command(command, *args, **options)

    async def get_passive_connection(self, *args: Any, **options: Any) -> Any:
        """EPSV, then PASV: not for IPv6, for which it has no room (RFC 2428).

        aioftp goes on to PASV at a reply 50x only; servers and firewalls that forbid EPSV
        say 550 too.
        """
        try:
            return await super().get_passive_connection("I", ("epsv",))
        except aioftp.StatusCodeError as error:
            if ":" in self._target.address or not error.received_codes[-1].matches("5xx"):
                raise
        return await super().get_passive_connection("I", ("pasv",))

    async def parse_response(self) -> tuple[aioftp.Code, list[str]]:
        """One reply; a multi-line one ends with its code and a blank (RFC 959, 4.2)."""
        line = await self._line()
        if not _REPLY.fullmatch(line):
            raise CheckFailed(Status.L7RSP, f"no FTP reply: {excerpt(line)}")
        code, lines = line[:3], [line]
        if line[3:4] == b"-":
            while lines[-1][:4] not in (code, code + b" "):
                lines.append(await self._line())
        return aioftp.Code(code.decode()), [text[3:].decode("latin-1") for text in lines]

    async def _line(self) -> bytes:
        try:
            line = await self.stream.readline()
        except ValueError as error:
            raise CheckFailed(Status.L7RSP, "the server sent an endless line") from error
        if not line.endswith(b"\n"):
            raise ConnectionError("the server closed the connection")
        self._ctx.note("<", line)
        self._lines += 1
        self._bytes += len(line)
        if self._lines > _MAX_LINES or self._bytes > _MAX_BYTES:
            raise CheckFailed(Status.L7RSP, "the server talks without end")
        return line.rstrip(b"\r\n")

    async def _open_connection(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the target itself, whatever host the server names for the transfer."""
        if not 1 <= port <= 65535:
            raise ValueError("no port")
        self._ctx.phase = Status.L4TOUT
        try:
            sock = await connect(self._target, self._ctx, port)
        except CheckFailed as failure:
            if self._stream is None:
                raise
            raise CheckFailed(failure.status, f"data connection: {failure.detail}") from failure
        implicit = self._implicit and self._stream is None
        self._ctx.phase = Status.L6TOUT if implicit else Status.L7TOUT
        try:
            reader, writer = await asyncio.open_connection(
                sock=sock,
                limit=_MAX_BYTES,
                ssl=self._context if implicit else None,
                server_hostname=self._name if implicit else None,
            )
        except ssl.SSLError:
            raise
        except ValueError as error:  # before asyncio has taken the socket
            sock.close()
            raise CheckError(f"{printable(self._name)} cannot be a TLS server name") from error
        self._writers.append(writer)
        if implicit:
            self._tls_is_up(writer)
        return reader, writer

    # -- the rest

    async def _ask(self, command: str, expected: str | tuple[str, ...], what: str) -> str:
        try:
            code, _ = await self.command(command, expected)
        except aioftp.StatusCodeError as error:
            raise _refusal(error, what) from error
        return str(code)

    async def _start_tls(self, stream: aioftp.StreamIO, context: ssl.SSLContext) -> None:
        self._ctx.phase = Status.L6TOUT
        try:
            await stream.start_tls(context, self._name)
        except ssl.SSLError:
            raise
        except ValueError as error:
            raise CheckError(f"{printable(self._name)} cannot be a TLS server name") from error
        self._tls_is_up(stream.writer)

    def _tls_is_up(self, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        self._ctx.note("*", f"{tls.version()}, {tls.cipher()[0]}")
        self._ctx.phase = Status.L7TOUT


def _refusal(error: aioftp.StatusCodeError, what: str) -> CheckFailed:
    """The verdict on a reply that does not let the dialogue go on."""
    code = str(error.received_codes[-1])
    text = printable(f"{code}{error.info[-1]}")
    if code == _BUSY:
        return CheckFailed(Status.L7STS, f"busy or closing: {text}")
    if code[0] in "45":
        return CheckFailed(Status.L7STS, f"{what} refused: {text}")
    return CheckFailed(Status.L7RSP, f"{what}: unexpected reply: {text}")
