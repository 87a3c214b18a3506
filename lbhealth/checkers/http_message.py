"""The HTTP/1 codec: bytes of one response in, one `Response` out, no I/O.

Every way of reading HTTP here ends in the same `Response`, so that plain and TLS checks cannot
come to different verdicts.  The parser is llhttp (httptools), with three leniencies that
aiohttp's client has too: odd header characters, a bare LF at the end of a line (RFC 9112, 2.2) and
blanks after a chunk size.
"""

from __future__ import annotations

import contextlib
from typing import ClassVar, NamedTuple

import httptools

from lbhealth.checkers.outcome import excerpt
from lbhealth.errors import CheckFailed
from lbhealth.model import Status

__all__ = ["Response", "ResponseReader"]


class Response(NamedTuple):
    """One final response.

    `head` is the raw header block (in whole pieces as they arrived: interim responses may
    precede it, body bytes follow it).  Names and the reason are parsed out of it only when
    somebody asks, since a server that is well needs its status and body alone.  `truncated`
    says that the body went on beyond the reader's limit.
    """

    status: int
    head: bytes
    body: bytes
    truncated: bool = False

    @property
    def reason(self) -> str:
        """The reason phrase, "" where the server sent none."""
        return _Head.of(self.head).reason

    @property
    def status_line(self) -> str:
        """`503 Service Unavailable`."""
        return f"{self.status} {self.reason}".rstrip()

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Header fields in order; names in lower case, values as Latin-1."""
        return tuple(_Head.of(self.head).fields)

    def header(self, name: str) -> str | None:
        """The first field of that name (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)


class _Head:
    """Callbacks that collect the header block of the final response."""

    def __init__(self) -> None:
        self.reason = ""
        self.fields: list[tuple[str, str]] = []
        self.complete = False
        self.parser = _new_parser(self)

    @classmethod
    def of(cls, data: bytes) -> _Head:
        head = cls()
        # Bad bytes behind the header block: the reader has judged them already.
        with contextlib.suppress(httptools.HttpParserError):
            head.parser.feed_data(data)
        del head.parser
        return head

    def on_status(self, reason: bytes) -> None:
        if not self.complete:
            self.reason = reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:  # trailers are no headers
            self.fields.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if _is_interim(self.parser.get_status_code()):
            self.fields.clear()
            self.reason = ""
        else:
            self.complete = True


