"""What each `service` asks for: its port, and the checker that speaks its protocol.

A service without a `build` function is judged by a simpler check for now; a function here
and a checker in the registry are all it takes to change that.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from lbhealth.config.cf.report import Text
from lbhealth.model import canonical_address

__all__ = [
    "EXTENSION_SERVICES",
    "SERVICES",
    "SERVICE_OF_PORT",
    "Facts",
    "Origin",
    "Recipe",
    "Service",
]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a section, and perhaps one `real` line, say about a check.

    `request` and `receive` are those of the `real` line where it has any; an empty text
    stands for "not given".
    """

    service: str
    request: Text
    receive: Text
    texts: Mapping[str, Text]

    def text(self, key: str) -> Text | None:
        """The text of `key`, from the `real` line where that has it."""
        return {"request": self.request, "receive": self.receive}.get(key, self.texts.get(key))

    def word(self, key: str, default: str = "") -> str:
        """The text of a directive of the section."""
        text = self.texts.get(key)
        return text.value if text is not None and text.value else default


Origin: TypeAlias = tuple[str, Text]
"""A directive and the text that it gave."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checker to be made: `kind` of the registry and the settings of its constructor.

    `origins` says which directive and text a setting came from, for the place of a fault;
    `elsewhere` is the host and port (None = the service's own) of a request that is a full URL.
    """

    kind: str
    settings: Mapping[str, object]
    origins: Mapping[str, Origin] = field(default_factory=dict)
    server_name: str | None = None
    elsewhere: tuple[str, int | None] | None = None


Builder: TypeAlias = Callable[[Facts], Recipe]


@dataclass(frozen=True, slots=True)
class Service:
    """One word after `service=`.  `port` is its usual port; None: it has none.

    `needs` are directives without which ldirectord's check can never succeed.
    """

    port: int | None
    build: Builder | None = None
    needs: tuple[str, ...] = ()


_SCHEME = re.compile(r"/?([A-Za-z]+)://")
_URI_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""Characters that LWP sends as they are; it writes all others as %XX."""


def _http(facts: Facts) -> Recipe:
    path = facts.request.value or "/"
    elsewhere = None
    scheme = _SCHEME.match(path)
    if scheme is not None and scheme[1] == facts.service:
        authority, slash, rest = path[scheme.end() :].partition("/")
        path = slash + rest
        elsewhere = _authority(authority)
    if not path.startswith("/"):
        path = f"/{path}"  # ldirectord puts it in front of every request
    host = facts.word("virtualhost") or (elsewhere[0] if elsewhere else "")
    settings: dict[str, object] = {
        "path": urllib.parse.quote(path, safe=_URI_SAFE, errors="surrogateescape"),
        "method": facts.word("httpmethod", "get").upper(),
        "host": host or None,
        "body_regex": facts.receive.value or None,
    }
    if facts.service == "https":
        settings["verify"] = False  # ldirectord: never verifies
    origins: dict[str, Origin] = {
        "path": ("request", facts.request),
        "body_regex": ("receive", facts.receive),
    }
    for setting, directive in (("host", "virtualhost"), ("method", "httpmethod")):
        if directive in facts.texts:
            origins[setting] = (directive, facts.texts[directive])
    server_name = _server_name(host) if facts.service == "https" else None
    return Recipe(facts.service, settings, origins, server_name, elsewhere)


def _settings(*names: str) -> Builder:
    """Settings that stand in directives of the section: of the same name, or passwd."""

    def build(facts: Facts) -> Recipe:
        settings: dict[str, object] = {}
        origins: dict[str, Origin] = {}
        for name in names:
            directive = _DIRECTIVES.get(name, name)
            text = facts.text(directive)
            if text is not None and text.value:
                settings[name] = text.value
                origins[name] = (directive, text)
        if facts.service in _BARE_REQUEST and "request" in settings:
            settings["request"] = facts.request.value.removeprefix("/")
        return Recipe(facts.service, settings, origins)

    return build


def _ldap(facts: Facts) -> Recipe:
    """ldirectord: the bind is anonymous unless both login and passwd are given."""
    both = facts.word("login") and facts.word("passwd")
    account = ("login", "password") if both else ()
    return _settings(*account, "request", "receive")(facts)


_DIRECTIVES = {"password": "passwd"}

_BARE_REQUEST = frozenset({"dns", "ldap", "ldaps", "mysql", "pgsql", "simpletcp"})
"""Services whose request ldirectord sends without the `/` that it has put in front."""


def _http_proxy(facts: Facts) -> Recipe:
    settings: dict[str, object] = {
        "url": facts.request.value.removeprefix("/"),
        "method": facts.word("httpmethod", "get").upper(),
        "body_regex": facts.receive.value or None,
    }
    origins = {"url": ("request", facts.request), "body_regex": ("receive", facts.receive)}
    return Recipe("http_proxy", settings, origins)


def _authority(text: str) -> tuple[str, int | None]:
    """Host and port of a URL's authority; a port that is no number counts as none."""
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, ""
    return host.strip("[]"), int(port) if port.isascii() and port.isdigit() and len(
        port
    ) < 6 else None


def _server_name(host: str) -> str | None:
    """The TLS server name for a Host header, which may have a port; none for an address."""
    name = host
    if not host.startswith("[") and host.count(":") == 1:
        name = host.partition(":")[0]
    try:
        canonical_address(name.strip("[]"))
    except ValueError:
        return name or None
    return None


_SQL = _settings("login", "password", "database", "request")

SERVICES: Mapping[str, Service] = {
    "dns": Service(53, _settings("request", "receive"), needs=("receive",)),
    "ftp": Service(21, _settings("login", "password", "request", "receive")),
    "http": Service(80, _http),
    "http_proxy": Service(3128, _http_proxy),
    "https": Service(443, _http),
    "imap": Service(143, _settings("login", "password")),
    "imaps": Service(993, _settings("login", "password")),
    "ldap": Service(389, _ldap),
    "ldaps": Service(636, _ldap),
    "mysql": Service(3306, _SQL, needs=("login", "request")),
    "nntp": Service(119, _settings()),
    "none": Service(None),
    "oracle": Service(1521),
    "pgsql": Service(5432, _SQL, needs=("login", "request")),
    "pop": Service(110, _settings("login", "password")),
    "pops": Service(995, _settings("login", "password")),
    "radius": Service(1812, _settings("login", "password", "secret")),
    "simpletcp": Service(None, _settings("request", "receive")),
    "sip": Service(5060, _settings("login")),
    "smtp": Service(25, _settings()),
    "submission": Service(587, _settings()),
    "telnet": Service(23, _settings("receive")),
}
"""ldirectord's services, and telnet."""

EXTENSION_SERVICES = ("telnet",)
"""Services that ldirectord does not know."""

SERVICE_OF_PORT: Mapping[int, str] = {
    service.port: name
    for name, service in SERVICES.items()
    if service.port is not None and name not in EXTENSION_SERVICES
}
"""ldirectord: the service of a section that names none, by its virtual port."""
