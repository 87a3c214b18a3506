"""Generic netlink framing without I/O: headers, attributes, acknowledgements, errors.

Bytes in, values out.  Numbers are in the CPU's byte order unless said otherwise
(include/uapi/linux/netlink.h, include/uapi/linux/genetlink.h).  Whatever bytes come in,
the only exception that leaves this module is `NetlinkFormatError`.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from lbhealth.errors import DriverError

__all__ = [
    "Attributes",
    "Message",
    "NetlinkFormatError",
    "Status",
    "attribute",
    "attributes",
    "barrier",
    "generic",
    "integer",
    "messages",
    "request",
    "status",
    "text",
]

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

NLM_F_REQUEST: Final = 0x001
NLM_F_MULTI: Final = 0x002
NLM_F_ACK: Final = 0x004
NLM_F_DUMP: Final = 0x300
NLM_F_CAPPED: Final = 0x100
"""On an error: the refused request is not repeated after its header."""
NLM_F_ACK_TLVS: Final = 0x200
"""On an error: attributes with the kernel's own words follow."""

NLMSGERR_ATTR_MSG: Final = 1

NLA_TYPE_MASK: Final = 0x3FFF
"""The two upper bits of an attribute's type are flags, which IPVS sets or leaves at will."""

Attributes = Mapping[int, bytes]
"""Attribute type to payload; of repeated attributes the last one, as the kernel does."""

_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=IHHIIBBH")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_COMMAND_HEADER = 4


class NetlinkFormatError(DriverError, ValueError):
    """Bytes that are no netlink message, or a message that lacks what it must have."""


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message; `payload` is what follows the 16-byte header."""

    kind: int
    flags: int
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """An acknowledgement (`code` 0) or a refusal (errno), with the kernel's words if any."""

    code: int
    text: str = ""


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute: length (u16, without padding), type (u16), payload, padding to 4 bytes."""
    size = len(payload)
    return _ATTRIBUTE.pack(size + 4, kind) + payload + _PADDING[size & 3]


def request(family: int, command: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """A generic netlink request: nlmsghdr, genlmsghdr (version 1), attributes."""
    header = _GENERIC.pack(
        _GENERIC.size + len(payload), family, NLM_F_REQUEST | flags, sequence, 0, command, 1, 0
    )
    return header + payload


def barrier(sequence: int) -> bytes:
    """A no-op whose acknowledgement says that all requests before it are done.

    The kernel handles the messages of one send in order and answers a refused one even
    without NLM_F_ACK (net/netlink/af_netlink.c, netlink_rcv_skb): one acknowledgement for a
    hundred requests, and none can be waited for in vain.
    """
    return _HEADER.pack(_HEADER.size, NLMSG_NOOP, NLM_F_REQUEST | NLM_F_ACK, sequence, 0)


def messages(data: bytes) -> Iterator[Message]:
    """Split one datagram into its messages."""
    offset, end = 0, len(data)
    while end - offset >= _HEADER.size:
        size, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if size < _HEADER.size or offset + size > end:
            raise NetlinkFormatError(f"netlink message of {size} bytes, {end - offset} are there")
        yield Message(kind, flags, sequence, data[offset + _HEADER.size : offset + size])
        offset += (size + 3) & ~3
    if offset < end:
        raise NetlinkFormatError(f"{end - offset} stray bytes after the last netlink message")


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Read attributes from `offset` to the end of `data`; nests stay packed."""
    found: dict[int, bytes] = {}
    end = len(data)
    while end - offset >= 4:
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4 or offset + size > end:
            raise NetlinkFormatError(f"netlink attribute of {size} bytes, {end - offset} are there")
        found[kind & NLA_TYPE_MASK] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def generic(message: Message) -> dict[int, bytes]:
    """The attributes of a generic netlink message."""
    if len(message.payload) < _COMMAND_HEADER:
        raise NetlinkFormatError("generic netlink message without a command")
    return attributes(message.payload, _COMMAND_HEADER)


def status(message: Message) -> Status:
    """Read NLMSG_ERROR, which is also the acknowledgement, or NLMSG_DONE.

    Both begin with an s32, 0 or minus an errno; an error goes on with the header of the
    request, the request itself unless capped, and extended-acknowledgement attributes.
    """
    payload = message.payload
    if len(payload) < _ERROR.size:
        if message.kind == NLMSG_DONE:  # kernels before 4.11 send it bare
            return Status(0)
        raise NetlinkFormatError("netlink error without a number")
    code = -_ERROR.unpack_from(payload)[0]
    if code < 0:
        raise NetlinkFormatError(f"netlink error with the number {code}")
    if message.kind != NLMSG_ERROR or not message.flags & NLM_F_ACK_TLVS:
        return Status(code)
    offset = _ERROR.size + _HEADER.size
    if not message.flags & NLM_F_CAPPED and len(payload) >= offset:
        # int at the front, then the request whole: its own length says where it ends
        offset = _ERROR.size + ((_HEADER.unpack_from(payload, _ERROR.size)[0] + 3) & ~3)
    words = attributes(payload, offset).get(NLMSGERR_ATTR_MSG)
    return Status(code, text(words) if words is not None else "")


def integer(
    attrs: Attributes,
    kind: int,
    size: int,
    default: int | None = None,
    order: Literal["little", "big"] = sys.byteorder,
) -> int:
    """An unsigned integer attribute of exactly `size` bytes; without a default it must be there."""
    data = attrs.get(kind)
    if data is None:
        if default is None:
            raise NetlinkFormatError(f"netlink attribute {kind} is missing")
        return default
    if len(data) != size:
        raise NetlinkFormatError(f"netlink attribute {kind} has {len(data)} bytes, not {size}")
    return int.from_bytes(data, order)


def text(data: bytes) -> str:
    """A string attribute: up to its NUL, bytes that are no UTF-8 escaped."""
    return data.partition(b"\0")[0].decode("utf-8", "backslashreplace")
