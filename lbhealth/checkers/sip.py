"""The `sip` check: OPTIONS, which a user agent answers as it would an INVITE (RFC 3261, 11)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from lbhealth import __version__
from lbhealth.checkers.datagram import NoAnswer, connected, exchange, local_address
from lbhealth.checkers.http_rules import bracketed
from lbhealth.checkers.outcome import excerpt, printable
from lbhealth.checkers.settings import accepted_statuses
from lbhealth.checkers.sip_message import Message, MessageError, MessageReader, parse_datagram
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import (
    CheckContext,
    Passed,
    Status,
    Target,
    TransportProtocol,
    host_port,
)

__all__ = ["Sip"]

_PORT = 5060
_T1, _T2 = 0.5, 4.0  # seconds; RFC 3261, 17.1.1.1
_USER = r"(?:[\w.!~*'()&=+$,;?/-]|%[0-9A-Fa-f]{2})+"
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::[0-9]{1,5})?"
_LOGIN = re.compile(f"(?:sip:)?({_USER})(?:@({_HOST}))?", re.ASCII)
_MEANINGS = {
    401: "authentication refused",
    403: "refused",
    407: "authentication refused",
    480: "busy",
    486: "busy",
    500: "server error",
    503: "busy",
    600: "busy",
}
_BRANCH = re.compile(r";\s*branch\s*=\s*([^;,\s]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sip:
    """Passes when the server answers OPTIONS with a good status.

    `login` is the `user@host` asked for, also the sender; without a host the server's address
    stands in, and without `login` the request is for the server itself.  `status` holds codes
    and ranges ("200", "200-299"; 200..699).  1xx answers are waited over.

    The target's protocol decides between UDP, with the retransmissions of RFC 3261
    (17.1.2.2), and TCP.  (ldirectord: only "200 OK"; the same branch, tag and CSeq each time,
    so that a proxy may take the check for a retransmission.)
    """

    kind: ClassVar[str] = "sip"
    protocols: ClassVar[tuple[TransportProtocol, ...]] = (
        TransportProtocol.UDP,
        TransportProtocol.TCP,
    )
    owns_sockets: ClassVar[bool] = True

    login: str = ""
    status: tuple[str, ...] = ("200-299",)

    def __post_init__(self) -> None:
        """Refuse what cannot stand in a SIP address, or would never pass."""
        object.__setattr__(self, "status", tuple(map(str, self.status)))
        if self.login:
            match = _LOGIN.match(self.login)
            if match is None or match.end() != len(self.login):
                place = match.end() if match else 0
                raise SettingError("login", "not a SIP address such as user@host", place)
        accepted_statuses(self.status, 2, 6)

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Ask once and judge the final answer."""
        if target.protocol is TransportProtocol.TCP:
            options = _Options(self.login, target, "TCP", bracketed(local_address(target, ctx)))
            answer = await _over_tcp(options, target, ctx)
        else:
            with connected(target, ctx) as sock:
                address, port = sock.getsockname()[:2]
                local = host_port(address.partition("%")[0], port)
                options = _Options(self.login, target, "UDP", local)
                ctx.note(">", options.request)
                waits = options.retransmissions()
                answer = await exchange(sock, options.request, options.datagram, waits, ctx)
            ctx.note("<", answer.start_line)
        line = printable(answer.start_line)
        if answer.status in accepted_statuses(self.status, 2, 6):
            return Passed(Status.L7OK, line)
        meaning = _MEANINGS.get(answer.status or 0)
        raise CheckFailed(Status.L7STS, f"{line} ({meaning})" if meaning else line)


class _Options:
    """One OPTIONS transaction: its request, and which answers belong to it."""

    def __init__(self, login: str, target: Target, transport: str, local: str) -> None:
        self._branch = f"z9hG4bK{secrets.token_hex(12)}"  # RFC 3261, 8.1.1.7: the cookie
        self._call_id = secrets.token_hex(16)
        self._sequence = 1 + secrets.randbelow(2**16)
        self._proceeding = False
        self._skipped = ""
        match = _LOGIN.fullmatch(login)
        server = bracketed(target.address) + ("" if target.port == _PORT else f":{target.port}")
        own = f"{match[1] if match else 'lbhealth'}@{local}"
        asked = f"{match[1]}@{match[2] or server}" if match else server
        sender = asked if match else own
        tcp = ";transport=tcp" if transport == "TCP" else ""
        lines = (
            f"OPTIONS sip:{asked} SIP/2.0",
            f"Via: SIP/2.0/{transport} {local};branch={self._branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:{sender}>;tag={secrets.token_hex(8)}",
            f"To: <sip:{asked}>",
            f"Call-ID: {self._call_id}",
            f"CSeq: {self._sequence} OPTIONS",
            f"Contact: <sip:{own}{tcp}>",
            "Accept: application/sdp",
            f"User-Agent: lbhealth/{__version__}",
            "Content-Length: 0",
        )
        self.request = "\r\n".join((*lines, "", "")).encode("ascii")

    def retransmissions(self) -> Iterator[float]:
        """Timer E (RFC 3261, 17.1.2.2): from T1 doubling to T2, and T2 after a 1xx."""
        wait = _T1
        while True:
            yield wait
            wait = _T2 if self._proceeding else min(2 * wait, _T2)

    def datagram(self, data: bytes) -> Message | None:
        """The final answer in a datagram, None for a provisional one; else NoAnswer."""
        try:
            return self.answer(parse_datagram(data))
        except MessageError as error:
            raise NoAnswer(str(error)) from None

    def answer(self, message: Message) -> Message | None:
        """The message if it is the final answer, None if provisional (RFC 3261, 17.1.3)."""
        if message.status is None:
            raise NoAnswer("a SIP request")
        branch = _BRANCH.search(message.header("via").partition(",")[0])
        sequence = message.header("cseq").split()
        if (
            branch is None
            or branch[1] != self._branch
            or sequence != [str(self._sequence), "OPTIONS"]
            or message.header("call-id") != self._call_id
        ):
            raise NoAnswer(f"a SIP response to another request: {printable(message.start_line)}")
        if message.status < 200:
            self._proceeding = True
            return None
        return message

    def next_answer(self, reader: MessageReader, ctx: CheckContext) -> Message | None:
        """The final answer among the whole messages of a stream; MessageError for nonsense."""
        while (message := reader.next()) is not None:
            try:
                answer = self.answer(message)
            except NoAnswer as error:
                self._skipped = str(error)
                ctx.note("*", f"skipped: {error}")
            else:
                if answer is not None:
                    return answer
        return None

    def missing(self, rest: bytes) -> str:
        """What a stream was that ended without the final answer, but with `rest`."""
        if rest:
            return f"the server closed the connection inside its answer: {excerpt(rest)}"
        instead = f", but with {self._skipped}" if self._skipped else ""
        return f"the server closed the connection without an answer{instead}"


async def _over_tcp(options: _Options, target: Target, ctx: CheckContext) -> Message:
    reader = MessageReader()
    async with Stream.connect(target, ctx) as stream:
        await stream.write(options.request)
        while data := await stream.read_some():
            reader.feed(data)
            try:
                answer = options.next_answer(reader, ctx)
            except MessageError as error:
                raise CheckFailed(Status.L7RSP, str(error)) from None
            if answer is not None:
                return answer
        raise CheckFailed(Status.L7RSP, options.missing(reader.rest))
