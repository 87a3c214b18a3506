"""The JSON of `status`, the same for the API and the command line.

`schema` is raised when a field changes its meaning; new fields may come at any time.
"""

from __future__ import annotations

from lbhealth.engine.snapshot import ServerStatus, ServiceStatus, Snapshot
from lbhealth.model import CheckResult

__all__ = ["SCHEMA", "director_document", "server_document", "service_document"]

SCHEMA = 1


def director_document(snapshot: Snapshot) -> dict[str, object]:
    """What `status` says besides the services."""
    return {
        "at": snapshot.at,
        "ready": snapshot.ready,
        "driver": {
            "name": snapshot.driver.name,
            "ok": snapshot.driver.ok,
            "detail": snapshot.driver.detail,
        },
        "checks": {
            "count": snapshot.checks,
            "worst_lag": snapshot.worst_lag,
            "skipped": snapshot.skipped,
        },
    }


def service_document(status: ServiceStatus) -> dict[str, object]:
    """One virtual service without its servers."""
    fallback = status.fallback
    return {
        "service": str(status.key),
        "name": status.name,
        "scheduler": status.scheduler,
        "fallback": {"address": fallback.address, "active": fallback.active} if fallback else None,
    }


def server_document(status: ServerStatus) -> dict[str, object]:
    """One real server."""
    admin = status.admin
    return {
        "server": status.server,
        "health": str(status.health),
        "admin": str(admin.state),
        "admin_reason": admin.reason,
        "admin_actor": admin.actor,
        "admin_until": admin.until,
        "weight": {
            "configured": status.weight.configured,
            "feedback": status.weight.feedback,
            "applied": status.weight.applied,
        },
        "why": status.why,
        "since": status.since,
        "last": _result(status.last, status.age),
    }


def _result(result: CheckResult | None, age: float | None) -> dict[str, object] | None:
    if result is None:
        return None
    return {
        "verdict": str(result.verdict),
        "status": str(result.status),
        "detail": result.detail,
        "duration": round(result.duration, 6),
        "age": round(age, 3) if age is not None else None,
    }
