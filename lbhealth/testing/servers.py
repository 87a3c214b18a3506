"""A small server that behaves as badly as a test wants it to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from lbhealth.model import Address, Target, family_of

__all__ = ["ScriptedServer"]

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PIECE = 4096


class ScriptedServer:
    r"""A real TCP server on a free port of the loopback, with one behaviour for all clients.

    Make one with a constructor named after the behaviour and enter it::

        async with ScriptedServer.reply(b"220 ready\r\n") as server:
            result = await run_check(checker, server.target(), timeout=1.0)

    `received` holds what each client sent, in order of their arrival.  Leaving it ends every
    connection.
    """

    def __init__(
        self,
        behaviour: Behaviour | None,
        *,
        host: Address = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = 0
        self.received: list[bytearray] = []
        self._behaviour = behaviour
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._clients: set[asyncio.Task[None]] = set()

    # -- behaviours

    @classmethod
    def refuse(cls, *, host: Address = "127.0.0.1") -> Self:
        """Nobody listens on the port, and nobody else can take it."""
        return cls(None, host=host)

    @classmethod
    def accept_then_silence(cls, *, host: Address = "127.0.0.1") -> Self:
        """Accept, read, never say a word."""
        return cls(_silence, host=host)

    @classmethod
    def slow_drip(cls, data: bytes, *, every: float = 0.05, host: Address = "127.0.0.1") -> Self:
        """Send `data` byte by byte, one every `every` seconds, and then stay silent."""
        return cls(functools.partial(_drip, data, every), host=host)

    @classmethod
    def garbage(cls, size: int = 65536, *, host: Address = "127.0.0.1") -> Self:
        """Send `size` random bytes, other ones for each client, and close."""
        return cls(functools.partial(_garbage, size), host=host)

    @classmethod
    def reset(cls, *, host: Address = "127.0.0.1") -> Self:
        """Reset the connection after the client's first bytes, or 50 ms without any."""
        return cls(_reset, host=host)

    @classmethod
    def close_early(cls, data: bytes = b"", *, host: Address = "127.0.0.1") -> Self:
        """Send `data`, perhaps nothing, and close at once, reading nothing."""
        return cls(functools.partial(_say_and_close, data), host=host)

    @classmethod
    def endless_line(cls, start: bytes = b"", *, host: Address = "127.0.0.1") -> Self:
        """Send `start` and then one line that never ends."""
        return cls(functools.partial(_endless, start), host=host)

    @classmethod
    def reply(
        cls,
        *replies: bytes,
        host: Address = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Answer each message of a client with the next of `replies`; close after the last."""
        return cls(functools.partial(_replies, replies), host=host, tls=tls)

    # -- use

    def target(self, server_name: str | None = None) -> Target:
        """Where a check finds this server."""
        return Target(self.host, self.port, server_name=server_name)

    async def __aenter__(self) -> Self:
        if self._behaviour is None:
            self._reserved = socket.socket(family_of(self.host))
            self._reserved.bind((self.host, 0))
            self.port = self._reserved.getsockname()[1]
            return self
        self._server = await asyncio.start_server(
            self._serve, self.host, 0, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._reserved is not None:
            self._reserved.close()
        if self._server is not None:
            self._server.close()
            clients = tuple(self._clients)
            for task in clients:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            await self._server.wait_closed()

    @property
    def busy(self) -> int:
        """Clients connected now."""
        return len(self._clients)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert self._behaviour is not None
        self._clients.add(task)
        seen = bytearray()
        self.received.append(seen)
        try:
            # A client that goes away, or speaks no TLS, is what tests are about.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._behaviour(_Recorder(reader, seen), writer)
        except asyncio.CancelledError:
            pass  # the server is leaving; a cancelled handler would be reported as an error
        finally:
            self._clients.discard(task)
            writer.transport.abort()


class _Recorder(asyncio.StreamReader):
    """The client's stream, keeping what was read."""

    def __init__(self, reader: asyncio.StreamReader, seen: bytearray) -> None:
        super().__init__()
        self._reader = reader
        self._seen = seen

    async def read(self, n: int = -1) -> bytes:
        data = await self._reader.read(n)
        self._seen += data
        return data


async def _silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(_PIECE):
        pass


async def _drip(
    data: bytes, every: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    for byte in data:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(every)
    await _silence(reader, writer)


async def _garbage(size: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _say_and_close(os.urandom(size), reader, writer)


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(reader.read(_PIECE), 0.05)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


async def _say_and_close(
    data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(data)
    await _close(writer)


async def _endless(
    start: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(start)
    while True:
        writer.write(b"x" * _PIECE)
        await writer.drain()
        await asyncio.sleep(0)


async def _replies(
    replies: tuple[bytes, ...], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    for data in replies:
        if not await reader.read(65536):
            return
        writer.write(data)
        await writer.drain()
    await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close without losing what is on its way."""
    if writer.can_write_eof():
        await writer.drain()
    writer.close()
    try:
        await writer.wait_closed()
    except OSError as error:
        if error.errno not in (errno.ECONNRESET, errno.EPIPE):
            raise
