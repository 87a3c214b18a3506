"""Values of a TOML configuration with a notation or range of their own, and their errors.

Each reader takes what `tomllib` gave and returns the value, or raises a `Fault`: an error
whose words are meant for the operator, with the code and the place inside the text.
"""

from __future__ import annotations

import ipaddress
import math
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from lbhealth.config.source import nearest
from lbhealth.model import canonical_address

__all__ = [
    "AddressFault",
    "Endpoint",
    "agentx_address",
    "duration",
    "endpoint",
    "fault",
    "listed",
    "literal_address",
    "member",
    "netmask",
    "number",
    "said",
    "share",
    "shown",
    "span_of_time",
    "whole",
]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%")
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
}


def said(value: object) -> str:
    """What kind of thing a TOML value is, in words."""
    return _KINDS.get(type(value), "a date or time")


def shown(value: object) -> str:
    """A value for a message, of bounded length."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number that large"  # Python refuses to print the largest of them
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def fault(code: str, message: str, help: str = "") -> PydanticCustomError:
    """An error whose words stand in the diagnostic as they are; `message` follows the key."""
    return PydanticCustomError(
        "fault", "{message}", {"code": code, "message": message, "help": help}
    )


def duration(low: float, high: float, *, whole_seconds: bool = False) -> Callable[[object], float]:
    """Reader of durations, in seconds, of which the smallest and largest are given."""

    def read(value: object) -> float:
        if type(value) in (int, float) and value == 0:
            seconds = 0.0
        elif type(value) in (int, float):
            hint = f'write "{shown(value)}s"' if math.isfinite(value) else ""  # type: ignore[arg-type]
            raise fault("LB306", "needs a unit", hint)
        elif not isinstance(value, str):
            raise fault("LB304", f"must be a duration, not {said(value)}", 'such as "5s"')
        elif found := _DURATION.fullmatch(value):
            seconds = round(float(found[1]) * _UNITS[found[2]], 9)
        else:
            raise fault(
                "LB306",
                f"is no duration: {shown(value)}",
                'a number and one of the units ms, s, m, h, d: "1.5s"',
            )
        if not low <= seconds <= high:
            raise fault("LB305", f"must be {span_of_time(low)} to {span_of_time(high)}")
        if whole_seconds and seconds % 1:
            raise fault("LB305", "must be whole seconds")
        return seconds

    return read


def span_of_time(seconds: float) -> str:
    """A duration as an operator writes it: `250ms`, `5s`, `1d`."""
    for unit in ("d", "h", "m", "s"):
        size = _UNITS[unit]
        if seconds >= size and (seconds % size == 0 or unit == "s"):
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms" if seconds else "0"


def whole(low: int, high: int) -> Callable[[object], int]:
    """Reader of whole numbers in a range."""

    def read(value: object) -> int:
        if type(value) is not int:
            raise fault("LB304", f"must be a whole number, not {said(value)}")
        if not low <= value <= high:
            raise fault("LB305", f"must be {low} to {high}, not {shown(value)}")
        return value

    return read


def number(low: float, high: float) -> Callable[[object], float]:
    """Reader of numbers in a range."""

    def read(value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise fault("LB304", f"must be a number, not {said(value)}")
        if not low <= value <= high:
            raise fault("LB305", f"must be {low:g} to {high:g}, not {shown(value)}")
        return float(value)

    return read


def share(value: object) -> float:
    """Read `"0%"` to `"100%"` into 0.0 to 1.0."""
    if not isinstance(value, str):
        raise fault(
            "LB304", f"must be text with a percent sign, not {said(value)}", 'such as "50%"'
        )
    found = _SHARE.fullmatch(value)
    if not found or float(found[1]) > 100:
        raise fault("LB305", f'must be "0%" to "100%", not {shown(value)}')
    return float(found[1]) / 100


def member(*words: str, later: tuple[str, ...] = ()) -> Callable[[object], str]:
    """Reader of one of `words`; those of `later` are known but cannot be had yet."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise fault("LB304", f"must be text, not {said(value)}")
        if value in later:
            raise fault("LB309", f"{shown(value)} is not available yet", "leave the key out")
        if value not in words:
            allowed = " or ".join(f'"{w}"' for w in words)
            hint = nearest(value, (*words, *later))
            raise fault("LB305", f"must be {allowed}, not {shown(value)}", hint)
        return value

    return read


