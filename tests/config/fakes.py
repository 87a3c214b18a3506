"""A registry and a resolver that need nothing outside the test."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import regex

from lbhealth.errors import PluginNotFound, SettingError
from lbhealth.model import Address, CheckContext, Checker, Passed, Status, Target


@dataclass(frozen=True, slots=True)
class _Fake:
    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        return Passed(Status.L4OK)


@dataclass(frozen=True, slots=True)
class Tcp(_Fake):
    kind: ClassVar[str] = "tcp"


@dataclass(frozen=True, slots=True)
class Ping(_Fake):
    kind: ClassVar[str] = "ping"
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Http(_Fake):
    kind: ClassVar[str] = "http"
    path: str = "/"
    method: str = "GET"
    host: str | None = None
    body_regex: str | None = None

    def __post_init__(self) -> None:
        if not self.path.isascii() or " " in self.path:
            raise SettingError("path", "has a character that cannot be sent")
        if self.host is not None and (" " in self.host or not self.host.isprintable()):
            raise SettingError("host", "is not a host name")
        if self.body_regex is not None:
            try:
                regex.compile(self.body_regex)
            except regex.error as error:
                raise SettingError("body_regex", error.msg, error.pos) from error


@dataclass(frozen=True, slots=True)
class Https(Http):
    kind: ClassVar[str] = "https"
    verify: bool = False


class FakeRegistry:
    def __init__(self, *kinds: type[Checker]) -> None:
        self.known = {kind.kind: kind for kind in kinds or (Tcp, Ping, Http, Https)}

    def checker(self, kind: str) -> type[Checker]:
        if kind not in self.known:
            raise PluginNotFound("checker", kind)
        return self.known[kind]

    def kinds(self) -> Sequence[str]:
        return sorted(self.known)


HOSTS = {
    ("web1.example.org", socket.AF_INET): "192.0.2.101",
    ("web2.example.org", socket.AF_INET): "192.0.2.103",
    ("web1.example.org", socket.AF_INET6): "2001:db8::101",
    ("vip.example.org", socket.AF_INET): "192.0.2.10",
    ("vip.example.org", socket.AF_INET6): "2001:db8::10",
}
PORTS = {"http": 80, "https": 443, "domain": 53, "ldap": 389, "imap": 143, "webcache": 8080}


class FakeResolver:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def address(self, host: str, family: socket.AddressFamily) -> Address:
        self.asked.append(host)
        try:
            return HOSTS[host, family]
        except KeyError:
            raise OSError(-2, "Name or service not known") from None

    def port(self, service: str, protocol: str | None) -> int:
        self.asked.append(service)
        if protocol == "udp" and service == "http":
            raise OSError("service/proto not found")
        try:
            return PORTS[service]
        except KeyError:
            raise OSError("service/proto not found") from None


def read(text: str, name: str = "test.cf", registry: object = None, resolver: object = None):
    """Parse as `lbhealth check` does; the findings come in file order."""
    from lbhealth.config import parse

    return parse(text, name, registry or FakeRegistry(), resolver or FakeResolver())


def section(*lines: str, head: str = "virtual=192.0.2.1:80", real: str | None = None) -> str:
    """A file with one section; it has one real server unless `real` says otherwise."""
    if real is None:
        v6 = head.startswith("virtual6")
        real = "real6=[2001:db8::1]:80 masq" if v6 else "real=10.0.0.1:80 masq"
    body = [*([real] if real else []), *lines]
    return "\n".join([head, *(f"    {line}" for line in body)]) + "\n"


def codes(loaded: object) -> list[str]:
    return [d.code for d in loaded.diagnostics]  # type: ignore[attr-defined]


def one(text: str):
    """The only virtual service of a file that must be good."""
    loaded = read(text)
    assert loaded.config is not None, "\n".join(map(str, loaded.diagnostics))
    (service,) = loaded.config.virtual
    return service
