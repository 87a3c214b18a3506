"""Where a director listens: shared by its API and by those who call it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

__all__ = ["Address", "TcpAddress", "UnixAddress", "parse_address"]


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix socket; everything may be done over it."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP address; read-only."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address: TypeAlias = UnixAddress | TcpAddress


def parse_address(text: str) -> Address:
    """Read `unix:PATH` or `HOST:PORT`; raises ValueError with the remedy."""
    if text.startswith("unix:") and len(text) > 5:
        return UnixAddress(Path(text[5:]))
    host, colon, port = text.rpartition(":")
    if colon and host and port.isascii() and port.isdigit() and int(port) < 65536:
        return TcpAddress(host.strip("[]"), int(port))
    raise ValueError(f"{text!r} is no address: write unix:/path/to/socket or HOST:PORT")
