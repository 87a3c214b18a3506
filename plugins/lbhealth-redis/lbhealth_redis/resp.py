"""The Redis serialization protocol, version 2: bytes in, values out, no input or output.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["ErrorReply", "Malformed", "Value", "command", "parse"]

MAX_SIZE = 64 * 1024
"""Bytes of one reply."""
MAX_ITEMS = 1000
MAX_DEPTH = 8

_LONGEST_LINE = 4096
_INTEGER = re.compile(rb"[+-]?[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error, without its `-`: a code in capitals and words."""

    text: bytes

    @property
    def code(self) -> str:
        """The first word: NOAUTH, WRONGPASS, LOADING ..."""
        return self.text.partition(b" ")[0].decode("ascii", "backslashreplace")


Value: TypeAlias = "bytes | int | ErrorReply | list[Value] | None"
"""Strings of both kinds are bytes; None is the null string and the null array."""


class Malformed(ValueError):
    """The bytes are no reply, or one beyond the limits."""


def command(*words: bytes) -> bytes:
    """A request: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def parse(data: bytes) -> tuple[Value, int] | None:
    """The first reply in `data` and where it ends; None when it is not whole yet.

    Raises Malformed.
    """
    found = _parse(data, 0, 0)
    if found is None and len(data) > MAX_SIZE:
        raise Malformed(f"a reply of more than {MAX_SIZE} bytes")
    return found


def _parse(data: bytes, start: int, depth: int) -> tuple[Value, int] | None:
    if depth > MAX_DEPTH:
        raise Malformed(f"arrays nested more than {MAX_DEPTH} deep")
    if start >= len(data):
        return None
    kind = data[start : start + 1]
    if kind not in b"+-:$*":
        raise Malformed("not a reply of Redis")
    end = data.find(b"\r\n", start, start + _LONGEST_LINE)
    if end < 0:
        if len(data) - start >= _LONGEST_LINE:
            raise Malformed("an endless line")
        return None
    line, after = data[start + 1 : end], end + 2
    if kind == b"+":
        return line, after
    if kind == b"-":
        return ErrorReply(line), after
    number = _number(line)
    if kind == b":":
        return number, after
    if number == -1:
        return None, after
    return _bulk(data, after, number) if kind == b"$" else _array(data, after, number, depth)


def _bulk(data: bytes, start: int, size: int) -> tuple[Value, int] | None:
    if not 0 <= size <= MAX_SIZE:
        raise Malformed(f"a string of {size} bytes")
    end = start + size
    if len(data) < end + 2:
        return None
    if data[end : end + 2] != b"\r\n":
        raise Malformed("a string longer than announced")
    return data[start:end], end + 2


def _array(data: bytes, start: int, count: int, depth: int) -> tuple[Value, int] | None:
    if not 0 <= count <= MAX_ITEMS:
        raise Malformed(f"an array of {count} items")
    items: list[Value] = []
    for _ in range(count):
        found = _parse(data, start, depth + 1)
        if found is None:
            return None
        item, start = found
        items.append(item)
    return items, start


def _number(line: bytes) -> int:
    if not _INTEGER.fullmatch(line):
        raise Malformed("not a number where one must be")
    return int(line)
