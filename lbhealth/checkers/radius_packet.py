"""RADIUS packets (RFC 2865, RFC 3579, RFC 5997): bytes in, values out, no input or output."""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "MAX_PASSWORD",
    "MAX_VALUE",
    "Attribute",
    "Code",
    "Packet",
    "PacketError",
    "decode",
    "encode_request",
    "hide_password",
    "verify_response",
]

MAX_VALUE = 253
"""Bytes in the value of one attribute (RFC 2865, 5)."""

MAX_PASSWORD = 128
"""Bytes in a hidden password (RFC 2865, 5.2)."""

_HEADER = struct.Struct("!BBH16s")  # code, identifier, length, authenticator
_LARGEST = 4096  # RFC 2865, 3
_BLOCK = 16


class Code(enum.IntEnum):
    """The packets of an authentication check."""

    ACCESS_REQUEST = 1
    ACCESS_ACCEPT = 2
    ACCESS_REJECT = 3
    ACCOUNTING_RESPONSE = 5
    ACCESS_CHALLENGE = 11
    STATUS_SERVER = 12


class Attribute(enum.IntEnum):
    """The attributes that a check sends or reads."""

    USER_NAME = 1
    USER_PASSWORD = 2
    NAS_IP_ADDRESS = 4
    REPLY_MESSAGE = 18
    NAS_IDENTIFIER = 32
    NAS_PORT_TYPE = 61
    MESSAGE_AUTHENTICATOR = 80
    NAS_IPV6_ADDRESS = 95


Attributes: TypeAlias = Iterable[tuple[int, bytes]]


class PacketError(ValueError):
    """Bytes that are no RADIUS packet, or one that is not genuine; says why."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as received; attributes in order, unknown ones too."""

    code: int
    identifier: int
    authenticator: bytes
    attributes: tuple[tuple[int, bytes], ...]

    def values(self, attribute: Attribute) -> list[bytes]:
        """The values of all attributes of one type."""
        return [value for kind, value in self.attributes if kind == attribute]


def hide_password(password: bytes, secret: bytes, authenticator: bytes) -> bytes:
    """User-Password as it travels (RFC 2865, 5.2), of at most MAX_PASSWORD bytes."""
    if len(password) > MAX_PASSWORD:
        raise ValueError(f"a password has at most {MAX_PASSWORD} bytes")
    padded = password.ljust(max(_BLOCK, -(-len(password) // _BLOCK) * _BLOCK), b"\0")
    hidden = b""
    last = authenticator
    for place in range(0, len(padded), _BLOCK):
        mask = _md5(secret + last)
        last = bytes(a ^ b for a, b in zip(padded[place : place + _BLOCK], mask, strict=True))
        hidden += last
    return hidden


def encode_request(
    code: Code, identifier: int, authenticator: bytes, attributes: Attributes, secret: bytes
) -> bytes:
    """A request that begins with its Message-Authenticator (RFC 3579, 3.2).

    There it protects the attributes behind it even from a server that reads them one by one,
    and servers patched against CVE-2024-3596 may ask for it.
    """
    signed = _attributes([(Attribute.MESSAGE_AUTHENTICATOR, bytes(16))])
    rest = _attributes(attributes)
    length = _HEADER.size + len(signed) + len(rest)
    if length > _LARGEST:
        raise ValueError(f"a packet has at most {_LARGEST} bytes")
    head = _HEADER.pack(code, identifier, length, authenticator)
    digest = _hmac_md5(secret, head + signed + rest)
    return head + signed[:2] + digest + rest


def decode(data: bytes) -> Packet:
    """The packet at the beginning of a datagram; bytes behind its length are padding.

    Raises PacketError for anything else (RFC 2865, 3: to be discarded).
    """
    if len(data) < _HEADER.size:
        raise PacketError("shorter than a RADIUS header")
    code, identifier, length, authenticator = _HEADER.unpack_from(data)
    if not _HEADER.size <= length <= _LARGEST:
        raise PacketError(f"a RADIUS length of {length} bytes")
    if length > len(data):
        raise PacketError(f"{len(data)} bytes of a RADIUS packet of {length}")
    return Packet(code, identifier, authenticator, tuple(_split(data[_HEADER.size : length])))


def verify_response(data: bytes, request_authenticator: bytes, secret: bytes) -> Packet:
    """The response in `data`, which must come from somebody who knows the secret.

    Checks the Response Authenticator (RFC 2865, 3) and, where it is there, the
    Message-Authenticator (RFC 3579, 3.2).  Raises PacketError.
    """
    packet = decode(data)
    length = int.from_bytes(data[2:4])
    head, rest = data[:4], data[_HEADER.size : length]
    wanted = _md5(head + request_authenticator + rest + secret)
    if not hmac.compare_digest(wanted, packet.authenticator):
        raise PacketError("a response with a wrong authenticator: is the secret the same?")
    digests = packet.values(Attribute.MESSAGE_AUTHENTICATOR)
    if not digests:
        return packet
    blank = _attributes(
        (kind, bytes(16) if kind == Attribute.MESSAGE_AUTHENTICATOR else value)
        for kind, value in packet.attributes
    )
    wanted = _hmac_md5(secret, head + request_authenticator + blank)
    if len(digests) > 1 or not hmac.compare_digest(wanted, digests[0]):
        raise PacketError("a response with a wrong Message-Authenticator")
    return packet


def _split(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    place = 0
    while place < len(data):
        if place + 2 > len(data):
            raise PacketError("a RADIUS attribute without a length")
        kind, length = data[place], data[place + 1]
        if length < 2 or place + length > len(data):
            raise PacketError(f"a RADIUS attribute with a bad length of {length}")
        found.append((kind, data[place + 2 : place + length]))
        place += length
    return found


def _attributes(attributes: Attributes) -> bytes:
    pieces = []
    for kind, value in attributes:
        if len(value) > MAX_VALUE:
            raise ValueError(f"an attribute has at most {MAX_VALUE} bytes")
        pieces.append(bytes((kind, len(value) + 2)) + value)
    return b"".join(pieces)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()  # the protocol knows no other


def _hmac_md5(secret: bytes, data: bytes) -> bytes:
    return hmac.new(secret, data, "md5").digest()
