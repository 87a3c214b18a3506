"""Events as one line of text each: what happened, to whom, and why."""

from __future__ import annotations

import logging
from typing import assert_never

from lbhealth.events import (
    AdminChanged,
    CheckerTrouble,
    ConfigReloaded,
    DriftHealed,
    DriverChanged,
    Event,
    EventsLost,
    FallbackChanged,
    OperationRefused,
    ServerTransition,
    StrangerFound,
)
from lbhealth.model import HealthState

__all__ = ["level_of", "printable", "words_of"]


def printable(text: str) -> str:
    """Escape what a server could use to write to a terminal or to forge log lines."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def words_of(event: Event) -> str:
    """One line for people, safe to print."""
    return printable(_words(event))


def _words(event: Event) -> str:
    match event:
        case ServerTransition():
            return f"{event.service} {event.server} {event.new} (was {event.old}): {event.why}"
        case AdminChanged():
            by = f" by {event.actor}" if event.actor else ""
            why = f": {event.reason}" if event.reason else ""
            return f"{event.service} {event.server} set {event.state}{by}{why}"
        case FallbackChanged():
            does = "serves" if event.active else "stands by"
            return f"{event.service} fallback {event.server} {does}: {event.why}"
        case CheckerTrouble():
            what = "check runs again" if event.ok else f"check cannot run: {event.detail}"
            return f"{event.service} {event.server} {what}; the server keeps its state"
        case DriftHealed():
            return f"{event.service} was changed by somebody else, put right: {event.operation}"
        case StrangerFound():
            return f"{event.service} holds {event.server}, which is not configured; left alone"
        case OperationRefused():
            return f"{event.service} kernel refused `{event.operation}`: {event.error}"
        case DriverChanged():
            return f"driver {event.detail if event.ok else 'fails: ' + event.detail}"
        case ConfigReloaded():
            return (
                f"configuration reloaded: {event.added} added, {event.changed} changed, "
                f"{event.removed} removed, {event.unchanged} unchanged"
            )
        case EventsLost():
            return f"{event.count} events lost: this reader is too slow"
        case _:
            assert_never(event)


def level_of(event: Event) -> int:
    """The logging level of an event."""
    match event:
        case ServerTransition(new=HealthState.DOWN) | FallbackChanged(active=True):
            return logging.WARNING
        case CheckerTrouble(ok=False) | DriverChanged(ok=False) | OperationRefused():
            return logging.ERROR
        case DriftHealed() | StrangerFound() | EventsLost():
            return logging.WARNING
        case _:
            return logging.INFO
