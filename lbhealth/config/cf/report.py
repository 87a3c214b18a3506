"""Collects the findings of one file: places, source lines, masked secrets, no doubles."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from lbhealth.config.source import Diagnostic, Severity, SourceFile, Span, nearest

__all__ = ["BLANKS", "SECRETS", "Report", "Text", "shown"]

BLANKS = " \t\r\f\v"
"""What Perl's `\\s` matches inside a line; Python's also takes no-break spaces."""

SECRETS = frozenset({"passwd", "secret"})
"""Directives whose value no diagnostic may show."""

_SECRET_HINT = re.compile(r"pass|pwd|secret", re.IGNORECASE)
_KEY = re.compile(r"[ \t\r\f\v]*([A-Za-z0-9_-]*)")
_MAX_WORD = 60
_MAX_SUGGESTIONS = 500


class Text(NamedTuple):
    """A piece of a file and where it starts (1-based)."""

    value: str
    line: int
    column: int

    @property
    def span(self) -> Span:
        """The place of the whole piece."""
        return Span(self.line, self.column, max(1, len(self.value)))

    def part(self, start: int, end: int | None = None) -> Text:
        """The piece from offset `start` to `end`."""
        return Text(self.value[start:end], self.line, self.column + start)

    def untabbed(self) -> Text:
        """ldirectord: a tab in a section becomes four blanks before anything else happens."""
        if "\t" not in self.value:
            return self
        return self._replace(value=self.value.replace("\t", "    "))


def shown(word: str) -> str:
    """`word` as a message may show it: printable, at most 60 characters."""
    text = "".join(c if c.isprintable() else "?" for c in word[: _MAX_WORD + 1])
    return text if len(text) <= _MAX_WORD else text[: _MAX_WORD - 1] + "…"


class Report:
    """The findings on one file, in the order in which they were made."""

    def __init__(self, source: SourceFile, known: Iterable[str]) -> None:
        self.source = source
        self.diagnostics: list[Diagnostic] = []
        self._known = frozenset(known)
        self._seen: set[tuple[str, Span, str]] = set()
        self._suggestions: dict[tuple[str, int], str] = {}

    def error(self, code: str, place: Text | Span, message: str, help: str = "") -> None:
        """Add what keeps the file from being taken."""
        self._add(code, Severity.ERROR, place, message, help)

    def warn(self, code: str, place: Text | Span, message: str, help: str = "") -> None:
        """Add what deserves a look."""
        self._add(code, Severity.WARNING, place, message, help)

    def suggest(self, word: str, known: Iterable[str]) -> str:
        """`did you mean ...?` or nothing; limited, because the comparison is slow."""
        choices = tuple(known)
        key = (word, hash(choices))
        if key not in self._suggestions:
            if len(word) > _MAX_WORD or len(self._suggestions) >= _MAX_SUGGESTIONS:
                return ""
            self._suggestions[key] = nearest(word.lower(), choices)
        return self._suggestions[key]

    def _add(
        self, code: str, severity: Severity, place: Text | Span, message: str, help: str
    ) -> None:
        span = place.span if isinstance(place, Text) else place
        key = (code, span, message)
        if key in self._seen:
            return
        self._seen.add(key)
        line = self.source.line(span.line)
        # A value whose tabs were replaced is longer than what stands in the file.
        column = max(1, min(span.column, len(line)))
        span = Span(span.line, column, max(1, min(span.length, len(line) - column + 1)))
        source = self._masked(line)
        self.diagnostics.append(
            Diagnostic(code, severity, message, self.source.name, span, help, source)
        )

    def _masked(self, line: str) -> str:
        """`line` with asterisks for every character that may belong to a secret."""
        match = _KEY.match(line)
        assert match is not None  # the pattern matches the empty string
        key = match[1]
        if key in SECRETS:
            start = match.end()
        elif key in self._known:
            return line
        elif hint := _SECRET_HINT.search(line):
            # A misspelt directive may still carry the password that was meant for it.
            start = max(hint.end(), match.end())
        elif nearest(key.lower()[:_MAX_WORD], SECRETS):
            start = match.end()
        else:
            return line
        head, rest = line[:start], line[start:]
        value = rest.lstrip(BLANKS + "=")
        return head + rest[: len(rest) - len(value)] + "*" * len(value)
