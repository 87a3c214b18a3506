"""The packets with which a MySQL or MariaDB server opens a connection, without input or output.

(dev.mysql.com, "Connection Phase Packets"; mariadb.com, "Connecting".)  The rest of the
protocol is aiomysql's; these are needed before there is anything to log in to.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lbhealth.errors import CheckFailed
from lbhealth.model import Status

__all__ = [
    "QUIT",
    "Greeting",
    "ServerError",
    "greeting_length",
    "parse_greeting",
    "ssl_request",
]

QUIT = b"\x01\x00\x00\x00\x01"
"""COM_QUIT, the farewell of a client that is logged in."""

_MAX_GREETING = 4096
_PROTOCOL = 10
_ERROR = 0xFF
_SSL = 0x800
_UTF8MB4 = 45
_MALFORMED = "the server's greeting is not MySQL's"


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server says of itself; `plugin` is its first choice of authentication."""

    version: bytes
    capabilities: int
    plugin: bytes

    @property
    def has_tls(self) -> bool:
        """Whether the server takes an SSLRequest."""
        return bool(self.capabilities & _SSL)


@dataclass(frozen=True, slots=True)
class ServerError:
    """An ERR packet."""

    code: int
    text: bytes


def greeting_length(header: bytes) -> int:
    """Bytes of the first packet, of which `header` is the first four.

    Raises CheckFailed when that cannot be MySQL's: it is number 0 and short.
    """
    length = int.from_bytes(header[:3], "little")
    if header[3] != 0 or not 0 < length <= _MAX_GREETING:
        raise CheckFailed(Status.L7RSP, _MALFORMED)
    return length


def parse_greeting(payload: bytes) -> Greeting | ServerError:
    """The first packet: a handshake of protocol 10, or an error.

    Raises CheckFailed when it is neither.
    """
    if payload[:1] == bytes([_ERROR]) and len(payload) >= 3:
        text = payload[3:]
        if text[:1] == b"#":  # the SQL state, which servers leave out at this stage
            text = text[6:]
        return ServerError(int.from_bytes(payload[1:3], "little"), text)
    version, found, rest = payload[1:].partition(b"\0")
    # thread, salt, filler, capabilities (low), then from 4.1 on: charset, status,
    # capabilities (high), length of the salt, ten reserved bytes, the rest of the salt
    if payload[:1] != bytes([_PROTOCOL]) or not found or len(rest) < 31 or not version.isascii():
        raise CheckFailed(Status.L7RSP, _MALFORMED)
    low, high, salt = struct.unpack_from("<4x8xxHxxxHB", rest)
    plugin = rest[31 + max(13, salt - 8) :].partition(b"\0")[0]
    return Greeting(version, low | high << 16, plugin)


def ssl_request(capabilities: int) -> bytes:
    """The packet after which a client begins TLS; number 1 of the connection.

    `capabilities` are those of the login to come: MariaDB goes by what is said here.
    """
    payload = struct.pack("<IIB23x", capabilities | _SSL, 1 << 24, _UTF8MB4)
    return len(payload).to_bytes(3, "little") + b"\x01" + payload
