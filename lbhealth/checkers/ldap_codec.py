"""LDAP messages to bytes and back (RFC 4511), by the codec of ldap3.

Only the codec: ldap3's own connections block a thread each.  What arrives is cut into
messages here, by the outermost length alone, and nothing inside a message is trusted: each
way in which it can be malformed is a CheckFailed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from lbhealth.errors import CheckFailed
from lbhealth.model import Status

with warnings.catch_warnings():
    # ldap3 asks pyasn1 for names that newer versions call deprecated.
    warnings.simplefilter("ignore")
    from ldap3 import ANONYMOUS, BASE, DEREF_NEVER, SIMPLE  # type: ignore[import-untyped]
    from ldap3.core.results import RESULT_CODES  # type: ignore[import-untyped]
    from ldap3.operation.bind import bind_operation  # type: ignore[import-untyped]
    from ldap3.operation.extended import extended_operation  # type: ignore[import-untyped]
    from ldap3.operation.search import search_operation  # type: ignore[import-untyped]
    from ldap3.operation.unbind import unbind_operation  # type: ignore[import-untyped]
    from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp  # type: ignore[import-untyped]
    from ldap3.utils.asn1 import decode_message_fast, encode  # type: ignore[import-untyped]

__all__ = [
    "BIND_RESPONSE",
    "EXTENDED_RESPONSE",
    "MAX_MESSAGE",
    "SEARCH_DONE",
    "SEARCH_ENTRY",
    "SEARCH_REFERENCE",
    "Answer",
    "bind",
    "decode",
    "frame_length",
    "result_name",
    "search",
    "start_tls",
    "unbind",
]

BIND_RESPONSE, SEARCH_ENTRY, SEARCH_DONE = 1, 4, 5
SEARCH_REFERENCE, EXTENDED_RESPONSE = 19, 24

MAX_MESSAGE = 8 * 1024
"""Bytes of one message; binds and searches without attributes are answered by a few hundred.

ldap3 takes a time that grows with the square of an integer's length, 7 ms for this one.
"""

_START_TLS = "1.3.6.1.4.1.1466.20037"
_NO_ATTRIBUTES = "1.1"  # RFC 4511, 4.5.1.8
_SEQUENCE = 0x30

_Value = TypeVar("_Value", int, bytes)

_NAMES = {code: name for code, name in RESULT_CODES.items() if isinstance(code, int)}


@dataclass(frozen=True, slots=True)
class Answer:
    """One message from a server.

    `code` is its result code, None in an entry or a reference; `dn` the name of the entry, or
    the part of the name that the server knows; `text` what it says to people.
    """

    message_id: int
    operation: int
    code: int | None
    dn: bytes
    text: bytes


def result_name(code: int) -> str:
    """`invalidCredentials (49)`."""
    return f"{_NAMES.get(code, 'unknown result')} ({code})"


def bind(message_id: int, login: str | None, password: str | None) -> bytes:
    """A simple bind of version 3, anonymous without `login`."""
    if login is None:
        return _message(message_id, "bindRequest", bind_operation(3, ANONYMOUS))
    # Not by ldap3's own way for passwords, which would apply SASLprep: servers compare bytes.
    request = bind_operation(3, SIMPLE, login, "x")
    request["authentication"]["simple"] = (password or "").encode("utf-8", "surrogateescape")
    return _message(message_id, "bindRequest", request)


def start_tls(message_id: int) -> bytes:
    """The StartTLS operation (RFC 4511, 4.14)."""
    return _message(message_id, "extendedReq", extended_operation(_START_TLS))


def search(message_id: int, base: str) -> bytes:
    """A search for the entry `base` itself, whatever it is; no attributes are asked for."""
    request = search_operation(
        base, "(objectClass=*)", BASE, DEREF_NEVER, [_NO_ATTRIBUTES], 0, 0, False, False, False
    )
    return _message(message_id, "searchRequest", request)


def unbind(message_id: int) -> bytes:
    """The farewell, which has no answer."""
    return _message(message_id, "unbindRequest", unbind_operation())


def _message(message_id: int, name: str, operation: object) -> bytes:
    message = LDAPMessage()
    message["messageID"] = MessageID(message_id)
    message["protocolOp"] = ProtocolOp().setComponentByName(name, operation)
    return cast("bytes", encode(message))


def frame_length(head: bytes) -> int | None:
    """Bytes of the message that begins with `head`; None when `head` is too short to say.

    Raises CheckFailed when it is no LDAP message or too long a one.
    """
    if head and head[0] != _SEQUENCE:
        raise CheckFailed(Status.L7RSP, "the answer is not LDAP")
    if len(head) < 2:
        return None
    if head[1] < 0x80:
        return 2 + head[1]
    size = head[1] & 0x7F
    if not 1 <= size <= 4:  # RFC 4511, 5.1: the definite form only
        raise CheckFailed(Status.L7RSP, "the answer is not LDAP")
    if len(head) < 2 + size:
        return None
    length = 2 + size + int.from_bytes(head[2 : 2 + size])
    if length > MAX_MESSAGE:
        raise CheckFailed(Status.L7RSP, f"an LDAP message claims to be {length} bytes long")
    return length


def decode(message: bytes) -> Answer:
    """Read one whole message.  Raises CheckFailed when it is malformed."""
    try:
        return _answer(decode_message_fast(message))
    except (LookupError, ValueError, TypeError, RecursionError, AttributeError) as error:
        raise CheckFailed(Status.L7RSP, "the server sent a malformed LDAP message") from error


def _answer(decoded: dict[str, Any]) -> Answer:
    operation, values = decoded["protocolOp"], decoded["payload"]
    number = _checked(int, decoded["messageID"])
    if operation == SEARCH_ENTRY:
        return Answer(number, operation, None, _checked(bytes, values[0][3]), b"")
    if operation == SEARCH_REFERENCE:
        return Answer(number, operation, None, b"", b"")
    code, dn, text = (value[3] for value in values[:3])
    return Answer(
        number, operation, _checked(int, code), _checked(bytes, dn), _checked(bytes, text)
    )


def _checked(kind: type[_Value], value: object) -> _Value:
    if type(value) is not kind:
        raise TypeError
    return value