def agentx_address(value: object) -> str:
    """Read the place of an AgentX master: `unix:PATH` or `tcp:HOST:PORT`."""
    if not isinstance(value, str):
        raise fault("LB304", f"must be text, not {said(value)}")
    if not re.fullmatch(r"unix:/.+|tcp:.+:\d{1,5}", value):
        raise fault(
            "LB305",
            f"is no AgentX address: {shown(value)}",
            '"unix:/var/agentx/master" or "tcp:127.0.0.1:705"',
        )
    return value


def listed(name: str) -> Callable[[object], Any]:
    """Reader of an array of tables; the usual slip is to write a header in single brackets."""

    def read(value: object) -> Any:
        if isinstance(value, dict):
            raise fault("LB304", "must be a list of tables", f"write [[{name}]]")
        return value

    return read


# --------------------------------------------------------------------------- addresses


class AddressFault(ValueError):
    """A bad address; `start` and `length` say where in the text (length 0: all of it)."""

    def __init__(self, message: str, help: str = "", start: int = 0, length: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.start = start
        self.length = length


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The parts of `HOST:PORT/PROTOCOL` as written, and where port and protocol begin.

    `host` is without brackets; port and protocol are empty where there are none.
    """

    host: str
    port: str
    protocol: str
    port_at: int
    protocol_at: int


_ENDPOINT = re.compile(
    r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^\[\]:/]*))(?::(?P<port>[^:/]*))?(?:/(?P<protocol>[^:/]*))?"
)
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


def endpoint(text: str) -> Endpoint:
    """Take `HOST`, `HOST:PORT`, `[IPV6]:PORT`, each with `/PROTOCOL`, to pieces."""
    found = _ENDPOINT.fullmatch(text)
    if not found:
        if text.count(":") > 1 and "[" not in text:
            raise AddressFault("an IPv6 address stands in brackets", 'such as "[2001:db8::1]:80"')
        raise AddressFault(f"is no address: {shown(text)}", 'such as "192.0.2.10:80"')
    host, v6 = found["host"], found["v6"]
    if v6 is not None:
        if literal_address(v6) is None or ":" not in v6:
            raise AddressFault(f"is no IPv6 address: {shown(v6)}", "", 1, len(v6))
        host = v6
    elif not _HOST.fullmatch(host):
        raise AddressFault(f"is no address: {shown(text)}", 'such as "192.0.2.10:80"')
    elif re.fullmatch(r"[0-9.]+", host) and literal_address(host) is None:
        raise AddressFault(f"is no IPv4 address: {shown(host)}", "", 0, len(host))
    for part in ("port", "protocol"):
        if found[part] == "":
            raise AddressFault(f"has no {part} after the separator", "", found.start(part) - 1, 1)
    return Endpoint(
        host,
        found["port"] or "",
        found["protocol"] or "",
        found.start("port"),
        found.start("protocol"),
    )


def literal_address(text: str) -> str | None:
    """The canonical form of an IP address, or None for anything else (scoped ones too)."""
    try:
        return None if "%" in text else canonical_address(text)
    except ValueError:
        return None


def netmask(value: str | int, family: socket.AddressFamily) -> int:
    """Prefix length of a dotted IPv4 mask or of a number; raises AddressFault."""
    width = 128 if family == socket.AF_INET6 else 32
    if isinstance(value, int) or (value.isascii() and value.isdigit() and len(value) < 4):
        if not 1 <= int(value) <= width:
            raise AddressFault(f"must be 1 to {width} bits")
        return int(value)
    if width == 128:
        raise AddressFault("of an IPv6 service is a number of bits, 1 to 128")
    try:
        bits = int(ipaddress.IPv4Address(value))
    except ValueError:
        raise AddressFault(f"is no netmask: {shown(value)}", 'such as "255.255.255.0"') from None
    length = bits.bit_count()
    if not length or bits != (2**length - 1) << (32 - length):
        raise AddressFault("must be ones followed by zeros", 'such as "255.255.255.0"')
    return length
