"""One TCP connection for checkers and plug-ins: limits, TLS, trace, phase, and a clean end.

::

    async with Stream.connect(target, ctx, tls="starttls", secrets=(password,)) as stream:
        greeting = await stream.read_line()
        await stream.write(b"STARTTLS\\r\\n")
        await stream.read_line()
        await stream.start_tls()

Whatever ends the block, cancellation included, the connection is dropped at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Self, cast

from lbhealth.checkers.dialogue import (
    MAX_BYTES,
    Dialogue,
    Heard,
    LineBuffer,
    Quit,
    Script,
    Send,
    StartTls,
)
from lbhealth.checkers.outcome import excerpt, failure_from, printable
from lbhealth.checkers.sockets import connect
from lbhealth.checkers.tls import client_context, tls_name
from lbhealth.errors import CheckError, CheckFailed
from lbhealth.model import CheckContext, Status, Target

__all__ = ["Stream", "converse", "masked"]

_PATIENCE = 0.2
"""Seconds to wait for the answer to a farewell."""


def masked(data: bytes, secrets: Sequence[str | bytes]) -> bytes:
    """`data` with stars for each of `secrets`, the longest first."""
    forms = {s.encode("utf-8", "surrogateescape") if isinstance(s, str) else s for s in secrets}
    for secret in sorted(forms, key=len, reverse=True):
        data = data.replace(secret, b"***") if secret else data
    return data


class Stream:
    """An open connection; made by `connect`.

    `secrets` are masked in the trace and by `show`, whichever side says them.
    """

    def __init__(self, target: Target, ctx: CheckContext, secrets: Sequence[str | bytes]) -> None:
        self.target = target
        self.ctx = ctx
        self._pipe = _Pipe()
        self._secrets = secrets
        self._verify = False
        self._ca_file: str | None = None
        self._alpn: str | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls,
        target: Target,
        ctx: CheckContext,
        *,
        tls: str = "none",
        verify: bool = False,
        ca_file: str | None = None,
        alpn: str | None = None,
        secrets: Sequence[str | bytes] = (),
    ) -> AsyncIterator[Self]:
        """Connect, with TLS at once when `tls` is "implicit"; drop the connection in the end.

        `verify`, `ca_file` and `alpn`, the one protocol to offer, as in `tls.client_context`.
        Errors of the system and of TLS inside the block become CheckFailed or CheckError.
        """
        stream = cls(target, ctx, secrets)
        stream._verify, stream._ca_file, stream._alpn = verify, ca_file, alpn
        try:
            await stream._open()
            if tls == "implicit":
                await stream.start_tls()
            yield stream
        except (OSError, asyncio.IncompleteReadError) as error:
            raise failure_from(error, ctx.phase) from error
        finally:
            stream._pipe.abort()

    async def _open(self) -> None:
        self.ctx.phase = Status.L4TOUT
        sock = await connect(self.target, self.ctx)
        # From here on the socket is the transport's, which closes it.
        await asyncio.get_running_loop().create_connection(lambda: self._pipe, sock=sock)
        self.ctx.phase = Status.L7TOUT

    @property
    def transport(self) -> asyncio.Transport:
        """What the bytes go through, for a library that takes the connection over."""
        return self._pipe.transport

    @property
    def alpn(self) -> str | None:
        """The protocol that both sides chose in the TLS handshake."""
        session = self.transport.get_extra_info("ssl_object")
        chosen: str | None = session.selected_alpn_protocol() if session is not None else None
        return chosen

    async def start_tls(self, *, verify: bool | None = None, ca_file: str | None = None) -> None:
        """Begin TLS, with the settings of `connect` unless others are given.

        Raises CheckFailed when unread data is there: it came unprotected (CVE-2011-0411).
        """
        pipe = self._pipe
        if len(pipe.buffer):
            raise CheckFailed(Status.L7RSP, "the server sent data between its consent and TLS")
        verify = self._verify if verify is None else verify
        context = client_context(verify, ca_file or self._ca_file, self._alpn)
        name = tls_name(self.target)
        self.ctx.phase = Status.L6TOUT
        pipe.raise_if_lost()
        try:
            transport = await asyncio.get_running_loop().start_tls(
                pipe.transport, pipe, context, server_hostname=name
            )
        except OSError:
            raise
        except (TypeError, ValueError) as error:
            raise CheckError(f"{printable(name)} cannot be a TLS server name") from error
        if transport is None:
            raise ConnectionResetError
        pipe.transport = transport
        self.ctx.phase = Status.L7TOUT
        if session := transport.get_extra_info("ssl_object"):
            self.ctx.note("*", f"{session.version()}, {session.cipher()[0]}")

    # -- reading

    async def read_line(self) -> bytes:
        """The next line without CR LF.

        Raises CheckFailed when the server hangs up first or sends too much.
        """
        while (line := self._pipe.buffer.line()) is None:
            if not await self._pipe.wait():
                raise CheckFailed(Status.L7RSP, "the server closed the connection early")
        self.ctx.note("<", self.mask(line))
        return line

    async def read_until(self, end: bytes) -> bytes:
        """Everything up to and with the first `end`.

        Raises CheckFailed when the server hangs up first or sends too much.
        """
        while (data := self._pipe.buffer.until(end)) is None:
            if not await self._pipe.wait():
                raise CheckFailed(Status.L7RSP, "the server closed the connection early")
        self.ctx.note("<", self.mask(data))
        return data

    async def read_exactly(self, size: int, *, note: bool = True) -> bytes:
        """The next `size` bytes.

        Raises CheckFailed when the server hangs up first or sends too much.
        """
        await self.peek(size)
        data = self._pipe.buffer.exactly(size) or b""
        if note:
            self.ctx.note("<", self.mask(data))
        return data

    async def peek(self, size: int) -> bytes:
        """As `read_exactly`, but the bytes stay for the next read."""
        while (data := self._pipe.buffer.exactly(size, keep=True)) is None:
            if not await self._pipe.wait():
                raise CheckFailed(Status.L7RSP, "the server closed the connection early")
        return data

    def put_back(self, data: bytes) -> None:
        """Let the next read begin with `data`, which was read before."""
        self._pipe.buffer.put_back(data)

    async def read_some(self, *, note: bool = True) -> bytes:
        """What there is, at least a byte; nothing at the end of the connection."""
        while not len(self._pipe.buffer):
            if not await self._pipe.wait():
                return b""
        data = self._pipe.buffer.take()
        if note:
            self.ctx.note("<", self.mask(data))
        return data

    # -- writing

    async def write(self, data: bytes, *, shown: bytes | str | None = None) -> None:
        """Send `data`; the trace gets `shown` in its place, if given."""
        self.ctx.note(">", self.mask(data) if shown is None else shown)
        self._pipe.raise_if_lost()
        self._pipe.transport.write(data)
        await self._pipe.drain()

    def write_eof(self) -> None:
        """Close the sending side; TLS has no such thing, and there it does nothing."""
        if self._pipe.transport.can_write_eof():
            self.ctx.note("*", "end of the request")
            self._pipe.transport.write_eof()

    async def farewell(self, data: bytes, patience: float = _PATIENCE) -> None:
        """Send the last command and give the server `patience` seconds to answer or hang up.

        The verdict stands already: nothing that happens here changes it.
        """
        left = self.ctx.deadline - asyncio.get_running_loop().time()
        with contextlib.suppress(OSError, CheckFailed):
            async with asyncio.timeout(max(0.0, min(patience, left / 2))):
                await self.write(data)
                await self.read_line()

    # -- what people read

    def mask(self, data: bytes) -> bytes:
        """`data` without the secrets."""
        return masked(data, self._secrets)

    def show(self, data: bytes) -> str:
        """The beginning of `data`, quoted, on one line, without the secrets."""
        return excerpt(self.mask(data))


class _Pipe(asyncio.Protocol):
    """The bytes of one connection, plain or TLS."""

    def __init__(self) -> None:
        self.buffer = LineBuffer()
        self.transport: asyncio.Transport
        self._ended = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance check: uvloop's transports are no subclasses.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.buffer.feed(data)
        if len(self.buffer) > MAX_BYTES:
            self.transport.pause_reading()  # for good: the reader will refuse it
        self._wake()

    def eof_received(self) -> bool:
        """Keep the sending side of a plain connection open."""
        self._ended = True
        self._wake()
        return self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self._error = error
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def raise_if_lost(self) -> None:
        """Raises what the connection ended with, or for one that this side has closed."""
        if self._error is not None:
            raise self._error
        if self.transport.is_closing():
            raise ConnectionResetError

    async def wait(self) -> bool:
        """Wait for data; False at the end.  Raises what the connection broke with."""
        if not self._ended:
            self._reader = asyncio.get_running_loop().create_future()
            before = len(self.buffer)
            await self._reader
            if len(self.buffer) > before:
                return True
        if self._error is not None:
            raise self._error
        return False

    async def drain(self) -> None:
        """Wait until the transport takes more."""
        if self._writable is not None:
            await self._writable
            self.raise_if_lost()

    def abort(self) -> None:
        """Drop the connection, without TLS's closing words, whose answer might never come."""
        if hasattr(self, "transport"):
            self.transport.abort()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


async def converse(stream: Stream, script: Script) -> str:
    """Hold the dialogue on a connection; the script's word at its end."""
    dialogue = Dialogue(script)
    actions = dialogue.start()
    while True:
        for action in actions:
            match action:
                case Heard(line):
                    stream.ctx.note("<", stream.mask(line))
                case Send(data, shown):
                    await stream.write(data, shown=shown)
                case StartTls():
                    await stream.start_tls()
                case Quit(data):
                    await stream.farewell(data)
        if dialogue.result is not None:
            return dialogue.result
        data = await stream.read_some(note=False)
        if not data:
            raise dialogue.eof()
        actions = dialogue.feed(data)
