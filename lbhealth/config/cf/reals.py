"""A `real` line into the servers that it stands for.

    real=FIRST[->LAST][:PORT] gate|masq|ipip [WEIGHT] ["REQUEST", "RECEIVE"] [l:LOW] [u:UP]

ldirectord searches its pattern in the line; here the line must match as a whole, so that a
typing error is never taken for an address.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

from lbhealth.config.cf.names import Names, bracketed
from lbhealth.config.cf.report import BLANKS, Report, Text, shown
from lbhealth.config.cf.syntax import Directive
from lbhealth.model import Address, Forwarding

__all__ = ["METHODS", "RealLine", "RealReader"]

METHODS = {"gate": Forwarding.ROUTE, "masq": Forwarding.MASQ, "ipip": Forwarding.TUNNEL}

MAX_RANGE = 65536
"""A longer range is a typing error: it would take memory for servers nobody has."""

MAX_NUMBER = 2**31 - 1
"""Largest weight and threshold that the kernel takes."""

_HOST = r"\[[^\]\s]*\]|[^\s:\[\]\"]+?"
_LINE = re.compile(
    rf"(?P<first>{_HOST})(?:\s*->\s*(?P<last>{_HOST}))?(?::(?P<port>[^\s:\"]+))?"
    r"\s+(?P<method>[^\s\"]+)(?P<rest>.*)",
    re.ASCII | re.DOTALL,
)
_PLAIN = re.compile(r"\s+([0-9]{1,5})", re.ASCII)
_PAIR = re.compile(r"\"(?P<request>.*)\"\s*[,\s]\s*\"(?P<receive>.*)\"", re.ASCII | re.DOTALL)
_TOKEN = re.compile(r"[^\s]+", re.ASCII)
_THRESHOLD = re.compile(r"([lu]):([0-9]+)", re.ASCII)


class RealLine(NamedTuple):
    """What one line says; `request` and `receive` are None where the section's count."""

    found: Directive
    addresses: tuple[Address, ...]
    port: int
    forwarding: Forwarding
    weight: int = 1
    lower: int = 0
    upper: int = 0
    request: Text | None = None
    receive: Text | None = None
    port_text: Text | None = None


