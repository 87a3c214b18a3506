"""The two messages of grpc.health.v1 and their framing: bytes in, values out.

Protocol Buffers encoding (protobuf.dev/programming-guides/encoding) of so little that no
compiler is needed; framing as in gRPC over HTTP/2, "Length-Prefixed-Message".
"""

from __future__ import annotations

__all__ = ["Malformed", "request", "serving_status"]

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_STATUS_FIELD = 1


class Malformed(ValueError):
    """The bytes are no HealthCheckResponse."""


def request(service: str) -> bytes:
    """A framed HealthCheckRequest: field 1 is the service, left out when empty."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4) + message


def serving_status(data: bytes) -> int:
    """The status in a framed HealthCheckResponse; fields not known are skipped.

    Raises Malformed.
    """
    if len(data) < 5 or len(data) != 5 + int.from_bytes(data[1:5]):
        raise Malformed("the message is not whole")
    if data[0] != 0:
        raise Malformed("the message is compressed, which was not offered")
    status, place = 0, 5
    while place < len(data):
        tag, place = _read_varint(data, place)
        kind, number = tag & 7, tag >> 3
        if kind == _VARINT:
            value, place = _read_varint(data, place)
            if number == _STATUS_FIELD:
                status = value
        elif kind in (_I64, _I32):
            place += 8 if kind == _I64 else 4
        elif kind == _LEN:
            size, place = _read_varint(data, place)
            place += size
        else:
            raise Malformed("the message is not of Protocol Buffers")
    if place != len(data):
        raise Malformed("the message is cut short")
    return status


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise Malformed("the message is cut short")
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
    raise Malformed("a number of more than ten bytes")
