"""The `dns` check: one question, and what counts as its answer (RFC 1035)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lbhealth.checkers.datagram import NoAnswer, connected, exchange, spread
from lbhealth.checkers.dns_message import (
    answer_texts,
    asked_name,
    is_address,
    question,
    rcode_number,
    rcode_of,
    read_answer,
    record_type,
    truncated,
)
from lbhealth.checkers.outcome import printable
from lbhealth.checkers.patterns import compile_pattern
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target, TransportProtocol

if TYPE_CHECKING:
    from dns.message import Message

__all__ = ["Dns"]

_SHOWN = 3
"""Answers named in a failure."""


@dataclass(frozen=True, slots=True)
class Dns:
    """Passes when the server answers a question as expected.

    `request` is the name asked for, or an IPv4 or IPv6 address: then its reverse name, for PTR
    unless `record` names something other than an address.  `record` is a record type ("A", "SOA",
    "TYPE65"), `rcode` the response code that is good ("NOERROR").  With NOERROR the answer
    must hold a record of that type, and with `receive`, a Perl regular expression, it must
    match one of them, written as in a zone file; a name also without its final dot, and a TXT
    also without its quotes.

    The target's protocol decides between UDP and TCP; what comes truncated over UDP is asked
    again over TCP (RFC 7766).  No search list is used and any answer counts, authoritative or
    not.  (ldirectord: A or PTR, `receive` needed; a name has no final dot.)
    """

    kind: ClassVar[str] = "dns"
    protocols: ClassVar[tuple[TransportProtocol, ...]] = (
        TransportProtocol.UDP,
        TransportProtocol.TCP,
    )
    owns_sockets: ClassVar[bool] = True

    request: str = ""
    record: str = "A"
    rcode: str = "NOERROR"
    receive: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be asked or expected."""
        set_field = object.__setattr__
        set_field(self, "record", self.record.upper())
        set_field(self, "rcode", self.rcode.upper())
        if not self.request:
            raise SettingError("request", "a name or an address to ask for is needed")
        record_type(self.record)
        asked_name(self.request)
        rcode_number(self.rcode)
        if self.receive:
            compile_pattern(self.receive, "receive")
            if self.rcode != "NOERROR":
                raise SettingError("receive", "needs the rcode NOERROR: others have no answers")

    @property
    def asked(self) -> str:
        """The record type in the question."""
        if self.record in ("A", "AAAA") and is_address(self.request):
            return "PTR"
        return self.record

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Ask, over TCP again where the answer is too large for UDP, and judge."""
        query = question(self.request, self.asked)
        asking = f"{asked_name(self.request)} {self.asked}"
        if target.protocol is TransportProtocol.TCP:
            answer = await _over_tcp(query, asking, target, ctx)
        else:
            answer = await _over_udp(query, asking, target, ctx)
            if truncated(answer):
                ctx.note("*", "truncated: asking again over TCP")
                answer = await _again_over_tcp(query, asking, target, ctx)
        return self._judge(answer, ctx)

    def _judge(self, answer: Message, ctx: CheckContext) -> Passed:
        rcode, texts = rcode_of(answer), answer_texts(answer, self.asked)
        shown = "; ".join(forms[0] for forms in texts[:_SHOWN])
        ctx.note("<", f"{rcode}, {len(answer.answer)} record sets: {printable(shown)}")
        if rcode != self.rcode:
            raise CheckFailed(Status.L7STS, f"{rcode}, expected {self.rcode}")
        if rcode != "NOERROR":
            return Passed(Status.L7OK, rcode)
        if not texts:
            raise CheckFailed(Status.L7RSP, f"no {self.asked} record in the answer")
        if not self.receive:
            return Passed(Status.L7OK, printable(texts[0][0], 80))
        pattern = compile_pattern(self.receive, "receive")
        for forms in texts:
            if any(pattern.search(form.encode("utf-8", "surrogateescape")) for form in forms):
                return Passed(Status.L7OK, printable(forms[0], 80))
        more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
        raise CheckFailed(
            Status.L7RSP,
            f'no {self.asked} record matches "{printable(self.receive, 100)}": '
            f"{printable(shown)}{more}",
        )


async def _over_udp(query: Message, asking: str, target: Target, ctx: CheckContext) -> Message:
    def accept(data: bytes) -> Message:
        return read_answer(query, data)

    with connected(target, ctx) as sock:
        ctx.note(">", f"{asking} to {target}, id {query.id}")
        return await exchange(sock, query.to_wire(), accept, spread(ctx), ctx)


async def _over_tcp(query: Message, asking: str, target: Target, ctx: CheckContext) -> Message:
    """Ask with the two bytes of length before each message (RFC 1035, 4.2.2)."""
    wire = query.to_wire()
    async with Stream.connect(target, ctx) as stream:
        shown = f"{asking} to {target} over TCP, id {query.id}"
        await stream.write(len(wire).to_bytes(2) + wire, shown=shown.encode())
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2]):
            more = await stream.read_some(note=False)
            if not more:
                raise CheckFailed(Status.L7RSP, "the server closed the connection early")
            data += more
    try:
        return read_answer(query, data[2 : 2 + int.from_bytes(data[:2])])
    except NoAnswer as error:
        raise CheckFailed(Status.L7RSP, str(error)) from None


async def _again_over_tcp(
    query: Message, asking: str, target: Target, ctx: CheckContext
) -> Message:
    try:
        return await _over_tcp(query, asking, target, ctx)
    except CheckFailed as failure:
        detail = f"truncated over UDP, and over TCP: {failure.detail}"
        raise CheckFailed(failure.status, detail) from failure
