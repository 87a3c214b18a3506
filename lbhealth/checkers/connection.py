"""A TCP connection for one check, with or without TLS: what most checkers and plug-ins need.

It honours the target's source and mark, keeps the phase and the dialogue of the check, reads
within limits, and turns what goes wrong into CheckFailed or CheckError.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

from lbhealth.checkers.outcome import excerpt, failure_from, printable
from lbhealth.checkers.sockets import open_socket, sockaddr
from lbhealth.checkers.tls import client_context
from lbhealth.errors import CheckError, CheckFailed, SettingError
from lbhealth.model import CheckContext, Status, Target

__all__ = ["Connection", "check_tls", "connected"]

LIMIT = 64 * 1024
"""Bytes that one check reads at most."""
MAX_LINES = 1000


class Connection:
    """The two directions of a connection.  Every method raises CheckFailed or CheckError."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ctx: CheckContext
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._ctx = ctx
        self._left = LIMIT
        self._lines = 0

    @property
    def alpn(self) -> str | None:
        """The protocol that both sides chose in the TLS handshake."""
        tls = self._writer.get_extra_info("ssl_object")
        chosen: str | None = tls.selected_alpn_protocol() if tls is not None else None
        return chosen

    async def send(self, data: bytes, shown: bytes | str | None = None) -> None:
        """Send `data`; `shown` takes its place in the dialogue where it holds a secret."""
        self._ctx.note(">", data if shown is None else shown)
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise failure_from(error, self._ctx.phase) from error

    async def read(self) -> bytes:
        """What is there, at least one byte; empty when the server has closed."""
        try:
            data = await self._reader.read(LIMIT)
        except OSError as error:
            raise failure_from(error, self._ctx.phase) from error
        return self._seen(data)

    async def line(self) -> bytes:
        """The next line without its line end; one that the server does not end is a failure."""
        try:
            data = await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            rest = f" after {excerpt(error.partial)}" if error.partial else ""
            why = f"the server closed the connection{rest}"
            raise CheckFailed(Status.L7RSP, why) from None
        except (OSError, asyncio.LimitOverrunError) as error:
            raise failure_from(error, self._ctx.phase) from error
        self._lines += 1
        if self._lines > MAX_LINES:
            raise CheckFailed(Status.L7RSP, f"the server sent more than {MAX_LINES} lines")
        return self._seen(data).removesuffix(b"\n").removesuffix(b"\r")

    async def exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > self._left:
            raise CheckFailed(Status.L7RSP, f"the server sent more than {LIMIT} bytes")
        try:
            data = await self._reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise failure_from(error, self._ctx.phase) from error
        return self._seen(data)

    def _seen(self, data: bytes) -> bytes:
        if data:
            self._ctx.note("<", data)
        self._left -= len(data)
        if self._left < 0:
            raise CheckFailed(Status.L7RSP, f"the server sent more than {LIMIT} bytes")
        return data


@contextlib.asynccontextmanager
async def connected(
    target: Target,
    ctx: CheckContext,
    *,
    tls: str = "none",
    verify: bool = False,
    ca_file: str | None = None,
    alpn: str | None = None,
) -> AsyncIterator[Connection]:
    """Connect to `target`, with TLS if `tls` is "implicit"; leaving it resets the connection.

    `verify` and `ca_file` as in `tls.client_context`; the name is the target's server name,
    else its address.  With `alpn` that one protocol is offered in the handshake.
    """
    context = client_context(verify, ca_file, alpn) if tls == "implicit" else None
    name = (target.server_name or target.address.partition("%")[0]) if context else None
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport: asyncio.Transport | None = None
    try:
        sock = await _reach(target, ctx)
        ctx.phase = Status.L7TOUT if context is None else Status.L6TOUT
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, sock=sock, ssl=context, server_hostname=name
            )
        except ssl.SSLError:
            raise
        except ValueError as error:  # before the socket was the transport's
            sock.close()
            raise CheckError(f"{printable(str(name))} cannot be a TLS server name") from error
        ctx.phase = Status.L7TOUT
        if session := transport.get_extra_info("ssl_object"):
            ctx.note("*", f"{session.version()}, {session.cipher()[0]}")
        yield Connection(reader, asyncio.StreamWriter(transport, protocol, reader, loop), ctx)
    except OSError as error:
        raise failure_from(error, ctx.phase) from error
    finally:
        if transport is not None:
            transport.abort()


def check_tls(tls: str, verify: bool, ca_file: str | None) -> None:
    """Raises SettingError for TLS settings that make no sense; `tls` is "none" or "implicit"."""
    if tls not in ("none", "implicit"):
        raise SettingError("tls", "must be none or implicit")
    if verify and tls == "none":
        raise SettingError("verify", "has no effect without tls")
    if ca_file is not None and not verify:
        raise SettingError("ca_file", "has no effect without verify")
    if ca_file is not None and (not ca_file or "\0" in ca_file):
        raise SettingError("ca_file", "not a file name")


async def _reach(target: Target, ctx: CheckContext) -> socket.socket:
    ctx.phase = Status.L4TOUT
    ctx.note("*", f"connecting to {target}")
    sock = open_socket(target)
    try:
        address = sockaddr(target.address, target.port)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    ctx.note("*", "connected")
    return sock
