"""From checktype, service and time-outs to `Check` values.

A section has one plan, and one more for each different request on its `real` lines; equal
plans of several sections are one object, and so are the checks made from them.
"""

from __future__ import annotations

from functools import cached_property

from lbhealth.config.cf.kit import CheckKit, Plan, Settings
from lbhealth.config.cf.report import Report, Text, shown
from lbhealth.config.cf.rules import Scope
from lbhealth.config.cf.services import SERVICE_OF_PORT, SERVICES, Facts, Origin, Recipe
from lbhealth.config.source import Span
from lbhealth.model import (
    Address,
    Checker,
    HealthState,
    Hybrid,
    Schedule,
    TransportProtocol,
    transport_of,
)

__all__ = ["Planner"]

DEFAULT_INTERVAL = 10
DEFAULT_CHECK_TIMEOUT = 5
DEFAULT_NEGOTIATE_TIMEOUT = 30
"""Seconds; ldirectord's own, also where they are longer than anyone would choose."""


_PROGRAMS = ("external", "external-perl")


class Planner:
    """Plans the checks of one section."""

    def __init__(
        self,
        kit: CheckKit,
        report: Report,
        scope: Scope,
        shared: Scope,
        *,
        head: Text,
        port: int | None,
        protocol: TransportProtocol,
        virtual: tuple[str, str],
    ) -> None:
        """`port` is the virtual port, None for a firewall mark; `head` the `virtual` line.

        `virtual` is the address, or the mark, and the port for external programs.
        """
        self._virtual = virtual
        self._kit = kit
        self._report = report
        self._scope = scope
        self._shared = shared
        self._head = head
        self._protocol = protocol
        self.type = scope.word("checktype", "negotiate")
        self.connects = scope.numbers.get("checktype")
        self.service = scope.word("service") or SERVICE_OF_PORT.get(port or 0, "none")
        self._check_port = scope.numbers.get("checkport")
        self._plans: dict[tuple[str, str], Plan | None] = {}
        self._default: Plan | None = None
        self._default_known = False

    # ----------------------------------------------------------------------- for each server

    @property
    def used(self) -> bool:
        """Say whether any plan has been made."""
        return bool(self._plans)

    def plan(self, request: Text | None = None, receive: Text | None = None) -> Plan | None:
        """The plan for a `real` line; None after an error is reported."""
        if request is None or receive is None:
            if not self._default_known:
                empty = self._head.part(0, 0)
                texts = self._scope.texts
                request, receive = texts.get("request", empty), texts.get("receive", empty)
                self._default_known = True
                self._default = self._plan(request, receive)
            return self._default
        return self._plan(request, receive)

    def port(self, port: int) -> int:
        """The check port of a server with this port; 0 if there is none."""
        if self.type in _PROGRAMS:
            return port  # ldirectord: programs are told the real server's port, 0 for a mark
        return self._check_port or port or SERVICES[self.service].port or 0

    def aims(self, plan: Plan) -> bool:
        """Say whether a check of this plan goes to a port, if there is one."""
        return plan.checker is not None and plan.checker.kind != "ping"

    def needs_port(self, plan: Plan) -> bool:
        """Say whether a check of this plan cannot do without a port."""
        return plan.checker is not None and plan.checker.kind not in ("ping", *_PROGRAMS)

    def warn_elsewhere(self, request: Text, address: Address, port: int) -> None:
        """Warn of a request that is a URL of another server than the one that is checked."""
        build = SERVICES[self.service].build
        if "://" not in request.value or build is None or self.type != "negotiate":
            return
        recipe = build(Facts(self.service, request, request, self._scope.texts))
        if recipe.elsewhere is None:
            return
        host, url_port = recipe.elsewhere
        if host == address and (url_port or SERVICES[self.service].port) == port:
            return
        self._report.warn(
            "LB217",
            request,
            f'the URL names "{shown(host)}", but each real server is checked at its own '
            "address and check port",
            "ldirectord asks the host in the URL, whatever the real server does; "
            "write the path alone, and the name as virtualhost",
        )

    # ----------------------------------------------------------------------- timing

    def _number(self, *keys: str, default: int) -> int:
        """The first that is given: each key in the section, then each in the file."""
        for scope in (self._scope, self._shared):
            for key in keys:
                if key in scope.numbers:
                    return scope.numbers[key]
        return default

    @cached_property
    def check_timeout(self) -> int:
        """Seconds for a connect, a ping, an external check."""
        return self._number("checktimeout", "negotiatetimeout", default=DEFAULT_CHECK_TIMEOUT)

    @cached_property
    def negotiate_timeout(self) -> int:
        """Seconds for a service's own check."""
        return self._number("negotiatetimeout", "checktimeout", default=DEFAULT_NEGOTIATE_TIMEOUT)

    def _schedule(self, timeout: int) -> Schedule:
        interval = self._number("checkinterval", default=DEFAULT_INTERVAL)
        fall = self._number("failurecount", default=1)
        return Schedule(float(interval), float(timeout), 1, fall, float(interval))

    # ----------------------------------------------------------------------- planning

    def _plan(self, request: Text, receive: Text) -> Plan | None:
        key = (request.value, receive.value)
        if key not in self._plans:
            self._plans[key] = self._choose(request, receive)
        return self._plans[key]

    def _choose(self, request: Text, receive: Text) -> Plan | None:
        kit = self._kit
        if {"checktype", "service"} & self._scope.invalid:
            return kit.unchecked[HealthState.UP]  # reported already; go on for the other errors
        if self.type == "on":
            return kit.unchecked[HealthState.UP]
        if self.type == "off":
            return kit.unchecked[HealthState.DOWN]
        if self.type == "ping":
            attempts = self._number("checkcount", default=1)
            checker = self._simple("ping", {"attempts": attempts})
            schedule = self._schedule(attempts * self.check_timeout)
            return kit.plan(checker, schedule) if checker else None
        if self.type == "connect":
            return self._connect()
        if self.type.startswith("external"):
            return self._external()
        return self._negotiate(Facts(self.service, request, receive, self._scope.texts))

    def _simple(self, kind: str, settings: Settings | None = None) -> Checker | None:
        return self._kit.checker(kind, settings or {}, {}, self._place("checktype"))

    def _connecting(self) -> Checker | None:
        """ldirectord: a connect to a udp service is a ping."""
        return self._simple("ping" if self._protocol is TransportProtocol.UDP else "tcp")

    def _connect(self) -> Plan | None:
        checker = self._connecting()
        return self._kit.plan(checker, self._schedule(self.check_timeout)) if checker else None

    def _external(self) -> Plan | None:
        if "checkcommand" not in self._scope.texts:
            self._report.warn(
                "LB214",
                self._place("checktype"),
                f'checktype={self.type} without a "checkcommand"',
                "ldirectord runs /bin/true: every server counts as up",
            )
        place = self._place("checktype")
        if self.type not in self._kit.kinds:
            return self._meanwhile(self.type, place)
        settings = {
            "command": self._scope.word("checkcommand") or "/bin/true",
            "virtual_address": self._virtual[0],
            "virtual_port": self._virtual[1],
        }
        origins: dict[str, Origin] = {}
        if "checkcommand" in self._scope.texts:
            origins["command"] = ("checkcommand", self._scope.texts["checkcommand"])
        checker = self._kit.checker(self.type, settings, origins, place)
        return self._kit.plan(checker, self._schedule(self.check_timeout)) if checker else None

    def _meanwhile(self, kind: str, place: Text | Span) -> Plan | None:
        how = "a ping" if self._protocol is TransportProtocol.UDP else "a TCP connect"
        self._report.warn(
            "LB281",
            place,
            f"the {kind} check is not available in this version; "
            f"the servers are judged by {how} meanwhile",
        )
        return self._connect()

    def _negotiate(self, facts: Facts) -> Plan | None:
        service = SERVICES[self.service]
        if self.service == "none":
            # ldirectord: the negotiate half is always up, so of a combined check the connect
            # half alone decides.
            return self._connect() if self.connects else self._kit.unchecked[HealthState.UP]
        if self.service == "oracle":
            self._report.error(
                "LB210",
                self._place("service"),
                "Oracle is not supported",
                "use checktype=external with a script that asks the database",
            )
            return None
        if not self._complete(facts):
            return None
        if service.build is None:
            return self._meanwhile(self.service, self._place("service"))
        recipe = service.build(facts)
        if recipe.kind not in self._kit.kinds:
            return self._meanwhile(self.service, self._place("service"))
        return self._from_recipe(recipe, facts)

    def _from_recipe(self, recipe: Recipe, facts: Facts) -> Plan | None:
        place = self._place("service")
        checker = self._kit.checker(recipe.kind, recipe.settings, recipe.origins, place)
        if recipe.settings.get("method") == "HEAD" and facts.receive.value:
            self._report.warn(
                "LB216",
                facts.receive,
                "the answer to HEAD has no body, so this never matches",
                "use httpmethod=GET, or leave receive out",
            )
        hybrid = None
        if self.connects:
            connect = self._connecting()
            if connect is None:
                return None
            hybrid = Hybrid(self.connects, connect, float(self.check_timeout))
        if checker is None:
            return None
        schedule = self._schedule(self.negotiate_timeout)
        # A firewall mark says nothing of the protocol: then the checker's usual one.
        wanted = self._protocol if self._virtual[1] else None
        protocol = transport_of(checker, wanted)
        return self._kit.plan(checker, schedule, hybrid, protocol, recipe.server_name)

    def _complete(self, facts: Facts) -> bool:
        """Report what a service's check cannot do without; False after an error."""
        given = {"request": facts.request.value, "receive": facts.receive.value}
        missing = [
            key
            for key in SERVICES[self.service].needs
            if not given.get(key) and not facts.word(key) and key not in self._scope.invalid
        ]
        place = self._place("service")
        if missing and self.service == "dns":
            self._report.error(
                "LB212",
                place,
                'a DNS check without "receive"',
                "ldirectord never counts such a server as up; "
                'write receive="..." for the address that must be in the answer',
            )
        elif missing:
            self._report.error(
                "LB211",
                place,
                f"a {self.service} check without {' and '.join(missing)}",
                "ldirectord never adds such a server; add the missing lines, "
                "or use checktype=connect",
            )
        elif self.service in ("pop", "pops", "imap", "imaps") and not facts.word("login"):
            self._report.warn(
                "LB213",
                place,
                f'a {self.service} check without "login" goes no further than the greeting',
                "ldirectord counts a pop server without login as up, whatever it does"
                if self.service.startswith("pop")
                else "",
            )
        return not missing

    def _place(self, key: str) -> Text | Span:
        """Where to point for a fault of `key`: its value, or the `virtual` line."""
        found = self._scope.places.get(key)
        return self._head if found is None else found.place
