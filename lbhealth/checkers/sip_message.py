"""SIP messages (RFC 3261, 7): bytes in, values out, no input or output."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from lbhealth.checkers.outcome import excerpt

__all__ = ["Message", "MessageError", "MessageReader", "parse_datagram"]

_STATUS_LINE = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2})(?: (.*))?", re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"([!%'*+.`~\w-]+) (\S+) SIP/2\.0", re.IGNORECASE)
_HEADER = re.compile(rb"([!%'*+.`~\w-]+)[ \t]*:[ \t]*(.*)", re.DOTALL)
_LINE_END = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_LENGTH = re.compile(rb"[0-9]{1,9}")

_FULL_NAMES = {
    "c": "content-type",
    "f": "from",
    "i": "call-id",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "t": "to",
    "v": "via",
}
"""RFC 3261, 7.3.3."""


class MessageError(ValueError):
    """Bytes that are no SIP message; says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.  `status` is 100..699, or None for a request; `reason` its phrase.

    Header names are in lower case and in their long form, values as UTF-8 on one line.
    """

    status: int | None
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def start_line(self) -> str:
        """`503 Service Unavailable`, or `request`."""
        return "request" if self.status is None else f"{self.status} {self.reason}".rstrip()

    def header(self, name: str) -> str:
        """The first header of that name, "" where there is none."""
        return next((value for key, value in self.headers if key == name), "")


def parse_datagram(data: bytes) -> Message:
    """The message that fills a datagram; raises MessageError.

    Without Content-Length the body reaches to the end; bytes behind its end are dropped and
    one that is too short is an error (RFC 3261, 18.3).
    """
    data = data.lstrip(b"\r\n")
    end = _HEAD_END.search(data)
    if end is None:
        raise MessageError(_no_message(data))
    _check_lines(data[: end.start()])
    status, reason, headers = _head(data[: end.start()])
    body = data[end.end() :]
    length = _content_length(headers)
    if length is not None and length > len(body):
        raise MessageError(f"{len(body)} bytes of a SIP body of {length}")
    return Message(status, reason, headers, body if length is None else body[:length])


class MessageReader:
    """Cuts a stream into messages, by Content-Length (RFC 3261, 18.3; 0 where it lacks).

    After MessageError the reader is spent.
    """

    LIMIT: ClassVar[int] = 64 * 1024
    """Bytes of one message, and of all that was not yet taken."""

    MAX_LINES: ClassVar[int] = 1000
    """Lines in the header."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Take in what arrived."""
        self._data += data

    @property
    def rest(self) -> bytes:
        """What belongs to no whole message yet."""
        return bytes(self._data)

    def next(self) -> Message | None:
        """The next whole message, or None.  Raises MessageError for what is none."""
        self._skip_empty_lines()
        end = _HEAD_END.search(self._data, max(0, self._searched - 3))
        if end is None:
            self._searched = len(self._data)
            self._check_start()
            return None
        head = bytes(self._data[: end.start()])
        _check_lines(head)
        status, reason, headers = _head(head)
        total = end.end() + (_content_length(headers) or 0)
        if total > self.LIMIT:
            raise MessageError(f"a SIP message of more than {self.LIMIT} bytes")
        if len(self._data) < total:
            return None
        body = bytes(self._data[end.end() : total])
        del self._data[:total]
        self._searched = 0
        return Message(status, reason, headers, body)

    def _skip_empty_lines(self) -> None:
        """RFC 3261, 7.5: empty lines before a message mean nothing."""
        blank = len(self._data) - len(self._data.lstrip(b"\r\n"))
        if blank:
            del self._data[:blank]
            self._searched = 0

    def _check_start(self) -> None:
        """Refuse early what can never become a message."""
        if len(self._data) > self.LIMIT:
            raise MessageError(f"a SIP header of more than {self.LIMIT} bytes")
        line = _LINE_END.search(self._data)
        if line is not None:
            _start_line(bytes(self._data[: line.start()]))


def _check_lines(head: bytes) -> None:
    if head.count(b"\n") >= MessageReader.MAX_LINES:
        raise MessageError(f"a SIP header of more than {MessageReader.MAX_LINES} lines")


def _head(head: bytes) -> tuple[int | None, str, tuple[tuple[str, str], ...]]:
    first, *rest = _LINE_END.split(head, 1)  # the start line cannot be folded
    status, reason = _start_line(first)
    headers = []
    for line in _LINE_END.split(_FOLD.sub(b" ", rest[0])) if rest else ():
        match = _HEADER.fullmatch(line)
        if match is None:
            raise MessageError(f"not a SIP header: {excerpt(line)}")
        name = match[1].decode("latin-1").lower()
        value = match[2].decode("utf-8", "replace").strip()
        headers.append((_FULL_NAMES.get(name, name), value))
    return status, reason, tuple(headers)


def _start_line(line: bytes) -> tuple[int | None, str]:
    if match := _STATUS_LINE.fullmatch(line):
        return int(match[1]), (match[2] or b"").decode("utf-8", "replace").strip()
    if match := _REQUEST_LINE.fullmatch(line):
        return None, ""
    raise MessageError(_no_message(line))


def _no_message(data: bytes) -> str:
    return f"not a SIP message: {excerpt(data)}"


def _content_length(headers: tuple[tuple[str, str], ...]) -> int | None:
    """The length that all Content-Length headers agree on; None where there are none."""
    values = {value for name, value in headers if name == "content-length"}
    if not values:
        return None
    numbers = {int(v) for v in values if _LENGTH.fullmatch(v.encode())}
    if len(values) != 1 or not numbers:
        raise MessageError("a bad Content-Length")
    return numbers.pop()
