"""Where the keys and values of a TOML document stand.

`tomllib` says what a document means but not where; this index says only where.  It works on
text that `tomllib` has accepted, so it has to find things, never to validate them.  A *path*
names a value from the top of the document: `("virtual", 0, "real", 2, "weight")`.

Knows TOML 1.0; knows nothing of lbhealth's keys.
"""

from __future__ import annotations

import bisect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from lbhealth.config.source import Span

__all__ = ["Extent", "Path", "SpanIndex"]

Path: TypeAlias = tuple[str | int, ...]
"""Keys and array positions from the top of a document to a value."""

_BLANKS = re.compile(r"[ \t]*")
_BETWEEN_STATEMENTS = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BETWEEN_ELEMENTS = re.compile(r"(?:[ \t\n,]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'  # up to two quotes may stand before the closing three
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ATOM = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:[^,\]}\s#]*"  # a date and a time may be parted by a blank
    r"|[^,\]}\s#]+"
)


class Extent(NamedTuple):
    """A stretch of the text: 0-based offsets, the end not included."""

    start: int
    end: int


@dataclass(slots=True)
class _Container:
    """An array or inline table that is being read; `count` is the number of elements so far."""

    path: Path
    start: int
    is_array: bool
    count: int = 0

    @property
    def close(self) -> str:
        return "]" if self.is_array else "}"


class SpanIndex:
    """The places of all keys and values of one valid document.

    `text` has line feeds as its only line ends.  `values` holds each value, and for a table
    its header (`[a]`, `[[a]]`) or braces; `keys` the last part of each key, as written.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.keys: dict[Path, Extent] = {}
        self.values: dict[Path, Extent] = {}
        self._elements: dict[Path, int] = {}  # arrays of tables: how many so far
        self._line_starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self._read_document()

    # ----------------------------------------------------------------- asking

    def key(self, path: Path) -> Span:
        """The key of `path`; its value where there is no key (array elements)."""
        extent = self.keys.get(path)
        return self.span(extent) if extent else self.value(path)

    def value(self, path: Path) -> Span:
        """The value of `path`, or of what is nearest around it."""
        while path and path not in self.values:
            path = path[:-1]
        return self.span(self.values.get(path, Extent(0, 0)))

    def inside(self, path: Path, offset: int, length: int = 1) -> Span:
        """`length` characters of a text value, from `offset`.

        The whole value where offsets in the text and in the file may differ: texts of
        several lines or with escapes.
        """
        extent = self.values.get(path)
        if extent is None:
            return self.value(path)
        raw = self.text[extent.start : extent.end]
        plain = raw[:1] in ("'", '"') and raw[:3] not in ("'''", '"""')
        if not plain or "\\" in raw or offset + 2 > len(raw):
            return self.value(path)
        start = extent.start + 1 + offset
        return self.span(Extent(start, min(start + max(1, length), extent.end)))

    def span(self, extent: Extent) -> Span:
        """Line and column of a stretch; one that runs over lines is cut at the first."""
        line, column = self.position(extent.start)
        end_of_line = self.text.find("\n", extent.start)
        end = extent.end if end_of_line < 0 else min(extent.end, end_of_line)
        return Span(line, column, max(1, end - extent.start))

    def position(self, offset: int) -> tuple[int, int]:
        """1-based line and column of an offset."""
        line = bisect.bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    # ----------------------------------------------------------------- reading

    def _read_document(self) -> None:
        at = self._skip(_BETWEEN_STATEMENTS, 0)
        table: Path = ()
        while at < len(self.text):
            if self.text[at] == "[":
                table, at = self._read_header(at)
            else:
                path, at = self._read_key(at, table)
                at = self._read_value(at, path)
            at = self._skip(_BETWEEN_STATEMENTS, at)

    def _read_header(self, start: int) -> tuple[Path, int]:
        """Read `[a.b]` or `[[a.b]]`; return the path of the table that begins."""
        brackets = 2 if self.text.startswith("[[", start) else 1
        path: Path = ()
        at = start + brackets
        for part, extent in self._key_parts(at):
            if path:
                self.values.setdefault(path, Extent(start, at))  # `[a.b]` alone makes a too
            if path in self._elements:  # `[a.b]` after `[[a]]` means the latest element of a
                path = (*path, self._elements[path] - 1)
            path = (*path, part)
            self.keys.setdefault(path, extent)
            at = extent.end
        end = self._skip(_BLANKS, at) + brackets
        if brackets == 2:
            self.values.setdefault(path, Extent(start, end))
            number = self._elements.get(path, 0)
            self._elements[path] = number + 1
            self.keys[(*path, number)] = extent
            path = (*path, number)
        self.values[path] = Extent(start, end)
        return path, end

    def _read_key(self, at: int, table: Path) -> tuple[Path, int]:
        """Read `a.b =`; return the path and the offset of the value."""
        path = table
        start = at
        for part, extent in self._key_parts(at):
            path = (*path, part)
            self.keys.setdefault(path, extent)
            self.values.setdefault(path, Extent(start, extent.end))  # tables made by dots
            at = extent.end
        equals = self._skip(_BLANKS, at)
        return path, self._skip(_BLANKS, equals + 1)

    def _key_parts(self, at: int) -> Iterator[tuple[str, Extent]]:
        """Yield the parts of a dotted key with their places."""
        while True:
            start = self._skip(_BLANKS, at)
            quoted = _STRING.match(self.text, start)
            found = quoted or _BARE_KEY.match(self.text, start)
            assert found is not None, "tomllib accepted this key"
            word = found.group()
            yield tomllib.loads(f"k={word}")["k"] if quoted else word, Extent(start, found.end())
            at = self._skip(_BLANKS, found.end())
            if self.text[at] != ".":
                return
            at += 1

    def _read_value(self, at: int, path: Path) -> int:
        """Record the value at `at` with everything in it; return the offset behind it."""
        inside: list[_Container] = []
        while True:
            if self.text[at] in "[{":
                inside.append(_Container(path, at, self.text[at] == "["))
                at += 1
            else:
                found = _STRING.match(self.text, at) or _ATOM.match(self.text, at)
                assert found is not None, "tomllib accepted this value"
                self.values[path] = Extent(at, found.end())
                at = found.end()
            at = self._close(inside, at)
            if not inside:
                return at
            path, at = self._next_element(inside[-1], at)

    def _close(self, inside: list[_Container], at: int) -> int:
        """Leave the containers that end here; stop at the next element."""
        while inside:
            at = self._skip(_BETWEEN_ELEMENTS, at)
            if self.text[at] != inside[-1].close:
                break
            at += 1
            done = inside.pop()
            self.values[done.path] = Extent(done.start, at)
        return at

    def _next_element(self, container: _Container, at: int) -> tuple[Path, int]:
        if not container.is_array:
            return self._read_key(at, container.path)
        container.count += 1
        return (*container.path, container.count - 1), at

    def _skip(self, pattern: re.Pattern[str], at: int) -> int:
        found = pattern.match(self.text, at)
        assert found is not None, "these patterns match the empty text too"
        return found.end()
