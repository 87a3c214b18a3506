"""Read a configuration file of either language.

The ending decides (`.toml`, `.cf`), else the content: a file whose first meaningful line is
a table header or has a dotted key, a quote or a bracket after `=` in TOML's manner is TOML.
"""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lbhealth.config.source import Diagnostic, Severity
from lbhealth.model import Address, Checker, Config, canonical_address

__all__ = ["CheckerRegistry", "Loaded", "Resolver", "SystemResolver", "load", "parse"]

MAX_BYTES = 64 * 1024 * 1024
"""A larger file is refused: no real configuration comes near, and reading it costs memory."""


class CheckerRegistry(Protocol):
    """What configuration needs of the plug-in registry."""

    def checker(self, kind: str) -> type[Checker]:
        """The class behind a check type; raises PluginNotFound or PluginLoadError."""

    def kinds(self) -> Sequence[str]:
        """All known check types, sorted."""


class Resolver(Protocol):
    """How names in a configuration become numbers."""

    def address(self, host: str, family: socket.AddressFamily) -> Address:
        """First address of `host` in that family; raises OSError."""

    def port(self, service: str, protocol: str | None) -> int:
        """Port of a service name ("http"), of any protocol if None; raises OSError."""


class SystemResolver:
    """The host's own resolver; each name is asked once per load."""

    @functools.cache  # noqa: B019 - lives as long as one load
    def address(self, host: str, family: socket.AddressFamily) -> Address:
        """First address of `host`; raises OSError."""
        found = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
        return canonical_address(str(found[0][4][0]))

    @functools.cache  # noqa: B019 - lives as long as one load
    def port(self, service: str, protocol: str | None) -> int:
        """Port of a service name; raises OSError."""
        return (
            socket.getservbyname(service, protocol) if protocol else socket.getservbyname(service)
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a file: `config` is None when there is an error among `diagnostics`."""

    config: Config | None
    diagnostics: tuple[Diagnostic, ...]
    language: str = "ldirectord"

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The findings that keep the file from being taken."""
        return tuple(d for d in self.diagnostics if d.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The findings that do not."""
        return tuple(d for d in self.diagnostics if d.severity is Severity.WARNING)


def load(path: str | Path, registry: CheckerRegistry, resolver: Resolver | None = None) -> Loaded:
    """Read and parse a file; blocks (names are resolved).  Raises OSError when unreadable."""
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OSError(f"{path}: larger than {MAX_BYTES} bytes")
    # Bytes that are no UTF-8 (Latin-1 comments are common) must survive a round trip.
    text = data.decode("utf-8", errors="surrogateescape")
    return parse(text, str(path), registry, resolver or SystemResolver())


def parse(text: str, name: str, registry: CheckerRegistry, resolver: Resolver) -> Loaded:
    """Parse the text of a file called `name`; never raises for what the text holds."""
    if language_of(name, text) == "toml":
        from lbhealth.config.toml import parse_toml  # loads pydantic, which .cf never needs

        config, found = parse_toml(text, name, registry, resolver)
        language = "toml"
    else:
        from lbhealth.config.ldirectord import parse_ldirectord

        config, found = parse_ldirectord(text, name, registry, resolver)
        language = "ldirectord"
    ordered = tuple(sorted(found, key=lambda d: (d.span, d.code)))
    if any(d.severity is Severity.ERROR for d in ordered):
        config = None
    return Loaded(config, ordered, language)


_TOML_LINE = re.compile(r"^\s*(\[|[A-Za-z0-9_.-]+\s*=\s*(\"|'|\[|\{|true\b|false\b))")


def language_of(name: str, text: str) -> str:
    """`toml` or `ldirectord`."""
    if name.endswith(".toml"):
        return "toml"
    if name.endswith(".cf"):
        return "ldirectord"
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return "toml" if _TOML_LINE.match(line) else "ldirectord"
    return "ldirectord"
