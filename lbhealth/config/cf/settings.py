"""The tables of all directives, and reading a level of a file by them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lbhealth.config.cf.report import Report, shown
from lbhealth.config.cf.rules import (
    MAX_COUNT,
    Rule,
    Scope,
    alert_status,
    check_type,
    free_text,
    keep,
    matching,
    numbered,
    one_of,
    quoted,
    real,
    supervised,
    yes_no,
)
from lbhealth.config.cf.services import EXTENSION_SERVICES, SERVICES
from lbhealth.config.cf.syntax import HEADS, Directive

__all__ = ["EXTENSIONS", "GLOBAL", "NOT_YET", "VIRTUAL", "read_global", "read_virtual"]

NOT_YET = (
    "callback",
    "emailalert",
    "emailalertfreq",
    "emailalertfrom",
    "emailalertstatus",
    "execute",
    "fallbackcommand",
    "feedback",
    "feedbackinterval",
    "feedbackport",
    "maintenancedir",
    "monitorfile",
    "smtp",
)
"""Directives that are checked but have no effect in this version."""

EXTENSIONS = ("feedback", "feedbackinterval", "feedbackport")
"""Directives that ldirectord does not know."""

MAX_PERSISTENCE = 86_400 * 31
"""Seconds; ipvsadm refuses more, and 0."""

_MAX_SECONDS = 86_400 * 365
_WORD = re.compile(r"[A-Za-z0-9_-]+")


_SECONDS = numbered(1, _MAX_SECONDS)
_COUNT = numbered(1, MAX_COUNT)

_BOTH: Mapping[str, Rule] = {
    "checkcount": _COUNT,
    "checkinterval": _SECONDS,
    "checktimeout": _SECONDS,
    "cleanstop": yes_no,
    "emailalert": free_text(unquote=True),
    "emailalertfreq": numbered(0, _MAX_SECONDS),
    "emailalertstatus": alert_status,
    "failurecount": _COUNT,
    "fallback": keep,
    "fallback6": keep,
    "negotiatetimeout": _SECONDS,
    "quiescent": yes_no,
    "smtp": matching(r"[0-9A-Za-z._+-]+", "a host name"),
}

GLOBAL: Mapping[str, Rule] = {
    **_BOTH,
    "autoreload": yes_no,
    "callback": quoted,
    "emailalertfrom": free_text(),
    "execute": free_text(empty=True),
    "fallbackcommand": free_text(),
    "fork": yes_no,
    "logfile": quoted,
    "maintenancedir": free_text(),
    "readdquiescent": yes_no,
    "supervised": supervised,
}
"""Directives at column 1."""

VIRTUAL: Mapping[str, Rule] = {
    **_BOTH,
    "checkcommand": free_text(unquote=True),
    "checkport": numbered(1, 65535),
    "checktype": check_type,
    "comment": free_text(empty=True),
    "database": quoted,
    "fallbackcommand": free_text(unquote=True),
    "feedback": one_of(("none", "agent", "http"), exact=True),
    "feedbackinterval": _SECONDS,
    "feedbackport": numbered(1, 65535),
    "httpmethod": one_of(("get", "head"), fold=True),
    "load": quoted,
    "login": quoted,
    "monitorfile": free_text(unquote=True),
    "netmask": free_text(),
    "ops": yes_no,
    "passwd": quoted,
    "persistent": numbered(1, MAX_PERSISTENCE),
    "protocol": one_of(("tcp", "udp", "fwm"), exact=True),
    "real": real,
    "real6": real,
    "receive": quoted,
    "request": quoted,
    "schedflags": matching(r"[^ \t]+", "a scheduler flag"),
    "scheduler": free_text(),
    "secret": quoted,
    "service": one_of(SERVICES),
    "servicename": free_text(empty=True),
    "virtualhost": free_text(empty=True, unquote=True),
}
"""Directives of a virtual section."""

_REPEATABLE = frozenset({"execute", "real", "real6"})

_REMOVED: Mapping[str, str] = {
    "connecttimeout": 'write "checktimeout"',
    "timeout": 'write "checktimeout" or "negotiatetimeout"',
}


def read_global(directives: Iterable[Directive], report: Report) -> Scope:
    """Check the directives at column 1; a later one replaces an earlier one of its name."""
    scope = Scope()
    for found in directives:
        rule = GLOBAL.get(found.key)
        if rule is not None:
            _apply(rule, scope, found, report)
        elif found.key in VIRTUAL:
            report.error(
                "LB103",
                found.word,
                f'"{found.key}" belongs in a virtual section',
                "indent the line by four blanks or a tab",
            )
        else:
            _unknown(found, (*GLOBAL, *HEADS), report)
    return scope


def read_virtual(directives: Iterable[Directive], report: Report) -> Scope:
    """Check the directives of one section."""
    scope = Scope()
    reals = scope.reals
    for found in directives:
        if found.assigned and found.key == "real":  # nearly every line of a large file
            reals.append(found)
            continue
        rule = VIRTUAL.get(found.key)
        if rule is not None:
            _apply(rule, scope, found, report)
        elif found.key in GLOBAL or found.key in HEADS:
            report.error(
                "LB102",
                found.word,
                f'"{found.key}" is not allowed in a virtual section',
                "start the line in column 1",
            )
        else:
            _unknown(found, VIRTUAL, report)
    return scope


def _apply(rule: Rule, scope: Scope, found: Directive, report: Report) -> None:
    key = found.key
    if not found.assigned and rule is not supervised:
        report.error("LB106", found.word, f'"{key}" needs a value', f"write {key}=...")
        scope.invalid.add(key)
        return
    earlier = scope.places.get(key)
    if earlier is not None and key not in _REPEATABLE:
        report.warn(
            "LB116", found.word, f'"{key}" was given in line {earlier.line}; this one counts'
        )
        for values in (scope.numbers, scope.flags, scope.texts):
            values.pop(key, None)
    scope.places[key] = found
    if not rule(scope, found, report):
        scope.invalid.add(key)


def _unknown(found: Directive, known: Iterable[str], report: Report) -> None:
    # Only the leading word is quoted: what follows may be a password.
    match = _WORD.match(found.key)
    word = match[0] if match else found.key[:1]
    if word in _REMOVED:
        report.error("LB105", found.word, f'"{word}" was removed from the language', _REMOVED[word])
        return
    place = found.word.part(0, len(word))
    report.error("LB101", place, f'unknown directive "{shown(word)}"', report.suggest(word, known))


assert set(EXTENSION_SERVICES) <= set(SERVICES)
