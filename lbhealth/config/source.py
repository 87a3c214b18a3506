"""Where a word stands in a file, and what is wrong with it.

A `Diagnostic` is a value: stable code, severity, place, message, remedy.  `render` makes the
text with the source line and a caret that people read; `as_json` the object that programs
read.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Diagnostic", "Severity", "SourceFile", "Span", "as_json", "nearest", "render"]


class Severity(enum.StrEnum):
    """ERROR: the file is not taken.  WARNING: it is, and this deserves a look."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place on one line: 1-based line and column, and a length in characters (>= 1)."""

    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class SourceFile:
    """The name of a file, as the user gave it, and its lines without line ends."""

    name: str
    lines: tuple[str, ...]

    @classmethod
    def of(cls, name: str, text: str) -> SourceFile:
        """Split `text` at line feeds only, so that line numbers agree with editors."""
        return cls(name, tuple(text.split("\n")))

    def line(self, number: int) -> str:
        """Line `number` (1-based), or the empty string beyond the end."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding in a configuration."""

    code: str
    severity: Severity
    message: str
    file: str
    span: Span
    help: str = ""
    source: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.span.line}:{self.span.column}"
        return f"{where}: {self.severity}[{self.code}]: {self.message}"


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean "x"?` for the known word that is nearest, or the empty string."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'did you mean "{match[0]}"?' if match else ""


def render(diagnostics: Sequence[Diagnostic]) -> str:
    """Return the text for people, findings in file order.

    Control characters of the file are shown as `?`, tabs as one blank, so that the caret
    stands under the word and nothing in the file can write to the terminal.
    """
    return "\n".join(_render_one(d) for d in sorted(diagnostics, key=_place))


def _place(diagnostic: Diagnostic) -> tuple[str, Span]:
    return (diagnostic.file, diagnostic.span)


def _render_one(diagnostic: Diagnostic) -> str:
    span = diagnostic.span
    number = str(span.line)
    gutter = " " * len(number)
    shown = "".join(
        " " if c == "\t" else c if c.isprintable() else "?" for c in diagnostic.source.rstrip("\r")
    )
    lines = [
        f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}",
        f"{gutter} --> {diagnostic.file}:{span.line}:{span.column}",
    ]
    if shown.strip():
        caret = "^" * max(1, min(span.length, len(shown) - span.column + 1))
        lines += [
            f"{gutter} |",
            f"{number} | {shown}",
            f"{gutter} | {' ' * (span.column - 1)}{caret}",
        ]
    if diagnostic.help:
        lines.append(f"{gutter} = help: {diagnostic.help}")
    return "\n".join(lines)


def as_json(diagnostic: Diagnostic) -> dict[str, object]:
    """Return the object that `lbhealth check --json` prints for one finding."""
    return {
        "code": diagnostic.code,
        "severity": str(diagnostic.severity),
        "message": diagnostic.message,
        "file": diagnostic.file,
        "line": diagnostic.span.line,
        "column": diagnostic.span.column,
        "help": diagnostic.help,
    }
