"""`lbhealth probe`: one check by hand, with its dialogue."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from lbhealth.cli.output import age, paint, talk
from lbhealth.engine import run_check
from lbhealth.errors import LbhealthError, SettingError
from lbhealth.model import (
    Checker,
    CheckResult,
    Target,
    TransportProtocol,
    Verdict,
    canonical_address,
    transport_of,
)
from lbhealth.plugins import Registry
from lbhealth.services.words import printable

__all__ = ["probe"]

_EXIT = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.ERROR: 3}


_PORTS = {
    "dns": 53,
    "ftp": 21,
    "http": 80,
    "http_proxy": 3128,
    "https": 443,
    "imap": 143,
    "imaps": 993,
    "ldap": 389,
    "ldaps": 636,
    "mysql": 3306,
    "nntp": 119,
    "pgsql": 5432,
    "ping": 0,
    "pop": 110,
    "pops": 995,
    "radius": 1812,
    "sip": 5060,
    "smtp": 25,
    "submission": 587,
    "telnet": 23,
}
"""The usual ports; a check without one needs HOST:PORT."""

_TLS_PORTS = {"ftp": 990, "nntp": 563, "smtp": 465, "submission": 465}
"""The usual ports with TLS from the start, where the check has no name of its own for it."""

_WITH_TLS = {"http": "https", "imap": "imaps", "ldap": "ldaps", "pop": "pops"}
_BY_UPGRADE = frozenset({"mysql", "pgsql"})

_HTTP = {"request": "path", "receive": "body_regex", "virtualhost": "host"}
_FIELDS = {
    "http": _HTTP,
    "https": _HTTP,
    "http_proxy": {"request": "url", "receive": "body_regex"},
    "external": {"request": "command"},
    "external-perl": {"request": "command"},
    "nntp": {"request": "group"},
}
"""Options that set a field of another name; all others set the one of their own."""


@click.command()
@click.argument("service")
@click.argument("where", metavar="HOST[:PORT]")
@click.option("--request", metavar="TEXT", help="What to ask for: path, file, name, SQL, script.")
@click.option("--receive", metavar="REGEX", help="What the answer must contain.")
@click.option("--virtualhost", metavar="NAME", help="Host header and TLS server name.")
@click.option("--method", metavar="METHOD", help="HTTP method.")
@click.option("--login", metavar="NAME", help="User name, bind DN, or SIP address.")
@click.option("--password", metavar="TEXT", help="Password of the login.")
@click.option("--database", metavar="NAME", help="Database to use.")
@click.option("--secret", metavar="TEXT", help="RADIUS shared secret.")
@click.option("--protocol", type=click.Choice(["tcp", "udp"]), help="For dns, sip, simpletcp.")
@click.option("--tls", is_flag=True, help="TLS from the start (mysql, pgsql: by upgrade).")
@click.option("--verify", is_flag=True, default=None, help="Check the server's certificate.")
@click.option("--ca-file", metavar="FILE", help="Authorities to trust, in PEM, with --verify.")
@click.option("--timeout", type=click.FloatRange(0.01, 3600), default=5.0, show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Print the dialogue.")
@click.option("--json", "as_object", is_flag=True, help="One JSON object on stdout.")
def probe(
    service: str,
    where: str,
    timeout: float,
    verbose: bool,
    as_object: bool,
    protocol: str | None,
    tls: bool,
    **options: str | None,
) -> int:
    """Run one check of SERVICE against HOST now.

    \b
    lbhealth probe http 192.0.2.1:8080 --request /health --receive OK -v
    lbhealth probe imap 192.0.2.1 --login probe --password secret --tls

    SERVICE is a check type of the configuration, or connect.  Exit 0 PASS, 1 FAIL, 2 usage,
    3 ERROR (the check could not run).
    """
    kind = "tcp" if service == "connect" else service
    given = {name: value for name, value in options.items() if value is not None}
    port = _PORTS.get(kind)
    if tls:
        port = _TLS_PORTS.get(kind, port)
        if kind in _WITH_TLS:
            kind = _WITH_TLS[kind]
            port = _PORTS[kind]
        elif not kind.endswith("s"):
            given["tls"] = "starttls" if kind in _BY_UPGRADE else "implicit"
    name = given.get("virtualhost")
    checker = _checker(service, kind, given)
    transport = transport_of(checker, TransportProtocol(protocol) if protocol else None)
    if protocol and transport != protocol:
        raise click.UsageError(f"{service} does not speak {protocol}")
    target = replace(_target(where, port, name), protocol=transport)
    dialogue = _Dialogue()
    result = asyncio.run(run_check(checker, target, timeout, dialogue.note))
    if as_object:
        print(json.dumps(_document(result, dialogue.steps)))
        return _EXIT[result.verdict]
    if verbose:
        for step in dialogue.steps:
            talk(f"{step['at'] * 1000:8.1f} ms {step['direction']} {printable(step['text'])}")
    colour = "green" if result.verdict is Verdict.PASS else "red"
    took = age(result.duration)
    print(f"{paint(result.verdict, colour)} {result.status} {printable(result.detail)} ({took})")
    return _EXIT[result.verdict]


def _checker(service: str, kind: str, given: Mapping[str, str]) -> Checker:
    """The checker with its settings from the options; raises click.UsageError."""
    try:
        factory: Any = Registry().checker(kind)
    except LbhealthError as error:
        raise click.UsageError(str(error)) from None
    renamed = _FIELDS.get(kind, {})
    known = {field.name for field in dataclasses.fields(factory) if field.init}
    settings = {renamed.get(option, option): value for option, value in given.items()}
    if "host" not in known:
        settings.pop("virtualhost", None)  # the name for TLS alone
    stray = sorted(set(settings) - known)
    if stray:
        options = {field: option for option, field in renamed.items()}
        option = options.get(stray[0], stray[0]).replace("_", "-")
        raise click.UsageError(f"{service} takes no --{option}")
    try:
        checker: Checker = factory(**settings)
    except SettingError as error:
        raise click.UsageError(str(error)) from None
    except TypeError:
        raise click.UsageError(f"{service} needs --request") from None
    return checker


def _target(where: str, usual: int | None, name: str | None) -> Target:
    host, port = _split(where, usual)
    try:
        address = canonical_address(host)
    except ValueError:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "no host name"
            raise click.UsageError(f"cannot resolve {host!r}: {why}") from None
        address = canonical_address(str(found[0][4][0]))
        name = name or host
    try:
        canonical_address(name or address)
    except ValueError:
        return Target(address, port, server_name=name)
    return Target(address, port)


def _split(where: str, default: int | None) -> tuple[str, int]:
    """Split `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT` or a bare IPv6 address."""
    host, colon, port = where.rpartition(":")
    if not colon or where.endswith("]") or (where.count(":") > 1 and not where.startswith("[")):
        host, port = where, ""
    host = host.strip("[]")
    if port:
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise click.UsageError(f"{port!r} is no port (1 to 65535)")
        return host, int(port)
    if default is None:
        raise click.UsageError("this service has no usual port: write HOST:PORT")
    if not host:
        raise click.UsageError("a host is missing")
    return host, default


class _Dialogue:
    """Collects the steps of a check with their time offsets in seconds."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self._begun = time.monotonic()

    def note(self, direction: str, data: bytes | str) -> None:
        text = data if isinstance(data, str) else data.decode("utf-8", errors="backslashreplace")
        at = round(time.monotonic() - self._begun, 6)
        self.steps.append({"at": at, "direction": direction, "text": text})


def _document(result: CheckResult, steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "verdict": str(result.verdict),
        "status": str(result.status),
        "detail": result.detail,
        "duration": round(result.duration, 6),
        "dialogue": steps,
    }
