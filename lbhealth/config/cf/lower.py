"""Sections into the model."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass

from lbhealth.config.cf import advice
from lbhealth.config.cf.checks import Planner
from lbhealth.config.cf.endpoints import (
    FallbackLine,
    family_word,
    read_fallback,
    read_virtual_line,
)
from lbhealth.config.cf.kit import CheckKit, Plan
from lbhealth.config.cf.names import Names
from lbhealth.config.cf.options import Options
from lbhealth.config.cf.reals import RealLine, RealReader
from lbhealth.config.cf.report import Report
from lbhealth.config.cf.rules import Scope
from lbhealth.config.cf.settings import read_virtual
from lbhealth.config.cf.syntax import Directive, Section
from lbhealth.config.loading import CheckerRegistry, Resolver
from lbhealth.model import (
    Address,
    DestinationKey,
    Fallback,
    Forwarding,
    FwmarkKey,
    InetKey,
    OnDown,
    RealServer,
    ServiceKey,
    TransportProtocol,
    VirtualService,
)

__all__ = ["Lowering"]


class Lowering:
    """Turns the sections of one file into virtual services."""

    def __init__(
        self, shared: Scope, registry: CheckerRegistry, resolver: Resolver, report: Report
    ) -> None:
        self.report = report
        self.shared = shared
        self.names = Names(resolver, report)
        self.kit = CheckKit(registry, report)
        self.reader = RealReader(self.names, report)
        self._seen: dict[ServiceKey, Directive] = {}
        self._fallbacks: dict[tuple[Address, int, Forwarding], Fallback] = {}
        self.global_fallback: dict[socket.AddressFamily, FallbackLine] = {}
        for key in ("fallback", "fallback6"):
            if key in shared.texts:
                family = family_word(key)
                line = read_fallback(shared.texts[key], family, self.names, report)
                if line is not None:
                    self.global_fallback[family] = line

    def section(self, section: Section) -> tuple[VirtualService | None, Scope]:
        """One virtual service, None after an error is reported, and the section's values."""
        scope = read_virtual(section.body, self.report)
        builder = _Builder(self, section.head, scope)
        return builder.build(), scope

    def register(self, key: ServiceKey, head: Directive) -> None:
        """Report a second section for the same virtual service."""
        first = self._seen.setdefault(key, head)
        if first is not head:
            self.report.error(
                "LB403",
                head.text,
                f"{key} is defined in line {first.line} already",
                "merge the two sections",
            )

    def fallback(self, address: Address, port: int, forwarding: Forwarding) -> Fallback:
        """The one object for this fallback."""
        key = (address, port, forwarding)
        found = self._fallbacks.get(key)
        if found is None:
            found = self._fallbacks[key] = Fallback(
                address=address, port=port, forwarding=forwarding
            )
        return found


