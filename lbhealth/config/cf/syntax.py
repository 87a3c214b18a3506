"""Lines into directives.

ldirectord: a section is a `virtual` line at column 1 and the lines after it that are
indented by four blanks or a tab; a blank line ends it.  Here a blank line, or too little
indentation, does not end a section but is warned of, because the meaning is plain.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from lbhealth.config.cf.report import BLANKS, Report, Text, shown
from lbhealth.config.source import Span

__all__ = ["Directive", "Section", "Sheet", "scan"]

HEADS = ("virtual", "virtual6")
INDENT = 4
"""Columns that make a line part of a section; a tab counts as four."""

_DIRECTIVE = re.compile(r"([^ \t\r\f\v=]*)[ \t\r\f\v]*(=?)[ \t\r\f\v]*")


class Directive(NamedTuple):
    """`key = value` with its place; `assigned` is False where the `=` is missing.

    `value` has no blanks around it; `cut` says that a `#` inside quotes ended it.
    """

    key: str
    value: str
    line: int
    key_column: int
    value_column: int
    assigned: bool = True
    cut: bool = False

    @property
    def word(self) -> Text:
        """The key and its place."""
        return Text(self.key, self.line, self.key_column)

    @property
    def text(self) -> Text:
        """The value and its place; the key's place where there is no value."""
        if not self.value:
            return Text("", self.line, self.key_column)
        return Text(self.value, self.line, self.value_column)

    @property
    def place(self) -> Span:
        """Where to point for a fault of the value: the value, else the key."""
        return self.text.span if self.value else self.word.span


@dataclass(slots=True)
class Section:
    """One `virtual` line and what belongs to it."""

    head: Directive
    body: list[Directive] = field(default_factory=list)
    gap_reported: bool = False


@dataclass(slots=True)
class Sheet:
    """A whole file: the directives at column 1, and the sections."""

    globals: list[Directive] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)


def scan(report: Report, global_keys: Collection[str], section_keys: Collection[str]) -> Sheet:
    """Split the lines of `report.source`; the keys decide how to go on after a fault."""
    scanner = _Scanner(report, global_keys, section_keys)
    for number, raw in enumerate(report.source.lines, 1):
        scanner.line(number, raw)
    return scanner.sheet


class _Scanner:
    def __init__(
        self, report: Report, global_keys: Collection[str], section_keys: Collection[str]
    ) -> None:
        self.sheet = Sheet()
        self._report = report
        self._global_keys = global_keys
        self._section_keys = section_keys
        self._section: Section | None = None
        self._blank = False
        self._stray = False
        self._ended_by: Directive | None = None
        self._crlf = False

    def line(self, number: int, raw: str) -> None:
        """Take one line."""
        line = raw.rstrip(BLANKS)
        if not self._crlf and raw.endswith("\r"):
            self._crlf = True
            self._report.warn(
                "LB112",
                Span(number, max(1, len(line))),
                "lines end in CR LF",
                "ldirectord refuses such a file at its first yes/no value; convert it to LF",
            )
        body = line.lstrip(BLANKS)
        if not body:
            self._blank = True
        elif body[0] == "#":
            pass  # ldirectord: comment lines neither end nor belong to a section
        elif len(body) == len(line):
            self._at_margin(_directive(line, number, 0))
        else:
            self._indented(line, number, len(line) - len(body))

    def _at_margin(self, found: Directive) -> None:
        if found.key in HEADS:
            self._section = Section(found)
            self._stray = False
            self._blank = False
            self.sheet.sections.append(self._section)
            return
        self.sheet.globals.append(found)
        if found.key in self._global_keys:
            self._section = None
            self._stray = False
            self._ended_by = found
        # Any other line is an error by itself; the section stays open so that it is the only one.

    def _indented(self, line: str, number: int, indent: int) -> None:
        section = self._section
        if section is None:
            self._outside(line, number, indent)
            return
        shallow = indent < INDENT and "\t" not in line[:indent]
        if (self._blank or shallow) and not section.gap_reported:
            section.gap_reported = True
            self._report.warn(
                "LB113",
                Span(number, 1, indent),
                "blank line inside a virtual section"
                if self._blank
                else "line of a virtual section is indented by less than four blanks",
                "taken as part of the section; ldirectord refuses it",
            )
        self._blank = False
        section.body.append(_directive(_without_comment(line), number, indent, line))

    def _outside(self, line: str, number: int, indent: int) -> None:
        if self._stray:  # one cause, one error
            return
        self._stray = True
        ended = self._ended_by
        key = shown(_directive(line, number, indent).key)
        if ended and self.sheet.sections:
            message = (
                f'"{key}" is indented, but the global "{ended.key}" of line {ended.line} '
                "has ended the section"
            )
            help = f'move "{ended.key}" out of the section, or indent it by four blanks'
        elif key in self._global_keys:
            message = f'global "{key}" is indented'
            help = "global directives start in column 1"
        else:
            message = f'"{key}" is indented, but there is no virtual section above it'
            help = 'start the section with a line "virtual=ADDRESS:PORT"'
        self._report.error("LB111", Span(number, indent + 1, max(1, len(key))), message, help)


def _without_comment(line: str) -> str:
    """ldirectord: in a section everything from the first `#` goes, quotes or not."""
    start = line.find("#")
    return line if start < 0 else line[:start].rstrip(BLANKS)


def _directive(line: str, number: int, indent: int, whole: str = "") -> Directive:
    match = _DIRECTIVE.match(line, indent)
    assert match is not None  # the pattern matches the empty string
    start = match.end()
    cut = False
    if len(whole) > len(line):
        cut = line.count('"') % 2 == 1 and '"' in whole[len(line) :]
    return Directive(match[1], line[start:], number, indent + 1, start + 1, bool(match[2]), cut)
