"""`lbhealth probe`: one check by hand, with its dialogue."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import click

from lbhealth.cli.output import age, paint, talk
from lbhealth.engine import run_check
from lbhealth.errors import LbhealthError, SettingError
from lbhealth.model import CheckResult, Target, Verdict, canonical_address
from lbhealth.plugins import Registry
from lbhealth.services.words import printable

__all__ = ["probe"]

_EXIT = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.ERROR: 3}


@dataclass(frozen=True, slots=True)
class _Options:
    """The options of the command, as typed."""

    request: str | None
    receive: str | None
    virtualhost: str | None
    method: str | None
    tls: bool

    def given(self) -> set[str]:
        """Names of the options that were used."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name for name, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class _Service:
    """How options become the settings of a checker."""

    kind: str
    port: int | None
    options: frozenset[str] = frozenset()
    settings: Callable[[_Options], Mapping[str, Any]] = lambda _: {}


def _http_settings(options: _Options) -> Mapping[str, Any]:
    settings = {
        "path": options.request,
        "body_regex": options.receive,
        "host": options.virtualhost,
        "method": options.method.upper() if options.method else None,
    }
    return {name: value for name, value in settings.items() if value is not None}


_HTTP = frozenset({"request", "receive", "virtualhost", "method", "tls"})

_SERVICES = {
    "connect": _Service("tcp", None),
    "tcp": _Service("tcp", None),
    "ping": _Service("ping", 0),
    "http": _Service("http", 80, _HTTP, _http_settings),
    "https": _Service("https", 443, _HTTP, _http_settings),
}


@click.command()
@click.argument("service")
@click.argument("where", metavar="HOST[:PORT]")
@click.option("--request", metavar="TEXT", help="What to ask for: the path of an HTTP request.")
@click.option("--receive", metavar="REGEX", help="What the answer must contain.")
@click.option("--virtualhost", metavar="NAME", help="Host header and TLS server name.")
@click.option("--method", metavar="METHOD", help="HTTP method.")
@click.option("--tls", is_flag=True, help="TLS from the start.")
@click.option("--timeout", type=click.FloatRange(0.01, 3600), default=5.0, show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Print the dialogue.")
@click.option("--json", "as_object", is_flag=True, help="One JSON object on stdout.")
def probe(
    service: str, where: str, timeout: float, verbose: bool, as_object: bool, **options: Any
) -> int:
    """Run one check of SERVICE against HOST now.

    \b
    lbhealth probe http 192.0.2.1:8080 --request /health --receive OK -v

    Exit 0 PASS, 1 FAIL, 2 usage, 3 ERROR (the check could not run).
    """
    given = _Options(**options)
    known = _service(service, given)
    target = _target(where, known, given.virtualhost)
    try:
        checker = Registry().checker(known.kind)(**known.settings(given))
    except (LbhealthError, SettingError) as error:
        raise click.UsageError(str(error)) from None
    dialogue = _Dialogue()
    result = asyncio.run(_run(checker, target, timeout, dialogue.note))
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


async def _run(
    checker: Any, target: Target, timeout: float, trace: Callable[[str, bytes | str], None]
) -> CheckResult:
    try:
        return await run_check(checker, target, timeout, trace)
    finally:
        close = getattr(type(checker), "aclose_all", None)
        if close is not None:
            await close()


def _service(name: str, options: _Options) -> _Service:
    if name == "http" and options.tls:
        name = "https"
    known = _SERVICES.get(name)
    if known is None:
        raise click.UsageError(f"unknown service {name!r}; known are {', '.join(_SERVICES)}")
    stray = sorted(options.given() - known.options)
    if stray:
        raise click.UsageError(f"{name} takes no --{stray[0]}")
    return known


def _target(where: str, service: _Service, name: str | None) -> Target:
    host, port = _split(where, service.port)
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
    target = Target(address, port)
    if service.kind != "https" or name is None:
        return target
    try:
        canonical_address(name)
    except ValueError:
        return replace(target, server_name=name)
    return target


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
