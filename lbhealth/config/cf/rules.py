"""Value rules: what each kind of directive takes, and the values of one level of a file.

"ldirectord:" marks what its program does, which is not always what its man page says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from lbhealth.config.cf.report import BLANKS, Report, Text, shown
from lbhealth.config.cf.syntax import Directive

__all__ = [
    "MAX_COUNT",
    "Rule",
    "Scope",
    "alert_status",
    "check_type",
    "free_text",
    "keep",
    "matching",
    "numbered",
    "one_of",
    "quoted",
    "real",
    "supervised",
    "yes_no",
]

CHECK_TYPES = ("connect", "negotiate", "ping", "off", "on", "external", "external-perl")

MAX_COUNT = 1_000_000

_DIGITS = re.compile(r"[0-9]+")
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_COMMENT = re.compile(r"[ \t]+#")


@dataclass(slots=True)
class Scope:
    """The values of one level: the whole file, or one virtual section.

    A directive is in at most one of the first three; `places` has all of them, so that a
    later finding can point at them.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    texts: dict[str, Text] = field(default_factory=dict)
    places: dict[str, Directive] = field(default_factory=dict)
    reals: list[Directive] = field(default_factory=list)
    invalid: set[str] = field(default_factory=set)

    def word(self, key: str, default: str = "") -> str:
        """The text of a directive, or `default`."""
        text = self.texts.get(key)
        return default if text is None else text.value


Rule: TypeAlias = Callable[[Scope, Directive, Report], bool]
"""Checks one directive and stores its value; False after it has reported an error."""


# --------------------------------------------------------------------------- value rules


def numbered(low: int, high: int) -> Rule:
    """ldirectord: the first run of digits anywhere in the value."""

    def rule(scope: Scope, found: Directive, report: Report) -> bool:
        value, comment = _comment_cut(found)
        match = _DIGITS.search(value)
        if match is None:
            report.error("LB107", found.place, f'"{found.key}" needs a number')
            return False
        digits = match[0]
        count = int(digits) if len(digits) <= 12 else high + 1
        if not low <= count <= high:
            place = found.text.part(match.start(), match.end())
            report.error("LB107", place, f'"{found.key}" must be {low} to {high}')
            return False
        if digits != value:
            report.warn(
                "LB115",
                found.place,
                f'"{shown(value)}" is read as {count}',
                "only the first digits count; write a whole number",
            )
        elif comment:
            _warn_comment(found, comment, report, "is ignored here, but not after every directive")
        scope.numbers[found.key] = count
        return True

    return rule


def yes_no(scope: Scope, found: Directive, report: Report) -> bool:
    """ldirectord: exactly `yes` or `no`; it refuses a comment after a global one."""
    value, comment = _comment_cut(found)
    if value not in ("yes", "no"):
        report.error(
            "LB108",
            found.place,
            f'"{found.key}" must be yes or no',
            report.suggest(value, ("yes", "no")),
        )
        return False
    if comment:
        _warn_comment(found, comment, report, "is ignored; ldirectord refuses it")
    scope.flags[found.key] = value == "yes"
    return True


def supervised(scope: Scope, found: Directive, report: Report) -> bool:
    """As `yes_no`; ldirectord: a bare `supervised` means yes, with a warning."""
    if found.assigned or found.value:
        return yes_no(scope, found, report)
    report.warn("LB220", found.word, '"supervised" without a value', 'write "supervised=yes"')
    scope.flags[found.key] = True
    return True


def _comment_cut(found: Directive) -> tuple[str, int]:
    """The value without a comment behind it, and the comment's offset (0 = none)."""
    match = _COMMENT.search(found.value)
    if match is None:
        return found.value, 0
    return found.value[: match.start()], match.end() - 1


def _warn_comment(found: Directive, offset: int, report: Report, what: str) -> None:
    report.warn(
        "LB117",
        found.text.part(offset),
        f'comment after the value of global "{found.key}" {what}',
        "put comments on lines of their own",
    )


def one_of(allowed: Iterable[str], *, exact: bool = False, fold: bool = False) -> Rule:
    """One of the `allowed` words.

    ldirectord: the first word of the value counts, quotes and further words do not, except
    where `exact`.
    """
    words = tuple(sorted(allowed))

    def rule(scope: Scope, found: Directive, report: Report) -> bool:
        match = _WORD.search(found.value)
        text = found.text.part(match.start(), match.end()) if match else found.text
        word = text.value.lower() if fold else text.value
        if word not in words or (exact and word != found.value):
            report.error(
                "LB108",
                text if match else found.place,
                f'"{found.key}" cannot be "{shown(text.value)}"'
                if match
                else f'"{found.key}" needs a value',
                report.suggest(word, words) or f"one of: {', '.join(words)}",
            )
            return False
        assert match is not None
        _warn_rest(found, match.end(), report)
        scope.texts[found.key] = text._replace(value=word)
        return True

    return rule


