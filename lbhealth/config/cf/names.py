"""Host names and service names into numbers, each asked once a file."""

from __future__ import annotations

import re
import socket
from typing import NamedTuple

from lbhealth.config.cf.report import Report, Text, shown
from lbhealth.config.loading import Resolver
from lbhealth.model import Address, canonical_address

__all__ = ["Names", "bracketed"]

_DOTTED = re.compile(r"[0-9.]+")


class _Failure(NamedTuple):
    code: str
    message: str


def bracketed(host: str) -> bool:
    """Say whether `host` is written as an IPv6 address, `[...]`."""
    return host.startswith("[") and host.endswith("]")


class Names:
    """Looks names up for one file and reports those that are unknown.

    An address comes back as the one string that stands for it in the whole configuration.
    """

    def __init__(self, resolver: Resolver, report: Report) -> None:
        self._resolver = resolver
        self._report = report
        self._addresses: dict[tuple[str, socket.AddressFamily], Address | _Failure] = {}
        self._ports: dict[tuple[str, str | None], int] = {}

    def address(self, text: Text, family: socket.AddressFamily) -> Address | None:
        """The address that `text` names in `family`; None after an error is reported."""
        key = (text.value, family)
        found = self._addresses.get(key)
        if found is None:
            found = self._addresses[key] = _literal(text.value, family) or self._resolve(*key)
        if isinstance(found, _Failure):
            self._report.error(found.code, text, found.message)
            return None
        return found

    def port(self, text: Text, protocol: str | None = None) -> int | None:
        """The port that `text` gives, 0..65535; None after an error is reported."""
        value = text.value
        if value.isascii() and value.isdigit():
            number = int(value) if len(value) <= 6 else 65536
            if number <= 65535:
                return number
            self._report.error("LB402", text, f"port {shown(value)} is above 65535")
            return None
        key = (value, protocol)
        if key not in self._ports:
            try:
                self._ports[key] = self._resolver.port(value, protocol)
            except (OSError, ValueError):  # ValueError: characters that no name can have
                self._ports[key] = -1
        if self._ports[key] < 0:
            where = f" for {protocol}" if protocol else ""
            self._report.error(
                "LB402",
                text,
                f'unknown service name "{shown(value)}"{where}',
                "write the port's number",
            )
            return None
        return self._ports[key]

    def _resolve(self, value: str, family: socket.AddressFamily) -> Address | _Failure:
        wanted = "IPv6" if family == socket.AF_INET6 else "IPv4"
        if bracketed(value) or _DOTTED.fullmatch(value):
            # The host's resolver takes "10.1" for 10.0.0.1 and "010" for 8: nobody means that.
            return _Failure("LB415", f'"{shown(value)}" is not an {wanted} address')
        try:
            return canonical_address(self._resolver.address(value, family))
        except (OSError, ValueError) as error:  # ValueError: characters that no name can have
            reason = getattr(error, "strerror", None) or "not a host name"
            return _Failure("LB401", f'"{shown(value)}" has no {wanted} address: {reason}')


def _literal(value: str, family: socket.AddressFamily) -> Address | None:
    try:
        address = canonical_address(value[1:-1] if bracketed(value) else value)
    except ValueError:
        return None
    matches = (":" in address) == (family == socket.AF_INET6)
    return address if matches and "%" not in address else None
