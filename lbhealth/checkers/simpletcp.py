r"""The `simpletcp` check: send a text, look for a line of the answer; over TCP or UDP."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass
from typing import ClassVar

from lbhealth.checkers.dialogue import LineBuffer
from lbhealth.checkers.outcome import excerpt, failure_from, printable
from lbhealth.checkers.patterns import compile_pattern
from lbhealth.checkers.sockets import open_socket, sockaddr
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckError, CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target, TransportProtocol

__all__ = ["SimpleTcp", "unescape"]

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
_MAX_REQUEST = 32 * 1024
_DATAGRAM = 65535


def unescape(text: str) -> bytes:
    r"""The bytes of a request: `\n`, `\r`, `\t`, `\\` and `\xNN` stand for characters.

    Any other escape stands for itself, as in ldirectord (which knows `\n` only).  Raises
    SettingError for `request` at an `\x` without two digits.
    """

    def character(match: re.Match[str]) -> str:
        code, name = match.groups()
        if code is not None:
            # A byte beyond ASCII travels through the text by surrogateescape.
            return bytes([int(code, 16)]).decode("ascii", "surrogateescape")
        if name == "x":
            raise SettingError("request", r"\x needs two hexadecimal digits", match.start())
        return _NAMED.get(name, match[0])

    return _ESCAPE.sub(character, text).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class SimpleTcp:
    r"""Passes at the first line of the answer that matches `receive`.

    `request` (up to 32 KiB) is sent with its escapes resolved; over TCP the sending side is
    closed after it unless `half_close` is off, as ldirectord does.  `receive` is a Perl
    regular expression, searched line by line, each with its line end; empty, any line will
    do.  What comes before the end of the connection, or in one datagram, is a line too.
    Over UDP an empty request is an empty datagram.
    """

    kind: ClassVar[str] = "simpletcp"
    protocols: ClassVar[tuple[TransportProtocol, ...]] = (
        TransportProtocol.TCP,
        TransportProtocol.UDP,
    )
    owns_sockets: ClassVar[bool] = True

    request: str = ""
    receive: str = ""
    half_close: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be sent or is no expression."""
        if len(unescape(self.request)) > _MAX_REQUEST:
            raise SettingError("request", f"must be at most {_MAX_REQUEST} bytes")
        compile_pattern(self.receive, "receive")

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Ask once and read until a line matches."""
        if target.protocol is TransportProtocol.UDP:
            return await self._over_udp(target, ctx)
        if target.protocol is TransportProtocol.TCP:
            return await self._over_tcp(target, ctx)
        raise CheckError(f"simpletcp does not work over {target.protocol}")

    async def _over_tcp(self, target: Target, ctx: CheckContext) -> Passed:
        search = _Search(self.receive)
        async with Stream.connect(target, ctx) as stream:
            if request := unescape(self.request):
                await stream.write(request)
            if self.half_close:
                stream.write_eof()
            while data := await stream.read_some():
                if search.feed(data):
                    return search.passed()
            if search.end():
                return search.passed()
        raise search.failure()

    async def _over_udp(self, target: Target, ctx: CheckContext) -> Passed:
        loop = asyncio.get_running_loop()
        search = _Search(self.receive)
        request = unescape(self.request)
        try:
            with open_socket(target, socket.SOCK_DGRAM) as sock:
                # Connected, so that ICMP errors come back and strangers are not heard.
                sock.connect(sockaddr(target.address, target.port))
                ctx.phase = Status.L7TOUT
                ctx.note(">", request)
                sock.send(request)
                while True:
                    data = await loop.sock_recv(sock, _DATAGRAM)
                    ctx.note("<", data)
                    if search.feed(data) or search.end():
                        return search.passed()
        except OSError as error:
            raise failure_from(error, ctx.phase) from error


class _Search:
    """Looks for a line in what arrives."""

    def __init__(self, receive: str) -> None:
        self._receive = receive
        self._pattern = compile_pattern(receive, "receive")
        self._buffer = LineBuffer()
        self._first: bytes | None = None
        self._found = b""

    def feed(self, data: bytes) -> bool:
        """Whether a whole line matches by now."""
        self._buffer.feed(data)
        while (line := self._buffer.line(keep_end=True)) is not None:
            if self._matches(line):
                return True
        return False

    def end(self) -> bool:
        """Whether the rest without a line end matches."""
        rest = self._buffer.take()
        return bool(rest) and self._matches(rest)

    def passed(self) -> Passed:
        """The verdict on a match."""
        return Passed(Status.L7OK, excerpt(self._found.rstrip(b"\r\n")))

    def failure(self) -> CheckFailed:
        """The verdict at the end without a match."""
        if self._first is None:
            return CheckFailed(Status.L7RSP, "the server closed the connection without an answer")
        first = excerpt(self._first.rstrip(b"\r\n"))
        return CheckFailed(
            Status.L7RSP, f'no line matches "{printable(self._receive, 100)}"; the first is {first}'
        )

    def _matches(self, line: bytes) -> bool:
        if self._first is None:
            self._first = line
        if not self._pattern.search(line):
            return False
        self._found = line
        return True
