"""The `virtual` line and the `fallback` line.

virtual=ADDRESS:PORT   virtual6=[ADDRESS]:PORT   virtual=MARK   virtual6=MARK
fallback=HOST[:PORT] [gate|masq|ipip]
"""

from __future__ import annotations

import re
import socket
from typing import NamedTuple

from lbhealth.config.cf.names import Names, bracketed
from lbhealth.config.cf.reals import METHODS
from lbhealth.config.cf.report import BLANKS, Report, Text, shown
from lbhealth.config.cf.syntax import Directive
from lbhealth.model import Address, Forwarding, FwmarkKey, InetKey, ServiceKey, TransportProtocol

__all__ = ["FallbackLine", "family_word", "read_fallback", "read_virtual_line"]

MAX_MARK = 2**32 - 1

_DOMAIN = ("53", "domain")
_SERVER = re.compile(r"(?P<host>\[[^\]\s]*\]|[^\s:\[\]]+)(?::(?P<port>[^\s:]*))?", re.ASCII)


def family_word(key: str) -> socket.AddressFamily:
    """The address family of `virtual6`, `real6`, `fallback6` and of those without the 6."""
    return socket.AF_INET6 if key.endswith("6") else socket.AF_INET


def read_virtual_line(
    head: Directive, protocol: Text | None, names: Names, report: Report
) -> ServiceKey | None:
    """The key of a section; None after an error is reported.

    `protocol` is the section's own word.  Without it: udp if the port is written `53` or
    `domain`, else tcp (ldirectord).
    """
    word = head.value.split(None, 1)[0] if head.value.split() else ""
    if not word:
        report.error(
            "LB202", head.word, f'"{head.key}" needs a value', f"write {head.key}=ADDRESS:PORT"
        )
        return None
    text = head.text.part(0, len(word))
    rest = head.value[len(word) :].strip(BLANKS)
    if rest and not rest.startswith("#"):
        place = head.text.part(head.value.index(rest, len(word)))
        report.warn("LB114", place, "text after the virtual service is ignored")
    family = family_word(head.key)
    if word.isascii() and word.isdigit():
        return _mark(text, family, protocol, report)
    return _inet(text, family, protocol, names, report)


def _mark(
    text: Text, family: socket.AddressFamily, protocol: Text | None, report: Report
) -> FwmarkKey | None:
    number = int(text.value) if len(text.value) <= 10 else MAX_MARK + 1
    if not 1 <= number <= MAX_MARK:
        report.error("LB202", text, f"a firewall mark must be 1 to {MAX_MARK}")
        return None
    if protocol is not None and protocol.value != "fwm":
        report.error(
            "LB208",
            protocol,
            "the protocol of a firewall mark is fwm",
            "leave the line out; the firewall's rule decides which protocols carry the mark",
        )
        return None
    return FwmarkKey(number, family)


def _inet(
    text: Text, family: socket.AddressFamily, protocol: Text | None, names: Names, report: Report
) -> InetKey | None:
    match = _SERVER.fullmatch(text.value)
    if match is None:
        help = "write [ADDRESS]:PORT" if text.value.count(":") > 1 else "write ADDRESS:PORT"
        message = f'"{shown(text.value)}" is no address with a port and no firewall mark'
        report.error("LB202", text, message, help)
        return None
    host = text.part(match.start("host"), match.end("host"))
    if family == socket.AF_INET and bracketed(host.value):
        report.error("LB203", text, 'an IPv6 address after "virtual"', "write virtual6=")
        return None
    if not match["port"]:
        digits = re.match("[0-9]+", host.value)
        report.error(
            "LB201",
            text,
            f'"{shown(host.value)}" has no port',
            f"write {shown(host.value)}:PORT"
            + (f"; ldirectord takes this for firewall mark {shown(digits[0])}" if digits else ""),
        )
        return None
    if protocol is not None and protocol.value == "fwm":
        report.error(
            "LB208",
            protocol,
            "the protocol of an address is tcp or udp",
            f"for a firewall mark write {'virtual6' if family == socket.AF_INET6 else 'virtual'}"
            "=NUMBER",
        )
        return None
    port_text = text.part(match.start("port"), match.end("port"))
    name = protocol.value if protocol else "udp" if port_text.value in _DOMAIN else "tcp"
    address = names.address(host, family)
    port = names.port(port_text, name)
    if address is None or port is None:
        return None
    return InetKey(TransportProtocol(name), address, port)


class FallbackLine(NamedTuple):
    """A fallback; `port` None stands for the port of the virtual service."""

    address: Address
    port: int | None
    forwarding: Forwarding
    place: Text


def read_fallback(
    text: Text, family: socket.AddressFamily, names: Names, report: Report
) -> FallbackLine | None:
    """The fallback of one line; None after a finding is reported."""
    words = text.value.split()
    if not words:
        # ldirectord takes an empty one for none.
        report.warn("LB106", text, "empty fallback", "leave the line out")
        return None
    match = _SERVER.fullmatch(words[0])
    server = text.part(0, len(words[0]))
    if match is None or match["port"] == "":
        report.error(
            "LB206",
            server,
            f'"{shown(words[0])}" is not HOST[:PORT]',
            "an IPv6 address needs brackets" if words[0].count(":") > 1 else "",
        )
        return None
    forwarding = Forwarding.ROUTE
    if len(words) > 1:
        start = text.value.index(words[1], len(words[0]))
        method = METHODS.get(words[1])
        if method is None or len(words) > 2:
            place = text.part(start, len(text.value))
            report.error(
                "LB206",
                place,
                "after the fallback's address comes gate, masq or ipip and nothing else",
                report.suggest(words[1], METHODS) if method is None else "",
            )
            return None
        forwarding = method
    host = server.part(match.start("host"), match.end("host"))
    if family == socket.AF_INET and bracketed(host.value):
        report.error("LB203", host, 'an IPv6 address after "fallback"', "write fallback6=")
        return None
    address = names.address(host, family)
    port: int | None = None
    if match["port"]:
        port = names.port(server.part(match.start("port"), match.end("port")))
        if port is None:
            return None
    return None if address is None else FallbackLine(address, port, forwarding, text)
