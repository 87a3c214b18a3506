"""`lbhealth status`, `drain`, `halt`, `online`, `reload`: a running director by its API."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from typing import Any

import click

from lbhealth.cli.client import actor, api_address, api_option, call
from lbhealth.cli.output import ERRORS, OK, age, paint, table, talk
from lbhealth.errors import ControlError
from lbhealth.services.words import printable

__all__ = ["drain", "halt", "online", "reload", "status"]

_json_option = click.option("--json", "as_object", is_flag=True, help="One JSON object on stdout.")
_reason_option = click.option("--reason", default="", metavar="TEXT", help="Why; shown by status.")
_until_option = click.option(
    "--until", metavar="TIME", help="Back online by itself: `10m`, `2h`, or `2030-01-31T06:00`."
)


@click.command()
@api_option
@_json_option
def status(api: str | None, as_object: bool) -> int:
    """Show every virtual service and server, and why each is as it is."""
    try:
        answer = call(api_address(api), "GET", "/v1/status")
    except ControlError as error:
        return _refused(error, as_object)
    if as_object:
        print(json.dumps(answer))
    else:
        print(_overview(answer))
    return OK


@click.command()
@click.argument("server")
@_reason_option
@_until_option
@api_option
@_json_option
def drain(server: str, reason: str, until: str | None, api: str | None, as_object: bool) -> int:
    """Give SERVER no new connections (weight 0); old ones live on.

    SERVER is ADDRESS:PORT (in every service that has it) or SERVICE/ADDRESS:PORT.
    """
    return _set(server, "drain", reason, until, api, as_object)


@click.command()
@click.argument("server")
@_reason_option
@_until_option
@api_option
@_json_option
def halt(server: str, reason: str, until: str | None, api: str | None, as_object: bool) -> int:
    """Take SERVER out of the kernel's table; its connections are cut."""
    return _set(server, "halt", reason, until, api, as_object)


@click.command()
@click.argument("server")
@_reason_option
@api_option
@_json_option
def online(server: str, reason: str, api: str | None, as_object: bool) -> int:
    """Let SERVER serve again, if its checks pass."""
    return _set(server, "online", reason, None, api, as_object)


@click.command()
@click.option("--force", is_flag=True, help="Skip the guard on large changes, where there is one.")
@api_option
@_json_option
def reload(force: bool, api: str | None, as_object: bool) -> int:
    """Let the director read its file again.  A file with errors changes nothing."""
    try:
        answer = call(api_address(api), "POST", "/v1/reload", {"force": force})
    except ControlError as error:
        return _refused(error, as_object)
    if as_object:
        print(json.dumps(answer))
    else:
        names = ("added", "changed", "removed", "unchanged")
        talk("reloaded: " + ", ".join(f"{answer[name]} {name}" for name in names))
    return OK


def _set(
    server: str, state: str, reason: str, until: str | None, api: str | None, as_object: bool
) -> int:
    body = {
        "server": server,
        "state": state,
        "reason": reason,
        "actor": actor(),
        "until": _moment(until),
    }
    try:
        answer = call(api_address(api), "POST", "/v1/admin", body)
    except ControlError as error:
        return _refused(error, as_object)
    if as_object:
        print(json.dumps(answer))
    else:
        count = answer["changed"]
        talk(f"{server}: {state} in {count} service{'s' if count != 1 else ''}")
    return OK


_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _moment(text: str | None) -> float | None:
    """Wall-clock seconds of `10m` from now, or of an ISO 8601 date and time (local if bare)."""
    if text is None:
        return None
    if span := _SPAN.fullmatch(text):
        return time.time() + float(span[1]) * _UNITS[span[2]]
    try:
        moment = datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise click.UsageError(
            f"--until {text!r}: write a span (10m, 2h, 1d) or a time (2030-01-31T06:00)"
        ) from None
    if moment <= time.time():
        raise click.UsageError(f"--until {text}: that time is past")
    return moment


def _refused(error: ControlError, as_object: bool) -> int:
    if as_object:
        notes = getattr(error, "__notes__", [])
        print(notes[0] if notes else json.dumps({"schema": 1, "error": str(error)}))
    talk(str(error))
    for finding in _findings(error):
        talk(finding)
    return ERRORS


def _findings(error: ControlError) -> list[str]:
    """The diagnostics that came with a refused reload, one line each."""
    notes = getattr(error, "__notes__", [])
    found = json.loads(notes[0]).get("diagnostics", []) if notes else []
    return [
        f"{d['file']}:{d['line']}:{d['column']}: {d['severity']}[{d['code']}]: {d['message']}"
        for d in found
    ]


# ------------------------------------------------------------------ the overview


def _overview(answer: dict[str, Any]) -> str:
    parts = []
    driver = answer["driver"]
    if not driver["ok"]:
        parts.append(paint(f"driver {driver['name']} fails: {printable(driver['detail'])}", "red"))
    parts += [_service(service, answer["at"]) for service in answer["services"]]
    return "\n\n".join(parts) if parts else "no virtual services"


def _service(service: dict[str, Any], now: float) -> str:
    title = f"{paint(service['service'], 'bold')} {service['scheduler']}"
    fallback = service["fallback"]
    if fallback:
        does = paint("serves", "red") if fallback["active"] else "stands by"
        title += f", fallback {fallback['address']} {does}"
    rows = [_server(server, now) for server in service["real"]]
    if not rows:
        return f"{title}\n  (no real servers)"
    lines = table(("  SERVER", "HEALTH", "ADMIN", "WEIGHT", "LAST", "SINCE", "WHY"), rows).split(
        "\n"
    )
    coloured = [
        _colour(line, server) for line, server in zip(lines[1:], service["real"], strict=True)
    ]
    return "\n".join([title, lines[0], *coloured])


def _colour(line: str, server: dict[str, Any]) -> str:
    if server["admin"] != "online":
        return paint(line, "blue")
    colours = {"up": "green", "down": "red"}
    return paint(line, colours.get(server["health"], "yellow"))


def _server(server: dict[str, Any], now: float) -> tuple[str, ...]:
    weight, last = server["weight"], server["last"]
    applied = "-" if weight["applied"] is None else str(weight["applied"])
    if weight["applied"] != weight["configured"]:
        applied = f"{applied} of {weight['configured']}"
    return (
        "  " + server["server"],
        server["health"],
        server["admin"],
        applied,
        f"{last['status']} {age(last['duration'])}" if last else "-",
        age(now - server["since"]) if server["since"] else "-",
        printable(server["why"]),
    )