def check_type(scope: Scope, found: Directive, report: Report) -> bool:
    """ldirectord: any value with digits in it is a combined check."""
    match = _DIGITS.search(found.value)
    if match is None:
        return one_of(CHECK_TYPES)(scope, found, report)
    number = int(match[0]) if len(match[0]) <= 12 else MAX_COUNT + 1
    text = found.text.part(match.start(), match.end())
    if number > MAX_COUNT:
        report.error("LB107", text, f'"{found.key}" must be at most {MAX_COUNT}')
        return False
    if match[0] != found.value:
        report.warn(
            "LB209",
            found.text,
            f'"{shown(found.value)}" is read as checktype={number}: one negotiate check, '
            f"then {number} connects",
        )
    scope.numbers[found.key] = number
    return True


def quoted(scope: Scope, found: Directive, report: Report) -> bool:
    """ldirectord: quotes required, greedy to the last one, what follows is ignored."""
    value = found.value
    if found.cut:
        report.error(
            "LB110",
            found.place,
            f'the value of "{found.key}" is cut at the #',
            "# starts a comment even inside quotes; write \\x23 in a regular expression, "
            "%23 in a request",
        )
        return False
    end = value.rfind('"')
    if not value.startswith('"') or end < 1:
        report.error(
            "LB109",
            found.place,
            f'the value of "{found.key}" must be in double quotes',
            f'write {found.key}="..."',
        )
        return False
    if end == 1:
        report.error("LB106", found.place, f'"{found.key}" is empty', "leave the line out")
        return False
    _warn_rest(found, end + 1, report)
    scope.texts[found.key] = found.text.part(1, end).untabbed()
    return True


def free_text(*, empty: bool = False, unquote: bool = False) -> Rule:
    """The rest of the line; with `unquote`, one pair of quotes around it does not count."""

    def rule(scope: Scope, found: Directive, report: Report) -> bool:
        text = found.text
        if found.cut:
            report.warn(
                "LB110",
                found.place,
                f'the value of "{found.key}" is cut at the #',
                "# starts a comment even inside quotes",
            )
        if unquote and text.value.startswith('"'):
            end = text.value.rfind('"')
            text = text.part(1, end if end > 0 else None)
        if not text.value and not empty:
            report.error("LB106", found.place, f'"{found.key}" needs a value')
            return False
        scope.texts[found.key] = text.untabbed()
        return True

    return rule


def _warn_rest(found: Directive, start: int, report: Report) -> None:
    rest = found.value[start:].strip(BLANKS + '"')
    if rest and not rest.startswith("#"):
        offset = found.value.index(rest, start)
        report.warn("LB114", found.text.part(offset), f'text after "{found.key}" is ignored')


def matching(pattern: str, what: str) -> Rule:
    """ldirectord: the first match of `pattern` in the value."""
    compiled = re.compile(pattern)

    def rule(scope: Scope, found: Directive, report: Report) -> bool:
        match = compiled.search(found.value)
        if match is None:
            report.error("LB106", found.place, f'"{found.key}" needs {what}')
            return False
        _warn_rest(found, match.end(), report)
        scope.texts[found.key] = found.text.part(match.start(), match.end())
        return True

    return rule


_ALERT_STATES = ("all", "none", "reloading", "running", "starting", "stopping")


def alert_status(scope: Scope, found: Directive, report: Report) -> bool:
    """A list of states with commas; ldirectord: `none` stands alone, an empty list is allowed."""
    states = list(re.finditer(r"[^, \t\"]+", found.value))
    good = True
    for match in states:
        place = found.text.part(match.start(), match.end())
        if match[0] not in _ALERT_STATES:
            help = report.suggest(match[0], _ALERT_STATES) or f"any of: {', '.join(_ALERT_STATES)}"
            report.error("LB108", place, f'unknown state "{shown(match[0])}"', help)
            good = False
        elif match[0] == "none" and len(states) > 1:
            report.error("LB108", place, '"none" stands alone', "leave the other states out")
            good = False
    if good:
        text = found.text
        scope.texts[found.key] = text._replace(value=",".join(m[0] for m in states))
    return good


def keep(scope: Scope, found: Directive, report: Report) -> bool:
    """Take the value as it is: it is read when the whole section is known."""
    scope.texts[found.key] = found.text
    return True


def real(scope: Scope, found: Directive, report: Report) -> bool:
    """Keep a server's line until the whole section is known."""
    del report
    scope.reals.append(found)
    return True
