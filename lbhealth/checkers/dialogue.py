"""A send/expect dialogue without input or output: bytes in, actions out.

A protocol is a *script*: a generator that yields its steps in order and returns what an
operator reads when the server is good::

    def script() -> Script:
        (greeting,) = yield Expect("the greeting")
        if not greeting.startswith(b"200"):
            raise CheckFailed(Status.L7STS, excerpt(greeting))
        yield Quit(b"QUIT\\r\\n")
        return "ready"

`Dialogue` walks through it and `lbhealth.checkers.stream.converse` does so on a connection.
(The idea is query_response of Prometheus's blackbox_exporter.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias

from lbhealth.errors import CheckFailed
from lbhealth.model import Status

__all__ = [
    "MAX_BYTES",
    "MAX_LINES",
    "Action",
    "Answer",
    "Dialogue",
    "Expect",
    "Heard",
    "LineBuffer",
    "Lines",
    "Quit",
    "Script",
    "Send",
    "StartTls",
]

MAX_BYTES = 64 * 1024
"""Bytes that a server may send in one check."""

MAX_LINES = 1000
"""Lines that a server may send in one check."""


def _any_line(line: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Expect:
    """Wait for lines up to the first that is `last`; the script gets all of them, in order.

    `what` says in a failure what the server owes ("the greeting").  `last` may raise
    CheckFailed for a line that settles the matter at once.
    """

    what: str
    last: Callable[[bytes], bool] = _any_line


@dataclass(frozen=True, slots=True)
class Send:
    """Send `data`; `shown`, if given, stands for it in the trace."""

    data: bytes
    shown: bytes | None = None


@dataclass(frozen=True, slots=True)
class StartTls:
    """Begin TLS on the connection; whatever came in before it is refused."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Take leave with `data`; the answer is waited for briefly and changes nothing."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """A line came in; for the trace."""

    line: bytes


Step: TypeAlias = Expect | Send | StartTls | Quit
Action: TypeAlias = Send | StartTls | Quit | Heard

Script: TypeAlias = Generator[Step, tuple[bytes, ...], str]
Answer: TypeAlias = Generator[Step, tuple[bytes, ...], bytes]
Lines: TypeAlias = Generator[Step, tuple[bytes, ...], tuple[bytes, ...]]
"""`Answer` and `Lines` are parts of a script that return an answer of one or several lines."""


class LineBuffer:
    """What a server sent and nobody has read yet, within limits.

    A line ends with LF, and a CR before it belongs to the end.
    """

    __slots__ = ("_data", "_lines", "_searched", "_total")

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0
        self._total = 0
        self._lines = 0

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Take in what arrived."""
        self._data += data
        self._total += len(data)

    def line(self, *, keep_end: bool = False) -> bytes | None:
        """The next line, without its end unless asked for, or None when it is not whole.

        Raises CheckFailed beyond MAX_BYTES or MAX_LINES.
        """
        end = self._data.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._data)
            self.check()
            return None
        self._lines += 1
        if self._lines > MAX_LINES:
            raise CheckFailed(Status.L7RSP, f"the server sent more than {MAX_LINES} lines")
        line = self._cut(end + 1)
        return line if keep_end else line[:-1].removesuffix(b"\r")

    def until(self, end: bytes) -> bytes | None:
        """Everything up to and with the first `end`, or None when it is not there.

        Raises CheckFailed beyond MAX_BYTES.
        """
        place = self._data.find(end)
        if place < 0:
            self.check()
            return None
        return self._cut(place + len(end))

    def exactly(self, size: int, *, keep: bool = False) -> bytes | None:
        """The next `size` bytes, or None when they are not there; with `keep` they stay.

        Raises CheckFailed beyond MAX_BYTES.
        """
        if size > MAX_BYTES:
            raise CheckFailed(Status.L7RSP, f"the server announces {size} bytes at once")
        if len(self._data) >= size:
            return bytes(self._data[:size]) if keep else self._cut(size)
        if self._total > MAX_BYTES:
            raise CheckFailed(Status.L7RSP, f"the server sent more than {MAX_BYTES} bytes")
        return None

    def put_back(self, data: bytes) -> None:
        """Let the next read begin with `data`, which was read before."""
        self._data[:0] = data
        self._searched = 0

    def take(self) -> bytes:
        """Everything, lines or not.  Raises CheckFailed beyond MAX_BYTES."""
        self.check()
        return self._cut(len(self._data))

    def check(self) -> None:
        """Raises CheckFailed when the server has sent too much."""
        if self._total <= MAX_BYTES:
            return
        if b"\n" not in self._data:
            raise CheckFailed(Status.L7RSP, "the server sent an endless line")
        raise CheckFailed(Status.L7RSP, f"the server sent more than {MAX_BYTES} bytes")

    def _cut(self, size: int) -> bytes:
        data = bytes(self._data[:size])
        del self._data[:size]
        self._searched = 0
        return data


class Dialogue:
    """One walk through a script.

    `start` and `feed` return what is to be done now, in order; `result` is the script's word
    once it has ended.  All of them raise CheckFailed as soon as the server is found bad.
    """

    def __init__(self, script: Script) -> None:
        self.result: str | None = None
        self._script = script
        self._buffer = LineBuffer()
        self._expect: Expect | None = None
        self._lines: list[bytes] = []

    def start(self) -> list[Action]:
        """The actions before the server has said anything."""
        actions: list[Action] = []
        self._advance((), actions)
        return actions

    def feed(self, data: bytes) -> list[Action]:
        """The actions that follow from what arrived."""
        actions: list[Action] = []
        self._buffer.feed(data)
        while self._expect is not None and (line := self._buffer.line()) is not None:
            actions.append(Heard(line))
            self._lines.append(line)
            if self._expect.last(line):
                lines, self._lines = tuple(self._lines), []
                self._advance(lines, actions)
        return actions

    def eof(self) -> CheckFailed:
        """The verdict on a server that hangs up now."""
        what = self._expect.what if self._expect is not None else "the end"
        return CheckFailed(Status.L7RSP, f"the server closed the connection instead of {what}")

    def _advance(self, lines: tuple[bytes, ...], actions: list[Action]) -> None:
        """Take steps up to the next that waits for the server."""
        self._expect = None
        try:
            step = self._script.send(lines) if lines else next(self._script)
            while not isinstance(step, Expect):
                actions.append(step)
                if isinstance(step, StartTls) and len(self._buffer):
                    # A man in the middle could have put it there (CVE-2011-0411).
                    raise CheckFailed(
                        Status.L7RSP, "the server sent data between its consent and TLS"
                    )
                step = next(self._script)
        except StopIteration as stop:
            self.result = stop.value
        else:
            self._expect = step
