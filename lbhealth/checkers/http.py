"""The `http` and `https` checks: what is asked, and what counts as a good answer.

This file does no input or output of its own.  `request` and `judge` serve every way of
carrying a check out; `check` is the one for asyncio.
"""

from __future__ import annotations

import functools
import itertools
import ssl
from dataclasses import dataclass, field
from typing import ClassVar

from lbhealth import __version__
from lbhealth.checkers import http_rules as rules
from lbhealth.checkers.http_expect import (
    JsonValue,
    check_expected_headers,
    check_expected_json,
    unmet,
)
from lbhealth.checkers.http_message import Response, ResponseReader
from lbhealth.checkers.outcome import printable
from lbhealth.checkers.patterns import compile_pattern
from lbhealth.checkers.settings import accepted_statuses, check_tls
from lbhealth.checkers.tls import client_context
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target

__all__ = ["Http", "Https", "Redirect"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FOLLOWED = frozenset({"GET", "HEAD"})
_MAX_REDIRECTS = 100


@dataclass(frozen=True, slots=True)
class Redirect:
    """The answer is elsewhere on the same server: ask again for `path`."""

    path: str


@dataclass(frozen=True, slots=True)
class Http:
    """Passes when the server answers with a good status and, if asked for, a good body.

    `path` begins with `/`, or is a whole URL whose host goes into the Host header.  `status`
    holds codes and ranges ("200", "200-299"; 100..599).  `body` is text that must occur in the
    body, `body_regex` a Perl regular expression that must match in it, `body_not` and
    `body_not_regex` what must not.  `expect_headers` holds names of header fields with Perl
    regular expressions, one of whose values must match; `expect_json` dotted paths into the
    body (`checks.0.state`) with the values to be found there (1 equals true, as it does among
    settings).  Whatever is given must all hold.  `redirects` (0..100) is how many redirects to
    the same server are followed (7 as in ldirectord, which however follows them to any host).
    `headers` may hold secrets and are left out of the repr.
    """

    kind: ClassVar[str] = "http"
    SEARCHED: ClassVar[int] = 1024 * 1024
    """Bytes of body that are read when something is to be found in it."""

    path: str = "/"
    method: str = "GET"
    host: str | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    status: tuple[str, ...] = ("200-299",)
    body: str | None = None
    body_regex: str | None = None
    redirects: int = 7
    body_not: str | None = None
    body_not_regex: str | None = None
    expect_headers: tuple[tuple[str, str], ...] = ()
    expect_json: tuple[tuple[str, JsonValue], ...] = ()

    def __post_init__(self) -> None:
        """Bring lists into the hashable form and refuse what cannot be sent or judged."""
        set_field = object.__setattr__
        set_field(self, "method", self.method.upper())
        set_field(self, "headers", tuple((str(n), str(v)) for n, v in self.headers))
        set_field(self, "status", tuple(map(str, self.status)))
        set_field(self, "expect_headers", tuple((str(n), str(v)) for n, v in self.expect_headers))
        set_field(self, "expect_json", tuple((str(n), v) for n, v in self.expect_json))
        rules.check_path(self.path)
        rules.check_method(self.method)
        if self.host is not None:
            if self.host.count(":") > 1 and not self.host.startswith("["):
                set_field(self, "host", f"[{self.host}]")
            rules.check_host(self.host)
        rules.check_headers(self.headers)
        accepted_statuses(self.status)
        for field_name in ("body_regex", "body_not_regex"):
            if pattern := getattr(self, field_name):
                compile_pattern(pattern, field_name)
        check_expected_headers(self.expect_headers)
        check_expected_json(self.expect_json)
        if not 0 <= self.redirects <= _MAX_REDIRECTS:
            raise SettingError("redirects", f"must be 0 to {_MAX_REDIRECTS}")

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "http"

    def tls_context(self) -> ssl.SSLContext | None:
        """None: no TLS."""
        return None

    @property
    def asked(self) -> str:
        """The path, or whole URL, that is asked for first."""
        return self.path

    @property
    def body_limit(self) -> int:
        """Bytes of body worth reading: few when nothing is looked for in it."""
        searched = (
            self.body or self.body_regex or self.body_not or self.body_not_regex or self.expect_json
        )
        return self.SEARCHED if searched else ResponseReader.BODY_LIMIT

    def reader(self) -> ResponseReader:
        """A fresh reader for one response to this check's request."""
        return ResponseReader(self.method, self.body_limit)

    def host_header(self, target: Target) -> str:
        """The Host header: `host`, else the host in the URL, else the server's address.

        The address goes without its port although RFC 9110, 7.2 asks for a port that is not
        the default: ldirectord sends it so, and virtual hosts on real servers are set up for
        what it sends.  A port that the operator wrote is kept.
        """
        return self._named_host() or rules.bracketed(target.address)

    def server_name(self, target: Target) -> str:
        """The TLS server name: the target's, else the host as in `host_header`, without port.

        An address is not sent (RFC 6066, 3), but compared with the certificate.
        """
        return target.server_name or rules.host_name(self.host_header(target))

    def request_headers(self, target: Target) -> tuple[tuple[str, str], ...]:
        """All header fields in the order in which they are sent."""
        own = {name.lower() for name, _ in self.headers}
        fields = [
            ("Host", self.host_header(target)),
            ("Connection", "close"),
            ("User-Agent", f"lbhealth/{__version__}"),
            ("Accept", "*/*"),
        ]
        if self.method not in ("GET", "HEAD", "OPTIONS", "TRACE"):
            fields.append(("Content-Length", "0"))
        return (*(f for f in fields if f[0].lower() not in own), *self.headers)

    def request_target(self, path: str) -> str:
        """What stands for `path` in the request line."""
        return rules.request_target(path)

    def request(self, target: Target, path: str | None = None) -> bytes:
        """The whole request, for `path` (of a redirect) or the configured one."""
        lines = [f"{self.method} {self.request_target(path or self.asked)} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.request_headers(target)]
        return "\r\n".join([*lines, "\r\n"]).encode()

    def judge(
        self, response: Response, target: Target, hops: int = 0, path: str | None = None
    ) -> Passed | Redirect:
        """The verdict on a response, or where to ask next.

        `hops` redirects came before it and `path` is what was asked for, if not the
        configured path.  Raises CheckFailed, or CheckError for an expression that takes too
        long.
        """
        if response.status not in accepted_statuses(self.status):
            if response.status in _REDIRECTS and self.method in _FOLLOWED and self.redirects:
                return self._redirect(response, target, hops, path or self.asked)
            raise CheckFailed(Status.L7STS, printable(response.status_line))
        if reason := unmet(self, response):
            raise CheckFailed(Status.L7RSP, reason)
        return _passed(response.status)

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Ask, follow redirects to the same server, judge."""
        from lbhealth.checkers.http_client import fetch

        path = None
        for hops in itertools.count():
            response = await fetch(self, target, ctx, path)
            verdict = self.judge(response, target, hops, path)
            if isinstance(verdict, Passed):
                return verdict
            path = verdict.path
            ctx.note("*", f"redirected to {path}")
        raise AssertionError("unreachable")

    def _named_host(self) -> str | None:
        return self.host or rules.authority_of(self.asked)

    def _redirected(self, location: str, target: Target, path: str) -> str | None:
        """What to ask for next, None when that is not this server's."""
        return rules.redirect_path(
            location, self.scheme, path, target.address, target.port, self._named_host()
        )

    def _redirect(self, response: Response, target: Target, hops: int, path: str) -> Redirect:
        location = response.header("location")
        line = printable(response.status_line)
        if location is None:
            raise CheckFailed(Status.L7STS, f"{line}, but no Location to follow")
        # Header values are bytes; a UTF-8 path must leave as it came.
        location = location.encode("latin-1").decode("utf-8", "replace")
        new = self._redirected(location, target, path)
        shown = printable(location)
        if new is None:
            raise CheckFailed(Status.L7STS, f"{line}, a redirect to another server: {shown}")
        if hops >= self.redirects:
            raise CheckFailed(Status.L7STS, f"{line}: more than {self.redirects} redirects")
        try:
            rules.check_path(new)
        except SettingError:
            raise CheckFailed(Status.L7STS, f"{line}, a malformed redirect: {shown}") from None
        return Redirect(new)


@dataclass(frozen=True, slots=True)
class Https(Http):
    """`http` inside TLS.

    Without `verify` any certificate will do, as in ldirectord.  With it the certificate must
    be valid for the target's server name (its address where it has none) and come from an
    authority in `ca_file` (PEM), else in the system's store.
    """

    kind: ClassVar[str] = "https"

    verify: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        """Add the rules of the two fields to those of `Http`."""
        Http.__post_init__(self)  # slots make a new class, which super() does not know
        check_tls("implicit", self.verify, self.ca_file)

    @property
    def scheme(self) -> str:
        """`https`."""
        return "https"

    def tls_context(self) -> ssl.SSLContext:
        """The context for `verify` and `ca_file`; CheckError when that cannot be read."""
        return client_context(self.verify, self.ca_file)


@functools.lru_cache(maxsize=1024)
def _passed(status: int) -> Passed:
    """Thousands of equal passes a second share one value."""
    return Passed(Status.L7OK, str(status))
