"""The `websocket` check (RFC 6455): the upgrade, a message and its answer if wanted, the close.

The protocol is that of `websockets`, its part without input and output, on a connection of
lbhealth's own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from lbhealth.checkers.dialogue import MAX_BYTES
from lbhealth.checkers.http_rules import check_headers, check_host, check_path, request_target
from lbhealth.checkers.outcome import excerpt, printable
from lbhealth.checkers.patterns import compile_pattern
from lbhealth.checkers.settings import TLS_AT_ONCE, check_tls
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target, host_port

__all__ = ["Websocket"]

_CLOSING = 0.2
"""Seconds that the server has to answer the close; the verdict stands already."""

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_OWN = frozenset({"host", "upgrade", "connection", "content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Websocket:
    """Passes when the server agrees to the upgrade, and answers as wanted.

    `path` begins with `/`.  `host` takes the place of the server's name or address in the
    request.  `headers` may hold secrets.  With `subprotocols` the server must choose one.
    `send` is a text message to send; `receive` a Perl regular expression that must match in
    one of the messages that come then, before the time-out.  `tls` is "none" or "implicit";
    `verify` and `ca_file` as in the check type https.
    """

    kind: ClassVar[str] = "websocket"
    owns_sockets: ClassVar[bool] = True

    path: str = "/"
    host: str | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False, metadata={"secret": True})
    subprotocols: tuple[str, ...] = ()
    send: str | None = None
    receive: str | None = None
    tls: str = "none"
    verify: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that make no sense or cannot be sent."""
        pairs = tuple((str(name), str(value)) for name, value in self.headers)
        object.__setattr__(self, "headers", pairs)
        object.__setattr__(self, "subprotocols", tuple(map(str, self.subprotocols)))
        check_tls(self.tls, self.verify, self.ca_file, TLS_AT_ONCE)
        check_path(self.path)
        if not self.path.startswith("/"):
            raise SettingError("path", "must begin with /")
        if self.host is not None:
            check_host(self.host)
        check_headers(self.headers)
        for name, _ in self.headers:
            if name.lower() in _OWN or name.lower().startswith("sec-websocket-"):
                raise SettingError("headers", f"{name} belongs to the upgrade")
        for name in self.subprotocols:
            if not name or not all("!" < c <= "~" and c not in '(),/:;<=>?@[\\]{}"' for c in name):
                raise SettingError("subprotocols", "not the name of a subprotocol")
        if self.receive:
            compile_pattern(self.receive, "receive")

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Ask once on a connection of its own."""
        async with Stream.connect(
            target, ctx, tls=self.tls, verify=self.verify, ca_file=self.ca_file
        ) as stream:
            socket = _Socket(stream, self._protocol(target))
            await socket.open(self._request_headers(target))
            detail = self._judge_upgrade(socket.protocol)
            if self.send is not None:
                await socket.say(self.send)
            if self.receive:
                await self._find(socket, self.receive)
                detail = "the answer matches"
            with contextlib.suppress(OSError, CheckFailed):
                left = ctx.deadline - asyncio.get_running_loop().time()
                async with asyncio.timeout(max(0.0, min(_CLOSING, left / 2))):
                    await socket.close()
            return Passed(Status.L7OK, detail)

    def _protocol(self, target: Target) -> ClientProtocol:
        path, _, query = request_target(self.path).partition("?")
        return ClientProtocol(
            WebSocketURI(self.tls != "none", target.address, target.port, path, query),
            subprotocols=[Subprotocol(name) for name in self.subprotocols] or None,
            max_size=MAX_BYTES,
        )

    def _request_headers(self, target: Target) -> tuple[tuple[str, str], ...]:
        host = self.host or target.server_name or host_port(target.address, target.port)
        return (("Host", host), ("User-Agent", "lbhealth-websocket"), *self.headers)

    def _judge_upgrade(self, protocol: ClientProtocol) -> str:
        chosen = protocol.subprotocol
        if self.subprotocols and chosen is None:
            raise CheckFailed(Status.L7STS, "upgraded, but the server chose no subprotocol")
        return f"upgraded, subprotocol {printable(chosen)}" if chosen else "upgraded"

    async def _find(self, socket: _Socket, wanted: str) -> None:
        pattern, last = compile_pattern(wanted, "receive"), b""
        while (message := await socket.message()) is not None:
            if pattern.search(message):
                return
            last = message
        what = f'no message matches "{printable(wanted, 100)}" before the server closed'
        raise CheckFailed(Status.L7RSP, f"{what}; the last was {excerpt(last)}")


class _Socket:
    """A WebSocket on a connection."""

    def __init__(self, stream: Stream, protocol: ClientProtocol) -> None:
        self.protocol = protocol
        self._stream = stream
        self._events: list[object] = []

    async def open(self, headers: Iterable[tuple[str, str]]) -> None:
        """Ask for the upgrade; CheckFailed when the server does not agree."""
        request = self.protocol.connect()
        for name, value in headers:
            if name in ("Host", "User-Agent"):
                request.headers.pop(name, None)
            request.headers[name] = value
        self.protocol.send_request(request)
        await self._flush(f"GET {request.path} (upgrade to websocket)")
        while not any(isinstance(event, Response) for event in self._events):
            await self._receive()
            # The state does not tell: it is CLOSED after a failed handshake, too.
            if self.protocol.handshake_exc is not None:
                raise _not_upgraded(self.protocol.handshake_exc)
        self._events = [event for event in self._events if isinstance(event, Frame)]

    async def say(self, text: str) -> None:
        """Send a text message."""
        self.protocol.send_text(text.encode("utf-8", "surrogateescape"))
        await self._flush(text)

    async def message(self) -> bytes | None:
        """The next message of the server, put together; None when it has closed."""
        parts = b""
        while True:
            while not self._events:
                if self.protocol.state is State.CLOSED or self.protocol.eof_sent:
                    return None
                await self._receive()
            frame = self._events.pop(0)
            if not isinstance(frame, Frame) or frame.opcode not in _DATA:
                continue
            parts += bytes(frame.data)
            if frame.fin:
                return parts

    async def close(self) -> None:
        """Say goodbye and wait until the server has, too."""
        if self.protocol.state is State.OPEN:
            self.protocol.send_close(1000)
            await self._flush("close")
        while self.protocol.close_rcvd is None and not self.protocol.eof_sent:
            await self._receive()

    async def _receive(self) -> None:
        data = await self._stream.read_some()
        if data:
            self.protocol.receive_data(data)
        else:
            connecting = self.protocol.state is State.CONNECTING
            self.protocol.receive_eof()
            if connecting and self.protocol.handshake_exc is None:
                raise CheckFailed(Status.L7RSP, "the server closed the connection early")
        self._events += self.protocol.events_received()
        await self._flush("(pong or close)")
        if self.protocol.parser_exc is not None:
            why = f"not the protocol of websockets: {printable(str(self.protocol.parser_exc))}"
            raise CheckFailed(Status.L7RSP, why)

    async def _flush(self, shown: str) -> None:
        for data in self.protocol.data_to_send():
            if data:  # the empty one asks to close the sending side, which comes by itself
                await self._stream.write(data, shown=shown)


def _not_upgraded(error: Exception) -> CheckFailed:
    if isinstance(error, InvalidStatus):
        response = error.response
        line = printable(f"{response.status_code} {response.reason_phrase}", 100)
        return CheckFailed(Status.L7STS, f"not upgraded: {line}")
    cause = error.__cause__
    words = f"{error}: {cause}" if cause is not None and str(cause) else str(error)
    return CheckFailed(Status.L7RSP, f"not upgraded: {printable(words)}")