@dataclass(slots=True)
class _Builder:
    """Builds one virtual service."""

    lowering: Lowering
    head: Directive
    scope: Scope
    key: ServiceKey | None = None

    @property
    def report(self) -> Report:
        return self.lowering.report

    @property
    def family(self) -> socket.AddressFamily:
        return family_word(self.head.key)

    def build(self) -> VirtualService | None:
        scope = self.scope
        self.key = read_virtual_line(
            self.head, scope.texts.get("protocol"), self.lowering.names, self.report
        )
        if self.key is not None:
            self.lowering.register(self.key, self.head)
        port = self.key.port if isinstance(self.key, InetKey) else None
        protocol = self.key.protocol if isinstance(self.key, InetKey) else TransportProtocol.TCP
        planner = Planner(
            self.lowering.kit,
            self.report,
            scope,
            self.lowering.shared,
            head=self.head.text,
            port=port,
            protocol=protocol,
            virtual=_virtual(self.key),
        )
        # Everything is looked at, whatever fails, so that one run finds all errors.
        options = Options(scope, self.report, self.head, self.key)
        scheduler = options.scheduler()
        flags = options.flags(scheduler)
        persistence = options.persistence()
        fallback = self._fallback()
        real = self._real(planner)
        if self.key is None:
            return None
        service = VirtualService(
            key=self.key,
            name=scope.word("servicename"),
            scheduler=scheduler or "wrr",
            flags=flags,
            persistence=persistence,
            one_packet=options.one_packet(),
            real=real,
            fallback=fallback,
            on_down=OnDown.QUIESCE if self._flag("quiescent", False) else OnDown.REMOVE,
            readd_quiescent=self.lowering.shared.flags.get("readdquiescent", False),
            parked_holds_fallback=True,
            clean_stop=self._flag("cleanstop", True),
        )
        return advice.on_service(service, self.head, scope, planner, self.report)

    def _flag(self, key: str, default: bool) -> bool:
        return self.scope.flags.get(key, self.lowering.shared.flags.get(key, default))

    # ----------------------------------------------------------------------- fallback

    def _fallback(self) -> Fallback | None:
        right = "fallback6" if self.family == socket.AF_INET6 else "fallback"
        wrong = "fallback" if self.family == socket.AF_INET6 else "fallback6"
        if wrong in self.scope.places:
            self.report.error(
                "LB203",
                self.scope.places[wrong].word,
                f'"{wrong}" in a "{self.head.key}" section',
                f'write "{right}"',
            )
        line = self.lowering.global_fallback.get(self.family)
        if right in self.scope.texts:
            text = self.scope.texts[right]
            line = read_fallback(text, self.family, self.lowering.names, self.report)
        if line is None or self.key is None:
            return None
        own = self.key.port if isinstance(self.key, InetKey) else 0
        port = own if line.port is None else line.port
        fixed = isinstance(self.key, InetKey) and line.forwarding is not Forwarding.MASQ
        if fixed and port not in (0, own):
            self.report.warn(
                "LB218",
                line.place,
                f"the fallback's port {port} has no effect on {self.key}",
                "gate and ipip do not change ports; use masq, or leave the port out",
            )
        return self.lowering.fallback(line.address, port, line.forwarding)

    # ----------------------------------------------------------------------- real servers

    def _real(self, planner: Planner) -> tuple[RealServer, ...]:
        right = "real6" if self.family == socket.AF_INET6 else "real"
        servers: list[RealServer] = []
        rows = _Rows(self.key, self.report)
        for found in self.scope.reals:
            if found.key != right:
                self.report.error(
                    "LB203",
                    found.word,
                    f'"{found.key}" in a "{self.head.key}" section',
                    f'write "{right}"',
                )
                continue
            line = self.lowering.reader.read(found, self.family)
            if line is None:
                continue
            plan = planner.plan(line.request, line.receive)
            if plan is not None and self.key is not None:
                servers += self._servers(line, plan, planner, rows)
        if self.scope.reals and not planner.used:
            planner.plan()  # no line is good, but the checks may have faults of their own
        rows.warn_ports("checkport" in self.scope.numbers)
        return tuple(servers)

    def _servers(
        self, line: RealLine, plan: Plan, planner: Planner, rows: _Rows
    ) -> Iterable[RealServer]:
        port = planner.port(line.port) if planner.aims(plan) else 0
        request = line.request or self.scope.texts.get("request")
        if port == 0 and planner.needs_port(plan):
            self.report.error(
                "LB215",
                line.found.text,
                "there is no port to check this server at",
                'add "checkport=PORT" to the section, or a port to the server',
            )
            return
        if port and request is not None and "://" in request.value:
            for address in line.addresses:
                planner.warn_elsewhere(request, address, port)
        for address in line.addresses:
            if rows.take(address, line):
                yield RealServer(
                    address=address,
                    port=line.port,
                    forwarding=line.forwarding,
                    weight=line.weight,
                    upper=line.upper,
                    lower=line.lower,
                    checks=plan.checks(address, port),
                    assumed=plan.assumed,
                )


class _Rows:
    """Which kernel rows the servers of a section take."""

    def __init__(self, key: ServiceKey | None, report: Report) -> None:
        self._report = report
        self._port = key.port if isinstance(key, InetKey) else None
        self._taken: dict[DestinationKey, RealLine] = {}
        self._mapped: list[RealLine] = []

    def take(self, address: Address, line: RealLine) -> bool:
        """Claim the row of a server; False if it is taken (see VirtualService.destination_key)."""
        port = line.port
        if self._port is not None and line.forwarding is not Forwarding.MASQ:
            port = self._port
            if line.port not in (0, port):
                self._mapped.append(line)
        first = self._taken.setdefault((address, port), line)
        if first is line:
            return True
        if first.port == line.port:
            self._report.warn(
                "LB404",
                line.found.text,
                f"{address}:{line.port} is in line {first.found.line} already",
                "this line is ignored",
            )
        else:
            self._report.error(
                "LB405",
                line.found.text,
                f"ports {first.port} (line {first.found.line}) and {line.port} of {address} "
                "are the same server to the kernel",
                "gate and ipip do not change ports; use masq, or one line for the server",
            )
        return False

    def warn_ports(self, check_port: bool) -> None:
        """Warn once of ports that gate and ipip do not send anything to."""
        if not self._mapped:
            return
        line = self._mapped[0]
        more = len({entry.found.line for entry in self._mapped}) - 1
        use = "has no effect" if check_port else "is used for the check only"
        self._report.warn(
            "LB406",
            line.port_text or line.found.text,
            f"port {line.port} {use}: clients reach the server at port {self._port}"
            + (f" (and so in {more} more)" if more else ""),
            "gate and ipip do not change ports; use masq for another port",
        )


def _virtual(key: ServiceKey | None) -> tuple[str, str]:
    """Address, or mark, and port of a virtual service, as external programs get them."""
    if isinstance(key, FwmarkKey):
        return str(key.mark), ""
    return (key.address, str(key.port)) if key is not None else ("", "")
