"""Exit codes, colours and tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import IO

__all__ = ["ERRORS", "OK", "USAGE", "age", "paint", "table", "talk"]

OK = 0
ERRORS = 1
USAGE = 2

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "bold": "1"}


def talk(text: str) -> None:
    """Say something to the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def paint(text: str, colour: str, stream: IO[str] | None = None) -> str:
    """Colour `text` when `stream` (stdout) is a terminal and NO_COLOR is not set."""
    stream = stream or sys.stdout
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\033[{_COLOURS[colour]}m{text}\033[0m"


def age(seconds: float | None) -> str:
    """A span of time in the two largest fitting letters: `12ms`, `3.4s`, `5m`, `2h`, `9d`."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "m"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds / 86400:.0f}d"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell; the last one is free."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header) - 1)]
    return "\n".join(
        "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    )
