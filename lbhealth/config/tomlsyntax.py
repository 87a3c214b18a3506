"""Text to a document by `tomllib`; its one syntax error, in words and at its place."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from lbhealth.config.source import Diagnostic, Severity, SourceFile, Span
from lbhealth.config.tomlfindings import mask_unparsed

__all__ = ["read_document", "too_deep"]

_CODE = "LB301"
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_NOT_TEXT = re.compile("[\ud800-\udfff]")
_LONG_NUMBER = re.compile(r"[0-9_]{4300,}")

_WORDS = (
    ("Invalid statement", 'neither "key = value" nor a [table]'),
    ("Invalid value", 'a value is expected here; text needs quotes: "text"'),
    ("Expected newline or end of document after a statement", "unexpected text after the value"),
    ("Expected '=' after a key in a key/value pair", "a key is followed by = and a value"),
    ("Cannot overwrite a value", "the key is given twice"),
    ("Cannot mutate immutable namespace", "the table was written in braces and is complete"),
    ("Unclosed array", "the list is not closed by ], or a comma is missing"),
    ("Unclosed inline table", "the table is not closed by }, or a comma is missing"),
    ("Illegal character '\\n'", "the text is not closed by quotes"),
    ("Unterminated string", "the text is not closed by quotes"),
    ("Unescaped '\\' in a string", "a backslash is written twice in double quotes"),
    ("Invalid initial character for a key part", "a key is expected here"),
    ("Duplicate inline table key", "the key is given twice:"),
)


def read_document(text: str, name: str) -> dict[str, Any] | Diagnostic:
    """The document, or what is wrong with its syntax; RecursionError for very deep nesting."""
    if found := _NOT_TEXT.search(text):
        return _diagnostic(text, name, "the file is not UTF-8", _span_at(text, found.start()))
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _syntax_error(str(error), text, name)
    except ValueError:  # Python refuses to read numbers of thousands of digits
        found = _LONG_NUMBER.search(text)
        span = _span_at(text, found.start() if found else 0)
        return _diagnostic(text, name, "the number is too long", span)


def too_deep(text: str, name: str) -> Diagnostic:
    """The finding for a document that is nested deeper than can be read."""
    deepest = max(re.finditer(r"[\[{][\[{ \t\n]*", text), key=_length, default=None)
    span = _span_at(text, deepest.start() if deepest else 0)
    return _diagnostic(text, name, "lists and tables are nested too deeply", span)


def _length(found: re.Match[str]) -> int:
    return found.end() - found.start()


def _syntax_error(message: str, text: str, name: str) -> Diagnostic:
    place = _PLACE.search(message)
    message = message[: place.start()] if place else message
    if place and place[1]:
        span = Span(int(place[1]), int(place[2]))
    else:
        span = _span_at(text, max(0, len(text.rstrip()) - 1))
    line = SourceFile.of(name, text).line(span.line)
    for start, words in _WORDS:
        if message.startswith(start):
            message = words + message[len(start) :]
    if found := re.match(r"Cannot declare \((.*)\) twice", message):
        header = ".".join(re.findall(r"'([^']*)'", found[1]))
        message = f"the table [{header}] is declared twice"
        span = _statement(line, span.line)
    help = ""
    if message.startswith("unexpected") and re.match(r"[^\s=]+\s*=\s*[\d.:]+[\w./%:-]", line):
        help = 'durations, shares and addresses need quotes: "5s"'
    if message.startswith("the key is given twice"):
        span = _statement(line.partition("=")[0], span.line)
    return _diagnostic(text, name, message[:1].lower() + message[1:], span, help)


def _statement(text: str, line: int) -> Span:
    """All of `text`, which begins a line, without the blanks around it."""
    return Span(line, len(text) - len(text.lstrip()) + 1, max(1, len(text.strip())))


def _span_at(text: str, offset: int) -> Span:
    line = text.count("\n", 0, offset) + 1
    return Span(line, offset - text.rfind("\n", 0, offset))


def _diagnostic(text: str, name: str, message: str, span: Span, help: str = "") -> Diagnostic:
    source = SourceFile.of(name, mask_unparsed(text)).line(span.line)
    return Diagnostic(_CODE, Severity.ERROR, message, name, span, help, source)
