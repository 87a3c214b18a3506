"""One HTTP request on asyncio, with or without TLS, read by the shared codec.

This carries TLS checks, checks by hand (whose dialogue is printed) and all that the engine's
own sockets do not.  The bytes go through the same `Http.request` and `ResponseReader` as
there.  A ready-made client has a parser of its own, which disagrees about malformed answers
(bytes behind the end, a body after HEAD): the same server would then be up over HTTP and down
over HTTPS.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import TYPE_CHECKING, cast

from lbhealth.checkers.http_message import Response, ResponseReader
from lbhealth.checkers.outcome import failure_from, printable
from lbhealth.checkers.sockets import open_socket, sockaddr
from lbhealth.errors import CheckError, CheckFailed
from lbhealth.model import CheckContext, Status, Target

if TYPE_CHECKING:
    from lbhealth.checkers.http import Http

__all__ = ["fetch"]

_SECRET = re.compile(rb"(?im)^([^:\r\n]*(?:auth|cookie|token|key|secret|passw)[^:\r\n]*):[^\r\n]*")


async def fetch(checker: Http, target: Target, ctx: CheckContext, path: str | None) -> Response:
    """Make one request on a connection of its own and read what is worth judging.

    Keeps `ctx.phase`.  Raises CheckFailed or CheckError for all that goes wrong.
    """
    ctx.phase = Status.L4TOUT
    exchange = _Exchange(checker.request(target, path), checker.reader(), ctx)
    try:
        tls = checker.tls_context()
        name = None if tls is None else checker.server_name(target)
        await _connect(exchange, target, ctx, tls, name)
        return await exchange.response
    except OSError as error:
        raise failure_from(error, ctx.phase) from error
    finally:
        exchange.abort()


async def _connect(
    exchange: _Exchange,
    target: Target,
    ctx: CheckContext,
    tls: ssl.SSLContext | None,
    name: str | None,
) -> None:
    loop = asyncio.get_running_loop()
    ctx.note("*", f"connecting to {target}")
    sock = open_socket(target)
    try:
        await loop.sock_connect(sock, sockaddr(target.address, target.port))
    except BaseException:
        sock.close()
        raise
    ctx.note("*", "connected")
    ctx.phase = Status.L7TOUT if tls is None else Status.L6TOUT
    try:
        # Once this has begun, the socket is the transport's, which closes it.
        await loop.create_connection(lambda: exchange, sock=sock, ssl=tls, server_hostname=name)
    except ssl.SSLError:
        raise
    except ValueError as error:  # before it has begun
        sock.close()
        raise CheckError(f"{printable(str(name))} cannot be a TLS server name") from error


class _Exchange(asyncio.Protocol):
    """Sends the request once connected; `response` is the answer, or its failure."""

    def __init__(self, request: bytes, reader: ResponseReader, ctx: CheckContext) -> None:
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._request = request
        self._reader = reader
        self._ctx = ctx
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request: TLS, if any, is up."""
        # Not an isinstance check: uvloop's transports are no subclasses.
        transport = self._transport = cast("asyncio.Transport", transport)
        ctx = self._ctx
        ctx.phase = Status.L7TOUT
        if tls := transport.get_extra_info("ssl_object"):
            ctx.note("*", f"{tls.version()}, {tls.cipher()[0]}")
        if ctx.trace is not None:
            ctx.note(">", _SECRET.sub(rb"\1: ***", self._request))
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Read on until the response is whole."""
        if self.response.done():
            return
        self._ctx.note("<", data)
        try:
            response = self._reader.feed(data)
        except CheckFailed as failure:
            self.response.set_exception(failure)
        else:
            if response is None:
                return
            self.response.set_result(response)
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Judge what there is when the server has closed or reset the connection."""
        self._transport = None
        if self.response.done():
            return
        if error is not None:
            self.response.set_exception(failure_from(error, self._ctx.phase))
            return
        try:
            self.response.set_result(self._reader.eof())
        except CheckFailed as failure:
            self.response.set_exception(failure)

    def abort(self) -> None:
        """Drop the connection, without TLS's closing words, whose answer might never come."""
        self.response.cancel()  # does nothing to one that is there
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
