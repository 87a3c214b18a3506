"""The `http_proxy` check: a page fetched through a forward proxy, which is the server checked."""

from __future__ import annotations

import base64
import dataclasses
import urllib.parse
from dataclasses import dataclass, field
from typing import ClassVar

from lbhealth.checkers import http_rules as rules
from lbhealth.checkers.http import Http
from lbhealth.errors import SettingError
from lbhealth.model import Target

__all__ = ["HttpProxy"]


@dataclass(frozen=True, slots=True)
class HttpProxy(Http):
    """Passes when the proxy brings `url` (a whole http:// URL) with a good status and content.

    The request line carries the URL and Host comes from it, as with ldirectord, so `path` and
    `host` have no place here.  Redirects are fetched through the same proxy, wherever they
    lead; those to https are not, since a proxy only tunnels it.  `login` and `password` go to
    the proxy (Proxy-Authorization: Basic, RFC 7617), not to the page's server.
    """

    kind: ClassVar[str] = "http_proxy"

    url: str = ""
    login: str = ""
    password: str = field(default="", repr=False, metadata={"secret": True})

    def __post_init__(self) -> None:
        """Add the rules of the three fields to those of `Http`."""
        Http.__post_init__(self)  # slots make a new class, which super() does not know
        if self.path != "/":
            raise SettingError("path", 'a proxy is asked for a whole URL; use "url"')
        if self.host is not None:
            raise SettingError("host", "comes from the url")
        _check_url(self.url)
        if ":" in self.login:
            raise SettingError("login", "must not contain a colon", self.login.index(":"))
        if self.password and not self.login:
            raise SettingError("password", "has no effect without login")
        for name in ("login", "password"):
            if not (value := getattr(self, name)).isprintable():
                place = next(i for i, c in enumerate(value) if not c.isprintable())
                raise SettingError(name, "control characters are not allowed", place)

    @property
    def asked(self) -> str:
        """The URL."""
        return self.url

    def request_target(self, path: str) -> str:
        """The whole URL."""
        return rules.absolute_target(path)

    def request_headers(self, target: Target) -> tuple[tuple[str, str], ...]:
        """The fields of `Http`, and the proxy's credentials if there are any."""
        fields = Http.request_headers(self, target)
        if not self.login:
            return fields
        credentials = base64.b64encode(f"{self.login}:{self.password}".encode()).decode()
        return (*fields, ("Proxy-Authorization", f"Basic {credentials}"))

    def request(self, target: Target, path: str | None = None) -> bytes:
        """The whole request, for the URL of a redirect or the configured one."""
        if path is not None:  # Host follows the URL
            return dataclasses.replace(self, url=path).request(target)
        return Http.request(self, target)

    def _redirected(self, location: str, target: Target, path: str) -> str | None:
        try:
            url = urllib.parse.urljoin(path, location.strip())
        except ValueError:
            return None
        return url if url.lower().startswith("http://") else None


def _check_url(url: str) -> None:
    if not url:
        raise SettingError("url", "say which http:// URL the proxy is to fetch")
    if not url.lower().startswith("http://"):
        raise SettingError("url", "must begin with http://", 0)
    try:
        rules.check_path(url)
    except SettingError as error:
        raise SettingError("url", error.message, error.position) from None
