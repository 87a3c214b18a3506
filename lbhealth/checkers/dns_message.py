"""DNS messages: questions, and answers that may be hostile.  No input or output.

dnspython is the codec.  It is loaded with this module, and this module with the check.
"""

from __future__ import annotations

import functools
import ipaddress

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.reversename
from dns.message import Message

from lbhealth.checkers.datagram import NoAnswer
from lbhealth.checkers.outcome import excerpt, printable
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import Status

__all__ = [
    "answer_texts",
    "asked_name",
    "is_address",
    "question",
    "rcode_number",
    "rcode_of",
    "read_answer",
    "record_type",
    "truncated",
]

_HEADER = 12
_MAX_RECORDS = 1000
"""Records in one answer that are worth reading: each costs time in the event loop."""

_NO_QUESTIONS = frozenset({"AXFR", "IXFR", "MAILA", "MAILB", "NONE", "OPT", "TKEY", "TSIG"})


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@functools.lru_cache(maxsize=1024)
def asked_name(request: str) -> dns.name.Name:
    """The name that `request` asks for, of an address its reverse name (RFC 1035, 3.5).

    Raises SettingError when it is no domain name.
    """
    try:
        if is_address(request):
            return dns.reversename.from_address(request.partition("%")[0])
        return dns.name.from_text(request)
    except (dns.exception.DNSException, ValueError) as error:
        reason = printable(str(error)).rstrip(".").lower()
        raise SettingError("request", f"not a domain name: {reason}") from None


def record_type(name: str) -> dns.rdatatype.RdataType:
    """The number of a record type; SettingError for one that no question has."""
    if name in _NO_QUESTIONS:
        raise SettingError("record", f"{name} cannot be asked for by a check")
    try:
        return dns.rdatatype.from_text(name)
    except (dns.exception.DNSException, ValueError):
        raise SettingError("record", f"{printable(name)!r} is not a DNS record type") from None


def rcode_number(name: str) -> dns.rcode.Rcode:
    """The number of a response code such as NXDOMAIN; SettingError for an unknown one."""
    try:
        return dns.rcode.from_text(name)
    except (dns.exception.DNSException, ValueError):
        raise SettingError("rcode", f"{printable(name)!r} is not a DNS response code") from None


def rcode_of(answer: Message) -> str:
    """The response code in words: NOERROR, SERVFAIL."""
    return dns.rcode.to_text(answer.rcode())


def question(request: str, kind: str) -> Message:
    """A query with a random ID, recursion desired as ldirectord does, without EDNS."""
    return dns.message.make_query(asked_name(request), record_type(kind))


def truncated(answer: Message) -> bool:
    """Whether the server had more to say than it could."""
    return bool(answer.flags & dns.flags.TC)


def read_answer(query: Message, data: bytes) -> Message:
    """The answer to `query` in `data`.

    Raises NoAnswer for what answers something else or nothing, and CheckFailed for an answer
    with our ID that cannot be read.
    """
    if len(data) < _HEADER:
        raise NoAnswer(f"not a DNS message: {excerpt(data)}")
    if data[:2] != query.id.to_bytes(2):
        raise NoAnswer(f"a DNS message with another ID, or none: {excerpt(data)}")
    if not data[2] & 0x80:
        raise NoAnswer("a DNS query instead of a response")
    counts = [int.from_bytes(data[place : place + 2]) for place in range(4, _HEADER, 2)]
    if sum(counts) > _MAX_RECORDS:
        raise CheckFailed(Status.L7RSP, f"a DNS response of more than {_MAX_RECORDS} records")
    try:
        answer = _parsed(data)
        ours = query.is_response(answer)
    except Exception as error:  # a codec may trip over hostile bytes in any way
        why = printable(str(error)).rstrip(".").lower()
        raise CheckFailed(Status.L7RSP, f"malformed DNS response: {why}") from None
    if not ours:
        raise NoAnswer("a DNS response to another question")
    return answer


def _parsed(data: bytes) -> Message:
    try:
        return dns.message.from_wire(data, ignore_trailing=True)
    except dns.exception.FormError:
        if not data[2] & 0x02:
            raise
        # Truncated, and some servers cut inside a record; the rest comes over TCP anyway.
        return dns.message.from_wire(data, question_only=True, ignore_trailing=True)


def answer_texts(answer: Message, kind: str) -> list[tuple[str, ...]]:
    """Each record of type `kind` in the answer section, in the forms that a pattern may match.

    The first form is that of a zone file; a name follows without its final dot, a TXT without
    its quotes.
    """
    wanted = record_type(kind)
    return [
        _forms(rdata)
        for rrset in answer.answer
        if wanted in (rrset.rdtype, dns.rdatatype.ANY)
        for rdata in rrset
    ]


def _forms(rdata: dns.rdata.Rdata) -> tuple[str, ...]:
    text = rdata.to_text()
    strings = getattr(rdata, "strings", None)
    if strings is not None:
        return (text, b"".join(strings).decode("utf-8", "surrogateescape"))
    return (text, text[:-1]) if text.endswith(".") else (text,)
