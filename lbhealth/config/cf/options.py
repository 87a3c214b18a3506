"""Scheduler, flags, one-packet, persistence and netmask of a virtual service."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from lbhealth.config.cf.endpoints import family_word
from lbhealth.config.cf.report import Report, Text, shown
from lbhealth.config.cf.rules import Scope
from lbhealth.config.cf.syntax import Directive
from lbhealth.model import InetKey, Persistence, ServiceKey, TransportProtocol

__all__ = ["FLAGS", "SCHEDULERS", "Options"]

SCHEDULERS = (
    "dh", "fo", "lblc", "lblcr", "lc", "mh", "nq", "ovf", "rr", "sed", "sh", "twos", "wlc", "wrr",
)  # fmt: skip
"""The kernel's (net/netfilter/ipvs/ip_vs_*.c)."""

FLAGS = {
    "sh": ("sh-fallback", "sh-port", "flag-1", "flag-2", "flag-3"),
    "mh": ("mh-fallback", "mh-port", "flag-1", "flag-2", "flag-3"),
}
"""Flags that ipvsadm knows by name; every other scheduler has the numbered ones alone."""

_NUMBERED = ("flag-1", "flag-2", "flag-3")
_LOWER_WORD = re.compile(r"[a-z]+(?![^ \t])")
_DOTTED_MASK = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Options:
    """Reads the service's own settings from the values of its section.

    `key` is None where the `virtual` line itself is wrong.
    """

    scope: Scope
    report: Report
    head: Directive
    key: ServiceKey | None

    def scheduler(self) -> str | None:
        """The scheduler; None after an error is reported (ldirectord: not looked at)."""
        text = self.scope.texts.get("scheduler")
        if text is None:
            return "wrr"
        match = _LOWER_WORD.match(text.value)
        name = match[0] if match else text.value
        if name not in SCHEDULERS:
            self.report.error(
                "LB104",
                text,
                f'unknown scheduler "{shown(name)}"',
                self.report.suggest(name, SCHEDULERS) or f"one of: {', '.join(SCHEDULERS)}",
            )
            return None
        if name != text.value:
            self.report.warn("LB114", text.part(len(name)), "text after the scheduler is ignored")
        return name

    def flags(self, scheduler: str | None) -> tuple[str, ...]:
        """The scheduler's flags; ipvsadm refuses those that it does not know."""
        text = self.scope.texts.get("schedflags")
        if text is None or scheduler is None:
            return ()
        allowed = FLAGS.get(scheduler, _NUMBERED)
        flags: list[str] = []
        for match in re.finditer(r"[^,]+", text.value):
            if match[0] in allowed:
                if match[0] not in flags:
                    flags.append(match[0])
                continue
            self.report.error(
                "LB408",
                text.part(match.start(), match.end()),
                f'scheduler {scheduler} has no flag "{shown(match[0])}"',
                self.report.suggest(match[0], allowed) or f"it has: {', '.join(allowed)}",
            )
        return tuple(flags)

    def one_packet(self) -> bool:
        """One-packet scheduling (ldirectord: for udp alone)."""
        wanted = self.scope.flags.get("ops", False)
        udp = isinstance(self.key, InetKey) and self.key.protocol is TransportProtocol.UDP
        if wanted and not udp:
            self.report.warn(
                "LB218",
                self.scope.places["ops"].place,
                "one-packet scheduling has an effect on udp services only",
            )
        return wanted and udp

    def persistence(self) -> Persistence | None:
        """Persistence; the netmask counts with it alone (ldirectord)."""
        timeout = self.scope.numbers.get("persistent")
        text = self.scope.texts.get("netmask")
        netmask = None
        if text is not None:
            netmask = self._netmask(text)
            if netmask is not None and timeout is None and "persistent" not in self.scope.invalid:
                self.report.warn(
                    "LB218", text, "netmask has no effect without persistent", "add persistent="
                )
        if timeout is None:
            if isinstance(self.key, InetKey) and self.key.port == 0 and not self.scope.invalid:
                self.report.error(
                    "LB412",
                    self.head.text,
                    "a virtual service on port 0 (every port) must be persistent",
                    "add persistent=SECONDS, or name a port",
                )
            return None
        return Persistence(timeout, netmask)

    def _netmask(self, text: Text) -> int | None:
        value = text.value
        if family_word(self.head.key) == socket.AF_INET6:
            if value.isascii() and value.isdigit() and len(value) <= 3 and 1 <= int(value) <= 128:
                return int(value)
            self.report.error("LB411", text, "an IPv6 netmask is a prefix length, 1 to 128")
            return None
        octets = [int(part) for part in value.split(".")] if _DOTTED_MASK.fullmatch(value) else []
        mask = int.from_bytes(octets, "big") if octets and max(octets) <= 255 else -1
        if mask < 0:
            self.report.error(
                "LB411", text, "an IPv4 netmask has four numbers", "for example 255.255.255.0"
            )
            return None
        prefix = mask.bit_count()
        if mask != (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF:
            self.report.error(
                "LB411", text, "the netmask has a gap", "its one-bits must come first, in one run"
            )
            return None
        return prefix
