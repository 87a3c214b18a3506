"""From the `check` of a server or virtual service to checks that can be aimed at servers.

A check is read once where it stands and aimed at every server it serves; equal checkers,
schedules, targets and checks are one object each, however many servers there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from lbhealth.config.loading import CheckerRegistry
from lbhealth.config.schema import CheckTable, HybridTable, Negotiate, Timing
from lbhealth.config.source import nearest
from lbhealth.config.tomlfindings import Findings
from lbhealth.config.tomlsettings import make_checker
from lbhealth.config.tomlspans import Path
from lbhealth.config.tomlvalues import literal_address, said, shown, span_of_time
from lbhealth.config.tomlwords import validate
from lbhealth.errors import PluginLoadError, PluginNotFound
from lbhealth.model import (
    Address,
    Check,
    Checker,
    FwmarkKey,
    HealthState,
    Hybrid,
    InetKey,
    Schedule,
    ServiceKey,
    Target,
    family_of,
    transport_of,
)

__all__ = ["CheckReader", "Plan", "Probe"]

_Value = TypeVar("_Value")

CONNECT_TIMEOUT = 2.0
NEGOTIATE_TIMEOUT = 5.0
"""Seconds; the defaults for checks that only connect (tcp, ping) and for all others."""
FAST_INTERVAL = 1.0

_CONNECTS = frozenset({"tcp", "ping"})
_ASSUMED = {"on": HealthState.UP, "off": HealthState.DOWN}
_PLANNED = frozenset(
    {
        "dns",
        "external",
        "external-perl",
        "ftp",
        "http",
        "http_proxy",
        "https",
        "imap",
        "imaps",
        "ldap",
        "ldaps",
        "mysql",
        "nntp",
        "oracle",
        "pgsql",
        "ping",
        "pop",
        "pops",
        "radius",
        "simpletcp",
        "sip",
        "smtp",
        "submission",
        "tcp",
        "telnet",
    }
)
"""Check types of the finished program; those that the registry lacks are not written yet."""
_OTHER_NAMES = {"connect": "tcp", "icmp": "ping", "none": "on", "pop3": "pop", "postgres": "pgsql"}


@dataclass(frozen=True, slots=True)
class Probe:
    """A check that is not aimed yet.  `port` None: that of the server."""

    checker: Checker
    schedule: Schedule
    hybrid: Hybrid | None
    port: int | None
    server_name: str | None
    source: Address | None
    mark: int
    path: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """All checks of a server; without any, the server is assumed to be up or down."""

    probes: tuple[Probe, ...]
    assumed: HealthState = HealthState.UP


class CheckReader:
    """Reads checks and aims them."""

    def __init__(self, registry: CheckerRegistry, findings: Findings) -> None:
        self._registry = registry
        self._findings = findings
        self._shared: dict[object, Any] = {}

    def share(self, value: _Value) -> _Value:
        """The first object that equals `value`, so that equal ones are one."""
        shared: _Value = self._shared.setdefault((type(value), value), value)
        return shared

    # ----------------------------------------------------------------- reading

    def read(self, raw: object, path: Path) -> Plan | None:
        """The plan of a `check` key (None: the default check), or None if it is wrong."""
        if raw is None:
            raw = {"type": "tcp"}
        if isinstance(raw, dict):
            return self._read_table(raw, path)
        if not isinstance(raw, list):
            self._findings.error(
                "LB304",
                path,
                f"check must be a table or a list of tables, not {said(raw)}",
                help='write check = { type = "tcp" }',
            )
            return None
        if not raw:
            message = "an empty list of checks"
            hint = 'write check = { type = "on" } to serve without a check'
            self._findings.error("LB304", path, message, help=hint)
            return None
        plans = [self._read_element(item, (*path, number)) for number, item in enumerate(raw)]
        if len(plans) > 1:
            self._refuse_assumed(raw, path)
        if any(plan is None for plan in plans):
            return None
        whole = [plan for plan in plans if plan is not None]
        return Plan(tuple(probe for plan in whole for probe in plan.probes), whole[0].assumed)

    def _read_element(self, raw: object, path: Path) -> Plan | None:
        if isinstance(raw, dict):
            return self._read_table(raw, path)
        self._findings.error("LB304", path, f"a check must be a table, not {said(raw)}")
        return None

    def _refuse_assumed(self, raw: list[Any], path: Path) -> None:
        for number, item in enumerate(raw):
            if isinstance(item, dict) and item.get("type") in ("on", "off"):
                self._findings.error(
                    "LB307",
                    (*path, number, "type"),
                    f'"{item["type"]}" makes no sense among other checks',
                    help="leave it out, or leave the others out",
                )

    def _read_table(self, raw: dict[str, Any], path: Path) -> Plan | None:
        if raw.get("type") == "hybrid":
            return self._read_hybrid(raw, path)
        table = validate(CheckTable, raw, path, self._findings)
        kind = raw.get("type")
        if isinstance(kind, str) and kind in _ASSUMED:
            self._warn_unused(raw, kind, path)
            return Plan((), _ASSUMED[kind]) if table else None
        own = {k: v for k, v in raw.items() if k not in CheckTable.model_fields or k == "expect"}
        checker = self._checker(kind, own, path) if isinstance(kind, str) else None
        schedule = self._schedule(table, path) if table else None
        if table is None or checker is None or schedule is None:
            return None
        return self._plan(table, checker, schedule, None, path)

    def _warn_unused(self, raw: Mapping[str, object], kind: str, path: Path) -> None:
        unused = [key for key in raw if key != "type"]
        if unused:
            message = f'the check type "{kind}" checks nothing: {", ".join(unused)} not used'
            self._findings.warning("LB310", (*path, "type"), message)

    def _read_hybrid(self, raw: dict[str, Any], path: Path) -> Plan | None:
        table = validate(HybridTable, raw, path, self._findings)
        full, place = raw.get("negotiate"), (*path, "negotiate")
        negotiate = checker = None
        if isinstance(full, dict):
            negotiate = validate(Negotiate, full, place, self._findings)
            own = {k: v for k, v in full.items() if k not in ("type", "timeout")}
            if isinstance(kind := full.get("type"), str):
                checker = self._checker(kind, own, place)
        connect = self._checker("tcp", {}, path)
        if table is None or negotiate is None or checker is None or connect is None:
            return None
        timeout = NEGOTIATE_TIMEOUT if negotiate.timeout is None else negotiate.timeout
        schedule = self._schedule(table, path, timeout)
        brief = CONNECT_TIMEOUT if table.timeout is None else table.timeout
        hybrid = self.share(Hybrid(table.connects, connect, brief))
        return self._plan(table, checker, schedule, hybrid, path) if schedule else None

    def _plan(
        self,
        table: Timing,
        checker: Checker,
        schedule: Schedule,
        hybrid: Hybrid | None,
        path: Path,
    ) -> Plan | None:
        source = None
        if table.source is not None:
            source = literal_address(table.source)
            if source is None:
                message = f"source is no IP address: {shown(table.source)}"
                self._findings.error("LB415", (*path, "source"), message)
                return None
        for key in ("source", "mark"):
            if getattr(table, key) and not getattr(checker, "owns_sockets", True):
                message = f'{key} has no effect on a check of type "{checker.kind}"'
                hint = "the program opens its sockets itself: tell it by its args"
                self._findings.error("LB425", (*path, key), message, help=hint)
                return None
        name = table.server_name or _server_name(checker)
        probe = Probe(checker, schedule, hybrid, table.port, name, source, table.mark, path)
        return Plan((probe,))

    def _schedule(self, table: Timing, path: Path, timeout: float | None = None) -> Schedule | None:
        """When the check runs; `timeout` is that of a hybrid's full checks."""
        if timeout is None:
            default = CONNECT_TIMEOUT if table.type in _CONNECTS else NEGOTIATE_TIMEOUT
            timeout = default if table.timeout is None else table.timeout
            if timeout > table.interval:
                self._warn_slow(table, timeout, path)
        fast = table.fast_interval
        if fast is not None and fast > table.interval:
            message = f"fast_interval is longer than the interval of {span_of_time(table.interval)}"
            self._findings.error("LB305", (*path, "fast_interval"), message)
            return None
        if fast is None:
            fast = min(FAST_INTERVAL, table.interval)
        return self.share(Schedule(table.interval, timeout, table.rise, table.fall, fast))

    def _warn_slow(self, table: Timing, timeout: float, path: Path) -> None:
        key = "timeout" if table.timeout is not None else "interval"
        self._findings.warning(
            "LB418",
            (*path, key),
            f"the time-out of {span_of_time(timeout)} is longer than the interval of "
            f"{span_of_time(table.interval)}: a server that hangs is checked every "
            f"{span_of_time(timeout)} only",
            help=f'write timeout = "{span_of_time(table.interval)}"',
        )

    # ----------------------------------------------------------------- checkers

    def _checker(self, kind: str, own: Mapping[str, object], path: Path) -> Checker | None:
        place = (*path, "type")
        try:
            found = self._registry.checker(kind)
        except PluginNotFound:
            self._unknown(kind, place)
            return None
        except PluginLoadError as error:
            message = f'the check type "{kind}" cannot be used: {error}'
            self._findings.error("LB414", place, message)
            return None
        checker = make_checker(found, own, path, self._findings)
        return None if checker is None else self.share(checker)

    def _unknown(self, kind: str, place: Path) -> None:
        if kind in _PLANNED:
            message = f'the check type "{kind}" is not available in this version'
            self._findings.error("LB414", place, message)
            return
        other = _OTHER_NAMES.get(kind)
        known = {*self._registry.kinds(), "on", "off", "hybrid"}
        hint = f'did you mean "{other}"?' if other else nearest(kind, sorted(known | _PLANNED))
        if kind == "negotiate":
            hint = 'name the protocol, such as "http"'
        message = f"unknown check type {shown(kind)}"
        help = hint or f"known: {', '.join(sorted(known))}"
        self._findings.error("LB308", place, message, help=help)

    # ----------------------------------------------------------------- aiming

    def aim(
        self,
        plan: Plan,
        address: Address,
        port: int,
        path: Path,
        key: ServiceKey | None = None,
    ) -> tuple[Check, ...]:
        """The checks of the server at `path`, in the service `key`.

        `port` 0 means that it has none of its own.
        """
        protocol = key.protocol if isinstance(key, InetKey) else None
        checks = []
        for probe in plan.probes:
            to = 0 if probe.checker.kind == "ping" else probe.port or port
            if not to and probe.checker.kind not in ("ping", "external", "external-perl"):
                message = f"no port to check on {address}"
                hint = "write check = { port = … }, or give the server a port"
                self._findings.error("LB423", path, message, help=hint)
            if probe.source and family_of(probe.source) != family_of(address):
                message = f"source {probe.source} cannot reach {address}: IPv4 and IPv6 are mixed"
                self._findings.error("LB416", (*probe.path, "source"), message)
            target = Target(
                address,
                to,
                transport_of(probe.checker, protocol),
                server_name=probe.server_name,
                source=probe.source,
                mark=probe.mark,
            )
            checker = probe.checker
            if key is not None and getattr(checker, "virtual_address", None) == "":
                checker = self.share(_for_service(checker, key))
            check = Check(checker, self.share(target), probe.schedule, probe.hybrid)
            checks.append(self.share(check))
        return self.share(tuple(checks))


def _for_service(checker: Any, key: ServiceKey) -> Checker:
    """Tell a checker that wants to know it the virtual service; external programs do."""
    if isinstance(key, FwmarkKey):
        told: Checker = replace(checker, virtual_address=str(key.mark))
    else:
        told = replace(checker, virtual_address=key.address, virtual_port=str(key.port))
    return told


def _server_name(checker: Checker) -> str | None:
    """The TLS server name of an https check: its virtual host, unless that is an address."""
    host = getattr(checker, "host", None) if checker.kind == "https" else None
    if not isinstance(host, str) or not host:
        return None
    name = host.rpartition("]")[0].lstrip("[") or host.partition(":")[0]
    return None if literal_address(name) else name
