"""The `grpc` check: Health/Check of grpc.health.v1, over HTTP/2 with or without TLS.

A client of its own on `h2` instead of grpcio: that one has threads, a name resolver and a
proxy, and cannot be told its socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import unquote_to_bytes

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from lbhealth.checkers.outcome import excerpt, printable
from lbhealth.checkers.settings import TLS_AT_ONCE, check_tls
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target, host_port
from lbhealth_grpc.message import Malformed, request, serving_status

__all__ = ["Grpc"]

_SERVING = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

# Status codes of gRPC (grpc.io/docs/guides/status-codes), as far as they tell more than a number.
_CODES = {
    "1": "cancelled",
    "4": "the server's own deadline exceeded",
    "5": "the server does not know the service",
    "7": "permission denied",
    "8": "busy: resource exhausted",
    "12": "the server has no health service",
    "13": "internal error",
    "14": "unavailable",
    "16": "authentication wanted",
}


@dataclass(frozen=True, slots=True)
class Grpc:
    """Passes when the server says SERVING.

    `service` is the name to ask for; the empty one stands for the whole server.  `authority`
    takes the place of the server's name or address in the request.  `tls` is "none" or
    "implicit"; `verify` and `ca_file` as in the check type https.
    """

    kind: ClassVar[str] = "grpc"
    owns_sockets: ClassVar[bool] = True

    service: str = ""
    authority: str | None = None
    tls: str = "none"
    verify: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that make no sense or cannot be sent."""
        check_tls(self.tls, self.verify, self.ca_file, TLS_AT_ONCE)
        if len(self.service) > 1000:
            raise SettingError("service", "more than 1000 characters")
        for place, char in enumerate(self.service):
            if "\ud800" <= char <= "\udfff":
                raise SettingError("service", "not a character of UTF-8", place)
        for place, char in enumerate(self.authority or ""):
            if not "!" <= char <= "~":
                raise SettingError("authority", "not a host and port", place)
        if self.authority == "":
            raise SettingError("authority", "empty")

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Ask once on a connection of its own."""
        async with Stream.connect(
            target, ctx, tls=self.tls, verify=self.verify, ca_file=self.ca_file, alpn="h2"
        ) as stream:
            if self.tls != "none" and stream.alpn != "h2":
                raise CheckFailed(Status.L7RSP, "the server does not offer HTTP/2 (ALPN h2)")
            answer = await _Call(stream, ctx).run(self._headers(target), request(self.service))
            return self._judge(answer)

    def _headers(self, target: Target) -> list[tuple[str, str]]:
        name = target.server_name
        authority = self.authority or name or host_port(target.address, target.port)
        return [
            (":method", "POST"),
            (":scheme", "http" if self.tls == "none" else "https"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "lbhealth-grpc"),
        ]

    def _judge(self, answer: _Answer) -> Passed:
        headers = answer.headers
        code = headers.get("grpc-status")
        if headers.get(":status") != "200" and code is None:
            shown = printable(headers.get(":status", "none"))
            raise CheckFailed(Status.L7RSP, f"not a gRPC server: HTTP status {shown}")
        if code is None:
            raise CheckFailed(Status.L7RSP, "not a gRPC server: no grpc-status in the answer")
        if code != "0":
            what = _CODES.get(code, "error")
            words = excerpt(unquote_to_bytes(headers.get("grpc-message", "")), 100)
            raise CheckFailed(Status.L7STS, f"{what} (grpc-status {printable(code, 20)}): {words}")
        try:
            status = serving_status(answer.body)
        except Malformed as error:
            raise CheckFailed(Status.L7RSP, f"{error}: {excerpt(answer.body)}") from None
        name = _SERVING.get(status, str(status))
        if name != "SERVING":
            raise CheckFailed(Status.L7STS, f"the server says {name}")
        return Passed(Status.L7OK, name)


class _Answer:
    """Headers and trailers together, and the body."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""


class _Call:
    """One request on a fresh HTTP/2 connection."""

    def __init__(self, stream: Stream, ctx: CheckContext) -> None:
        self._stream = stream
        self._ctx = ctx
        self._http = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding=None)
        )
        self._answer = _Answer()
        self._ended = False

    async def run(self, headers: list[tuple[str, str]], body: bytes) -> _Answer:
        """The whole answer, with the connection closed politely after it."""
        http = self._http
        http.initiate_connection()
        stream = http.get_next_available_stream_id()
        http.send_headers(stream, headers)
        http.send_data(stream, body, end_stream=True)
        await self._flush("POST /grpc.health.v1.Health/Check")
        begin = b""
        while not self._ended:
            data = await self._stream.read_some()
            begin = begin or data
            if not data:
                why = "the server closed the connection early"
                raise CheckFailed(Status.L7RSP, f"{why} after {excerpt(begin)}" if begin else why)
            try:
                events = http.receive_data(data)
            except (h2.exceptions.ProtocolError, ValueError) as error:
                why = f"not HTTP/2: {excerpt(begin)}"
                raise CheckFailed(Status.L7RSP, why) from error
            for event in events:
                self._handle(event)
            await self._flush("(frames)")
        http.close_connection()
        await self._flush("GOAWAY")
        return self._answer

    async def _flush(self, shown: str) -> None:
        if data := self._http.data_to_send():
            await self._stream.write(data, shown=shown)

    def _handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            for name, value in event.headers:
                self._answer.headers[_text(name)] = _text(value)
        elif isinstance(event, h2.events.DataReceived):
            self._answer.body += event.data
            if event.flow_controlled_length and event.stream_ended is None:
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self._ended = True
        elif isinstance(event, h2.events.StreamReset):
            why = f"the server reset the request (HTTP/2 error {event.error_code!s})"
            raise CheckFailed(Status.L7RSP, printable(why))
        elif isinstance(event, h2.events.ConnectionTerminated) and not self._ended:
            why = f"the server is closing (HTTP/2 error {event.error_code!s})"
            raise CheckFailed(Status.L7STS, printable(why))


def _text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode("latin-1")
