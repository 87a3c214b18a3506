"""What may stand in the settings of an HTTP check, and how a redirect is read.

Pure functions.  The validators raise `SettingError` with the place of the fault; nothing
that passes them can end a header line or start another request.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable

from lbhealth.errors import SettingError

__all__ = [
    "absolute_target",
    "authority_of",
    "bracketed",
    "check_headers",
    "check_host",
    "check_method",
    "check_path",
    "host_name",
    "redirect_path",
    "request_target",
]

# RFC 9110, 5.6.2
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNFIT_IN_PATH = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]")
_UNFIT_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_URL = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(:[0-9]{1,5})?")
_SET_BY_THE_CHECK = frozenset({"host", "connection", "content-length", "transfer-encoding", "te"})
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Every printable ASCII character stays as written; only what is not ASCII is encoded.
_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def check_path(path: str) -> None:
    """A path beginning with `/`, or a whole http(s) URL, without blanks and controls."""
    if fault := _UNFIT_IN_PATH.search(path):
        raise SettingError("path", "blanks and control characters must be %-encoded", fault.start())
    if url := _URL.fullmatch(path):
        check_host(url[2], "path", url.start(2))
    elif not path.startswith("/"):
        raise SettingError("path", 'must begin with "/", or with http:// or https://', 0)


def check_host(host: str, field: str = "host", offset: int = 0) -> None:
    """A name or address for the Host header, IPv6 in brackets, with a port if wanted."""
    if not host:
        raise SettingError(field, "the host is empty", offset)
    match = _HOST.match(host)
    if match is None or match.end() != len(host):
        place = match.end() if match else 0
        raise SettingError(field, "not a host name or an address", offset + place)
    if match[2] and not 1 <= int(match[2][1:]) <= 65535:
        raise SettingError(field, "the port must be 1 to 65535", offset + match.start(2) + 1)


def check_method(method: str) -> None:
    """A method token; CONNECT makes a tunnel and no response to judge."""
    match = _TOKEN.match(method)
    if match is None or match.end() != len(method):
        raise SettingError("method", "not an HTTP method", match.end() if match else 0)
    if method == "CONNECT":
        raise SettingError("method", "CONNECT cannot be judged; use GET or HEAD", 0)


def check_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Header names are tokens not set by the check itself; values have no line ends."""
    for name, value in headers:
        match = _TOKEN.match(name)
        if match is None or match.end() != len(name):
            raise SettingError("headers", f"{name!r} is not a header name")
        if name.lower() in _SET_BY_THE_CHECK:
            hint = '; use "host"' if name.lower() == "host" else ""
            raise SettingError("headers", f"{name} is set by the check itself{hint}")
        if fault := _UNFIT_IN_VALUE.search(value):
            raise SettingError(
                "headers", f"{name}: control characters are not allowed", fault.start()
            )
        if value != value.strip(" \t"):
            raise SettingError("headers", f"{name}: blanks at an end of the value")


def host_name(host: str) -> str:
    """The name or the address in a Host header: without port and brackets."""
    match = _HOST.fullmatch(host)
    return match[1].strip("[]") if match else host


def authority_of(path: str) -> str | None:
    """The host (and port, as written) of a whole URL, None of a mere path."""
    match = _URL.fullmatch(path)
    return match[2] if match else None


def request_target(path: str) -> str:
    """What stands in the request line: path and query, %-encoded, without fragment.

    A whole URL loses its scheme and host, since the server is asked directly (RFC 9112,
    3.2.1); a lone `?` at the end goes too, because URL libraries drop it.
    """
    if match := _URL.fullmatch(path):
        path = match[3]
    path = path.partition("#")[0].removesuffix("?")
    if not path.startswith("/"):
        path = f"/{path}"
    return urllib.parse.quote(path, safe=_ASCII)


def absolute_target(url: str) -> str:
    """What stands in the request line to a proxy: the whole URL (RFC 9112, 3.2.2)."""
    match = _URL.fullmatch(url)
    assert match is not None, "the URL was checked"
    return f"{match[1].lower()}://{match[2]}{request_target(url)}"


def redirect_path(
    location: str, scheme: str, path: str, address: str, port: int, host: str | None
) -> str | None:
    """The path that a Location leads to on the same server, None when it leads elsewhere.

    Same means: the scheme of the check, and either the address or the `host` of the request
    with the port of the check, or exactly the `host` of the request as the server saw it
    (RFC 9110, 7.1: a portless Host stands for the default port).
    """
    try:
        base = f"{scheme}://{bracketed(address)}:{port}{request_target(path)}"
        url = urllib.parse.urlsplit(urllib.parse.urljoin(base, location.strip()))
        where = (url.hostname, url.port or _DEFAULT_PORTS.get(url.scheme))
        same: set[tuple[str | None, int]] = {(address.partition("%")[0], port)}
        if host is not None:
            own = urllib.parse.urlsplit(f"{scheme}://{host}")
            same |= {(own.hostname, port), (own.hostname, own.port or _DEFAULT_PORTS[scheme])}
    except ValueError:
        return None
    if url.scheme != scheme or where not in same or url.username is not None:
        return None
    return f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"


def bracketed(address: str) -> str:
    """An address as it stands in a URL; RFC 9110 knows no zones, so those are left out."""
    address = address.partition("%")[0]
    return f"[{address}]" if ":" in address else address