class RealReader:
    """Reads the `real` lines of one file."""

    def __init__(self, names: Names, report: Report) -> None:
        self._names = names
        self._report = report

    def read(self, found: Directive, family: socket.AddressFamily) -> RealLine | None:
        """The servers of one line; None after an error is reported."""
        text = found.text
        match = _LINE.fullmatch(found.value)
        if match is None:
            self._explain(found)
            return None
        method = METHODS.get(match["method"])
        if method is None:
            self._wrong_method(text.part(match.start("method"), match.end("method")))
            return None
        first = text.part(0, match.end("first"))
        addresses = self._addresses(first, match, text, family)
        port: int | None = 0
        port_text = None
        if match["port"] is not None:
            port_text = text.part(match.start("port"), match.end("port"))
            port = self._names.port(port_text)
        rest = match["rest"]
        plain = _PLAIN.fullmatch(rest)
        line: RealLine | None
        if not rest or plain:
            weight = int(plain[1]) if plain else 1
            line = RealLine(found, addresses or (), port or 0, method, weight, port_text=port_text)
        else:
            line = RealLine(found, addresses or (), port or 0, method, port_text=port_text)
            line = self._options(line, text.part(match.start("rest")))
        return None if addresses is None or port is None else line

    # ----------------------------------------------------------------------- addresses

    def _addresses(
        self, first: Text, match: re.Match[str], text: Text, family: socket.AddressFamily
    ) -> tuple[Address, ...] | None:
        if family == socket.AF_INET and bracketed(first.value):
            self._report.error(
                "LB203", first, "an IPv6 server in an IPv4 section", "use virtual6 and real6"
            )
            return None
        start = self._names.address(first, family)
        if match["last"] is None:
            return None if start is None else (start,)
        last = text.part(match.start("last"), match.end("last"))
        if family == socket.AF_INET6:
            self._report.error("LB205", last, "a range of IPv6 addresses is not supported")
            return None
        end = self._names.address(last, family)
        if start is None or end is None:
            return None
        low, high = int(ipaddress.IPv4Address(start)), int(ipaddress.IPv4Address(end))
        if high < low:
            self._report.error("LB205", last, "the range ends before it starts")
            return None
        if high - low >= MAX_RANGE:
            self._report.error("LB205", last, f"the range has more than {MAX_RANGE} addresses")
            return None
        return tuple(str(ipaddress.IPv4Address(n)) for n in range(low, high + 1))

    # ----------------------------------------------------------------------- the rest of the line

    def _options(self, line: RealLine, rest: Text) -> RealLine | None:
        start, end = rest.value.find('"'), rest.value.rfind('"')
        pieces = [rest]
        if start >= 0:
            pair = _PAIR.fullmatch(rest.value, start, end + 1)
            if pair is None:
                self._wrong_quotes(line, rest.part(start, end + 1))
                return None
            request = rest.part(pair.start("request"), pair.end("request")).untabbed()
            receive = rest.part(pair.start("receive"), pair.end("receive")).untabbed()
            line = line._replace(request=request, receive=receive)
            pieces = [rest.part(0, start), rest.part(end + 1)]
        numbers: dict[str, tuple[int, Text]] = {}
        for word in _words(pieces):
            if not self._option(word, numbers):
                return None
        if {"l", "u"} <= numbers.keys() and list(numbers).index("u") < list(numbers).index("l"):
            self._report.warn(
                "LB207",
                numbers["u"][1],
                "the upper threshold stands before the lower one",
                "both count here; ldirectord loses the upper one: write l:LOW u:UP",
            )
        lower, upper, weight = (numbers[k][0] if k in numbers else d for k, d in _DEFAULTS)
        if lower > upper:
            self._report.error(
                "LB409",
                numbers["l"][1],
                f"the lower threshold {lower} is above the upper one ({upper or 'none'})",
                "the kernel refuses such a server; give u:UP, not below l:LOW",
            )
            return None
        return line._replace(weight=weight, lower=lower, upper=upper)

    def _option(self, word: Text, numbers: dict[str, tuple[int, Text]]) -> bool:
        key, digits = "weight", word.value
        threshold = _THRESHOLD.fullmatch(word.value)
        if threshold is not None:
            key, digits = threshold[1], threshold[2]
        if not (digits.isascii() and digits.isdigit()):
            negative = word.value.startswith("-") and word.value[1:].isdigit()
            self._report.error(
                "LB204",
                word,
                "a weight cannot be negative"
                if negative
                else f'"{shown(word.value)}" is not understood here',
                "weight 0 parks a server"
                if negative
                else 'what may follow the method: WEIGHT "REQUEST", "RECEIVE" l:LOW u:UP',
            )
            return False
        if key in numbers:
            self._report.error("LB204", word, "given twice" if threshold else "a second weight")
            return False
        number = int(digits) if len(digits) <= 10 else MAX_NUMBER + 1
        if number > MAX_NUMBER:
            self._report.error("LB107", word, f"larger than {MAX_NUMBER}")
            return False
        numbers[key] = (number, word)
        return True

    # ----------------------------------------------------------------------- faults

    def _wrong_quotes(self, line: RealLine, place: Text) -> None:
        if line.found.cut:
            help = "# starts a comment even inside quotes: write %23 or \\x23"
            self._report.error("LB110", place, "the line is cut at the #", help)
        else:
            help = 'write "REQUEST", "RECEIVE"'
            self._report.error("LB204", place, "request and receive come as a pair", help)

    def _wrong_method(self, word: Text) -> None:
        self._report.error(
            "LB204",
            word,
            f'forwarding method "{shown(word.value)}" is not gate, masq or ipip',
            self._report.suggest(word.value, METHODS),
        )

    def _explain(self, found: Directive) -> None:
        text = found.text
        host = found.value.split(maxsplit=1)[0] if found.value else ""
        place = text.part(0, len(host)) if host else found.word
        if not host:
            message, help = "no server", "write ADDRESS[:PORT] gate|masq|ipip"
        elif "::" in host and not host.startswith("[") and "." in host:
            message, help = "two colons before the port", "write ADDRESS:PORT"
        elif host.count(":") > 1 and not host.startswith("["):
            message, help = "an IPv6 address needs brackets", "write [ADDRESS]:PORT"
        elif host.endswith(":"):
            message, help = "the port is missing", "write ADDRESS:PORT, or no colon"
        elif host == found.value:
            message = "the forwarding method is missing"
            help = "add gate, masq or ipip"
        else:
            message, help = "not a server", "write ADDRESS[:PORT] gate|masq|ipip"
        self._report.error("LB204", place, message, help)


_DEFAULTS = (("l", 0), ("u", 0), ("weight", 1))


def _words(pieces: list[Text]) -> Iterator[Text]:
    for piece in pieces:
        for match in _TOKEN.finditer(piece.value.rstrip(BLANKS)):
            yield piece.part(match.start(), match.end())
