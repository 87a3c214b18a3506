"""Regular expressions written by people, in Perl's dialect, searched in bytes from servers.

What has no metacharacters is a plain search.  The rest goes to the `regex` package, which knows
most of Perl and takes a time limit, so that no expression holds the event loop: `TIME_LIMIT`
seconds as a rule, about 50 ms at the worst.  A translation bridges where the two dialects differ.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from lbhealth.checkers.outcome import printable
from lbhealth.checkers.perl import translate
from lbhealth.errors import CheckError, SettingError

if TYPE_CHECKING:
    import regex

__all__ = ["TIME_LIMIT", "Pattern", "compile_pattern"]

TIME_LIMIT = 0.02
"""Seconds that one search may take."""

_MAX_LENGTH = 10_000
_SMALL = 32 * 1024
"""Bytes up to which a search keeps its time limit by itself."""

_THREADS = 8
_PATIENCE = 0.05
"""Seconds to wait for a thread: on a busy machine it may take a while to begin."""

_META = frozenset(r"\^$.|?*+()[{")


class Pattern(Protocol):
    """Something that can be looked for in bytes."""

    def search(self, data: bytes) -> bool:
        """Whether it occurs.  Raises CheckError when that takes longer than TIME_LIMIT."""


class _Literal:
    __slots__ = ("_needle",)

    def __init__(self, needle: bytes) -> None:
        self._needle = needle

    def search(self, data: bytes) -> bool:
        return self._needle in data


class _Expression:
    __slots__ = ("_compiled", "_text")

    def __init__(self, text: str, compiled: regex.Pattern[bytes]) -> None:
        self._text = text
        self._compiled = compiled

    def search(self, data: bytes) -> bool:
        try:
            if len(data) <= _SMALL:
                return self._search(data)
            return _searchers().search(self._search, data)
        except TimeoutError:
            raise CheckError(
                f'the expression "{printable(self._text, 100)}" took longer than '
                f"{TIME_LIMIT * 1000:g} ms: simplify it (nested repeats?)"
            ) from None

    def _search(self, data: bytes) -> bool:
        return self._compiled.search(data, timeout=TIME_LIMIT) is not None


class _Searchers:
    """The threads that search large bodies.

    regex looks at the clock now and then only: on a megabyte it can overrun its limit by half
    a second.  It releases the interpreter lock, so the caller can stop waiting in time while
    the search ends by itself.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "lbhealth-search")
        self._free = threading.Semaphore(_THREADS)

    def search(self, search: Callable[[bytes], bool], data: bytes) -> bool:
        """Raises TimeoutError in time, CheckError when every thread is overrunning."""
        if not self._free.acquire(blocking=False):
            raise CheckError("too many slow expressions on large bodies at once: simplify them")
        future = self._threads.submit(search, data)
        future.add_done_callback(lambda _: self._free.release())
        return future.result(_PATIENCE)


@functools.cache
def _searchers() -> _Searchers:
    return _Searchers()


@functools.cache
def compile_pattern(text: str, field: str) -> Pattern:
    """A pattern for Perl's `/text/`; the text is UTF-8, or bytes by surrogateescape.

    Raises SettingError for `field`, with the offset in `text`, when it is no expression or
    uses what only Perl itself can do (`(?{ code })`).
    """
    literal = _literal(text)
    if literal is not None:
        return _Literal(literal.encode("utf-8", "surrogateescape"))
    if len(text) > _MAX_LENGTH:
        raise SettingError(
            field, f"an expression has at most {_MAX_LENGTH} characters", _MAX_LENGTH
        )
    import regex

    pieces = translate(text, field)
    source = "".join(piece for _, piece in pieces).encode("utf-8", "surrogateescape")
    try:
        return _Expression(text, regex.compile(source, regex.VERSION1))
    except regex.error as error:
        message, _, place = str(error).rpartition(" at position ")
        origin = _origin(pieces, int(place.split()[0]) if place[:1].isdigit() else 0)
        raise SettingError(field, f"not a regular expression: {message}", origin) from None
    except (RecursionError, OverflowError, MemoryError):
        raise SettingError(field, "the expression is too deeply nested", 0) from None


def _literal(text: str) -> str | None:
    """The text that `text` stands for when it is no more than that, else None."""
    plain = re.sub(r"\\([^A-Za-z0-9_])", lambda m: "" if m[1] in _META else m[1], text)
    if any(c in _META for c in plain):
        return None
    return re.sub(r"\\([^A-Za-z0-9_])", r"\1", text)


def _origin(pieces: list[tuple[int, str]], place: int) -> int:
    """The offset in the operator's text of byte `place` in the translation."""
    for origin, piece in pieces:
        place -= len(piece.encode("utf-8", "surrogateescape"))
        if place < 0:
            return origin
    return pieces[-1][0]
