"""What is wrong with a TOML file: collected by path, placed and masked at the end.

Findings name a value by its path.  Only when there are some is the text indexed and are the
lines cut out, so a good file costs nothing; and only then is it known which values are secret.
"""

from __future__ import annotations

import difflib
import enum
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from lbhealth.config.source import Diagnostic, Severity, SourceFile, Span
from lbhealth.config.tomlspans import Extent, Path, SpanIndex

__all__ = ["At", "Findings", "is_secret", "mask_unparsed"]

_SECRETS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "community",
    "authorization",
    "proxy-authorization",
    "cookie",
)
_SECRET_VALUE = re.compile(
    r"(?i)(?<=pass|cret|word|pswd|oken|tion|okie|nity)\w{0,3}[\"']?[ \t]*=[ \t]*"
    r"(\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)|[^\n]*)",
    re.DOTALL,
)


@functools.lru_cache(maxsize=1024)
def is_secret(key: str) -> bool:
    """Whether a key of that name holds a secret; slips of the pen (`pasword`) count too."""
    return bool(difflib.get_close_matches(key.lower(), _SECRETS, n=1, cutoff=0.75))


def mask_unparsed(text: str) -> str:
    """Replace what may be secrets in text that is no valid TOML; offsets stay the same."""
    masked = list(text)
    for found in _SECRET_VALUE.finditer(text):
        _mask(masked, Extent(*found.span(1)))
    return "".join(masked)


def _mask(characters: list[str], extent: Extent) -> None:
    for at in range(extent.start, extent.end):
        if characters[at] != "\n":
            characters[at] = "*"


class At(enum.Enum):
    """Which part of a path's place a finding is about."""

    VALUE = enum.auto()
    KEY = enum.auto()


@dataclass(frozen=True, slots=True)
class _Finding:
    code: str
    severity: Severity
    message: str
    path: Path
    at: At
    help: str
    part: tuple[int, int] | None  # offset and length inside a text value


class Findings:
    """Collects findings about one valid document; the same one twice counts once."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._found: dict[_Finding, None] = {}
        self._secrets: set[Path] = set()

    def error(
        self,
        code: str,
        path: Path,
        message: str,
        *,
        at: At = At.VALUE,
        help: str = "",
        part: tuple[int, int] | None = None,
    ) -> None:
        """Report what keeps the file from being taken."""
        self._found[_Finding(code, Severity.ERROR, message, path, at, help, part)] = None

    def warning(
        self, code: str, path: Path, message: str, *, at: At = At.VALUE, help: str = ""
    ) -> None:
        """Report what deserves a look."""
        self._found[_Finding(code, Severity.WARNING, message, path, at, help, None)] = None

    def keep_secret(self, path: Path) -> None:
        """Never show the value of `path`."""
        self._secrets.add(path)

    @property
    def failed(self) -> bool:
        """Whether there is an error."""
        return any(f.severity is Severity.ERROR for f in self._found)

    def line_of(self, path: Path) -> int:
        """Line on which the value of `path` begins, for messages that point back."""
        return self._index.value(path).line

    def diagnostics(self) -> list[Diagnostic]:
        """All findings with their places and lines, in file order."""
        if not self._found:
            return []
        source = SourceFile.of(self._name, self._masked_text())
        diagnostics = []
        for finding in self._found:
            span = self._span(finding)
            line = source.line(span.line)
            diagnostics.append(
                Diagnostic(
                    finding.code,
                    finding.severity,
                    finding.message,
                    self._name,
                    span,
                    finding.help,
                    line,
                )
            )
        return sorted(diagnostics, key=lambda d: (d.span, d.code))

    @functools.cached_property
    def _index(self) -> SpanIndex:
        return SpanIndex(self._text)

    def _span(self, finding: _Finding) -> Span:
        if finding.part is not None:
            return self._index.inside(finding.path, *finding.part)
        if finding.at is At.KEY:
            return self._index.key(finding.path)
        return self._index.value(finding.path)

    def _masked_text(self) -> str:
        values: Mapping[Path, Extent] = self._index.values
        characters: list[str] | None = None
        for path, extent in values.items():
            key = path[-1]
            if path in self._secrets or (isinstance(key, str) and is_secret(key)):
                characters = characters or list(self._text)
                _mask(characters, extent)
        return "".join(characters) if characters else self._text
