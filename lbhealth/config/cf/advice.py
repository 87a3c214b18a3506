"""Warnings about what is allowed but surprising, and the two lists of a file's unusual parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from lbhealth.config.cf.checks import Planner
from lbhealth.config.cf.report import Report, Text
from lbhealth.config.cf.rules import Scope
from lbhealth.config.cf.services import EXTENSION_SERVICES
from lbhealth.config.cf.settings import EXTENSIONS, NOT_YET
from lbhealth.config.cf.syntax import Directive
from lbhealth.config.source import Span
from lbhealth.model import RealServer, VirtualService
from lbhealth.policy import refuses_at_zero

__all__ = ["on_file", "on_service"]


def on_service(
    service: VirtualService, head: Directive, scope: Scope, planner: Planner, report: Report
) -> VirtualService:
    """Warn about one service; return it, changed where ldirectord's meaning asks for it."""

    def place(key: str) -> Text | Span:
        found = scope.places.get(key)
        return head.text if found is None else found.place

    if refuses_at_zero(service.scheduler, service.flags):
        flag = (
            "" if service.scheduler == "dh" else f"; or add schedflags={service.scheduler}-fallback"
        )
        report.warn(
            "LB407",
            place("scheduler"),
            f"{service.scheduler} refuses the clients of a server of weight 0",
            f"failed and drained servers are therefore removed, not quiesced{flag}",
        )
    if service.fallback is not None and any(server.weight == 0 for server in service.real):
        report.warn(
            "LB413",
            place("fallback6" if head.key == "virtual6" else "fallback"),
            "a healthy server of weight 0 keeps the fallback out of service",
            "as in ldirectord; take the server out of the file to change that",
        )
    if "checkcount" in scope.places and planner.type != "ping":
        report.warn("LB218", place("checkcount"), "checkcount has an effect on ping checks only")
    if not service.real and not scope.reals:
        return _alone(service, head, report)
    return service


def _alone(service: VirtualService, head: Directive, report: Report) -> VirtualService:
    fallback = service.fallback
    if fallback is None:
        report.warn("LB219", head.text, "no real servers and no fallback: nobody serves")
        return service
    report.warn(
        "LB219", head.text, "no real servers: the fallback serves alone, and is not checked"
    )
    # ldirectord: the fallback serves while no real server is up, so here always.
    server = RealServer(
        address=fallback.address, port=fallback.port, forwarding=fallback.forwarding
    )
    return dataclasses.replace(service, real=(server,), fallback=None)


def on_file(shared: Scope, sections: Sequence[Scope], report: Report) -> None:
    """Say once what of the file has no effect yet, and what ldirectord would refuse."""
    scopes = (shared, *sections)
    _list(
        [p for s in scopes for key, p in s.places.items() if key in NOT_YET],
        "LB280",
        "checked, but not acted on in this version",
        report,
    )
    extensions = [p for s in scopes for key, p in s.places.items() if key in EXTENSIONS]
    extensions += [s.places["service"] for s in sections if s.word("service") in EXTENSION_SERVICES]
    _list(extensions, "LB290", "not known to ldirectord, which refuses the file", report)


def _list(found: Iterable[Directive], code: str, what: str, report: Report) -> None:
    directives = sorted(found, key=lambda d: (d.line, d.key_column))
    if not directives:
        return
    lines: dict[str, list[int]] = {}
    for directive in directives:
        name = f"service={directive.value}" if directive.key == "service" else directive.key
        lines.setdefault(name, []).append(directive.line)
    names = ", ".join(f"{name} (line {_numbers(where)})" for name, where in lines.items())
    report.warn(code, directives[0].word, f"{what}: {names}")


def _numbers(lines: Sequence[int]) -> str:
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    return ", ".join(map(str, lines[:3])) + more