class ResponseReader:
    """Reads one response to a request of `method`, keeping up to `limit` bytes of its body.

    Only callbacks that every response needs are defined: each costs a call into Python.
    After CheckFailed the reader is spent.
    """

    HEAD_LIMIT: ClassVar[int] = 64 * 1024
    """Bytes within which the header block, interim responses included, must end."""

    BODY_LIMIT: ClassVar[int] = 64 * 1024
    """Bytes of body kept by default; where the body is longer, reading stops there."""

    BODILESS: ClassVar[frozenset[int]] = frozenset({101, 204, 304})
    """Statuses without a body whatever the header says (RFC 9110, 15; RFC 9112, 6.3)."""

    __slots__ = (
        "_answers_head",
        "_body",
        "_complete",
        "_head",
        "_headed",
        "_limit",
        "_parser",
        "_size",
        "_status",
    )

    def __init__(self, method: str = "GET", limit: int = BODY_LIMIT) -> None:
        self._answers_head = method == "HEAD"
        self._limit = limit
        self._head: list[bytes] = []
        self._body: list[bytes] = []
        self._size = 0
        self._status = 0
        self._headed = False
        self._complete = False
        self._parser: httptools.HttpResponseParser | None = _new_parser(self)

    def feed(self, data: bytes | memoryview) -> Response | None:
        """Take bytes as they arrive; the response as soon as it is whole, else None.

        Raises CheckFailed (L7RSP) for anything that is not HTTP.
        """
        if self._headed:
            self._parse(data)
            return self._response() if self._complete else None
        room = self.HEAD_LIMIT - self._size
        rest: bytes | memoryview = b""
        if len(data) > room:
            data, rest = data[:room], data[room:]
        self._head.append(bytes(data))  # the caller may reuse its buffer
        self._size += len(data)  # counts the header block until that is whole, then the body
        self._parse(data)
        if self._complete:
            return self._response()
        if rest:
            if not self._headed:
                raise CheckFailed(Status.L7RSP, f"header block over {self.HEAD_LIMIT} bytes")
            return self.feed(rest)
        return None

    def eof(self) -> Response:
        """The server closed the connection: the response, or CheckFailed (L7RSP)."""
        if self._complete:
            return self._response()
        if not self._headed:
            raise CheckFailed(Status.L7RSP, self._missing_head())
        length = _declared_length(Response(self._status, b"".join(self._head), b""))
        if length is not None:
            have = f"after {self._size} of {length} bytes" if length else "before its last chunk"
            raise CheckFailed(Status.L7RSP, f"{self._status}, but the body ended {have}")
        return self._response()

    def _parse(self, data: bytes | memoryview) -> None:
        parser = self._parser
        if parser is None:
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._complete = self._headed = True  # 101: what follows is not HTTP
        except httptools.HttpParserError as error:
            if not self._complete:  # bytes behind a whole response harm nobody
                self._parser = None
                raise CheckFailed(Status.L7RSP, self._bad(str(error))) from None

    def _response(self) -> Response:
        self._parser = None  # it holds this reader's methods: without the cycle both die now
        head = self._head[0] if len(self._head) == 1 else b"".join(self._head)
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        limit = self._limit
        if len(body) > limit:
            return Response(self._status, head, body[:limit], True)
        return Response(self._status, head, body)

    def _bad(self, reason: str) -> str:
        if self._headed:
            return f"{self._status}, but the body is malformed: {reason}"
        start = b"".join(self._head)
        if start[:5].upper() == b"HTTP/":
            return f"malformed HTTP response: {reason}"
        return f"not an HTTP response: {excerpt(start)}"

    def _missing_head(self) -> str:
        start = b"".join(self._head)
        if not start:
            return "the server closed the connection without a response"
        return f"the server closed the connection inside the header: {excerpt(start)}"

    # -- called by the parser

    def on_headers_complete(self) -> None:
        """Decide what follows the header block."""
        if self._headed:
            return
        assert self._parser is not None
        status = self._parser.get_status_code()
        if _is_interim(status):
            return
        self._status = status
        self._headed = True
        self._size = 0
        if self._answers_head or status in self.BODILESS:
            self._complete = True

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        if not self._complete:
            self._body.append(data)
            self._size += len(data)
            if self._size > self._limit:
                self._complete = True

    def on_message_complete(self) -> None:
        """Note the end of the response, unless an interim one ended."""
        if self._headed:
            self._complete = True


def _new_parser(callbacks: object) -> httptools.HttpResponseParser:
    parser = httptools.HttpResponseParser(callbacks)
    parser.set_dangerous_leniencies(
        lenient_headers=True,
        lenient_optional_cr_before_lf=True,
        lenient_spaces_after_chunk_size=True,
    )
    return parser


def _is_interim(status: int) -> bool:
    """1xx, except 101, behind which there is no other response (RFC 9110, 15.2)."""
    return 100 <= status < 200 and status != 101


def _declared_length(response: Response) -> int | None:
    """Bytes of body that the header promises; 0 for chunked; None where it ends at the close.

    RFC 9112, 6.3: Transfer-Encoding counts before Content-Length, and a response whose last
    coding is not chunked ends at the close.
    """
    codings = [v for k, v in response.headers if k == "transfer-encoding"]
    if codings:
        return 0 if codings[-1].rpartition(",")[2].strip().lower() == "chunked" else None
    length = response.header("content-length")
    return None if length is None else int(length)
