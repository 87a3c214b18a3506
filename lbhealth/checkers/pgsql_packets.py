"""The messages that open a connection to PostgreSQL, without input or output.

(PostgreSQL documentation, 55.2.1 "Start-up" and 55.7 "Message Formats".)  The rest of the
protocol is asyncpg's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lbhealth.errors import CheckFailed
from lbhealth.model import Status

__all__ = [
    "HEADER",
    "SSL_REQUEST",
    "TLS_ACCEPTED",
    "TLS_REFUSED",
    "ServerError",
    "body_length",
    "parse_error",
    "startup",
]

SSL_REQUEST = struct.pack("!II", 8, 80877103)
TLS_ACCEPTED, TLS_REFUSED = b"S", b"N"

HEADER = 5
"""Bytes of a message before its body: its type and its length."""

_VERSION_3 = 196608
_MAX_MESSAGE = 30_000  # libpq's limit for messages before the login
_KNOWN = frozenset(b"REvN")  # authentication, error, protocol negotiation, notice


@dataclass(frozen=True, slots=True)
class ServerError:
    """An ErrorResponse: the SQL state ("53300") and what the server says to people."""

    state: str
    text: str


def startup(user: str, database: str) -> bytes:
    """The first message of a session."""
    pairs = ("user", user, "database", database, "application_name", "lbhealth")
    body = b"".join(word.encode() + b"\0" for word in pairs) + b"\0"
    return struct.pack("!II", 8 + len(body), _VERSION_3) + body


def body_length(header: bytes) -> int:
    """Bytes that follow the header of an answer to `startup`.

    Raises CheckFailed when it is none.
    """
    kind, length = struct.unpack("!BI", header)
    if kind not in _KNOWN or not 4 <= length <= _MAX_MESSAGE:
        raise CheckFailed(Status.L7RSP, "the answer is not PostgreSQL's")
    return int(length) - 4


def parse_error(body: bytes) -> ServerError:
    """Read an ErrorResponse; what it lacks is empty."""
    fields = {field[:1]: field[1:] for field in body.split(b"\0")}
    state, text = (fields.get(key, b"").decode("utf-8", "replace") for key in (b"C", b"M"))
    return ServerError(state, text)
