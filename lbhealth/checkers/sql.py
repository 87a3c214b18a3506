"""What the checks of SQL servers have in common: their settings' rules, and the verdict."""

from __future__ import annotations

from typing import ClassVar

from lbhealth.checkers.outcome import printable
from lbhealth.checkers.settings import check_tls
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import Passed, Status

__all__ = ["SqlSettings", "judge_rows"]

_MAX_NAME = 255
_MAX_TEXT = 10_000


class SqlSettings:
    """The rules for the fields of an SQL check, which its dataclass declares."""

    __slots__ = ()

    owns_sockets: ClassVar[bool] = True

    login: str | None
    password: str | None
    database: str | None
    request: str | None
    value: str | None
    tls: str
    verify: bool
    ca_file: str | None

    def __post_init__(self) -> None:
        """Let empty texts be no texts, and refuse what makes no sense."""
        for name in ("login", "password", "database", "request"):
            object.__setattr__(self, name, getattr(self, name) or None)
        for name, limit in (
            *(("login", _MAX_NAME), ("password", _MAX_TEXT), ("database", _MAX_NAME)),
            *(("request", _MAX_TEXT), ("value", _MAX_TEXT)),
        ):
            text = getattr(self, name)
            if text is not None and len(text) > limit:
                raise SettingError(name, f"has more than {limit} characters", limit)
            if text is not None and "\0" in text:
                raise SettingError(name, "must not contain NUL", text.index("\0"))
        for name in ("password", "database", "request"):
            if getattr(self, name) is not None and self.login is None:
                raise SettingError("login", f"is needed for the {name}")
        if self.value is not None and self.request is None:
            raise SettingError("value", "needs a query (request), whose first value it judges")
        check_tls(self.tls, self.verify, self.ca_file)
        if self.tls == "implicit":
            raise SettingError("tls", "must be none or starttls: the protocol asks for TLS itself")


def judge_rows(rows: int, first: str | None, value: str | None, status: str = "") -> Passed:
    """The verdict on a query that gave `rows` rows, or changed as many.

    `first` is the first column of the first row, None where that is NULL; `value` what it must
    be, None where anything will do.  Raises CheckFailed.
    """
    if rows < 1:
        raise CheckFailed(Status.L7RSP, "the query gave no row")
    shown = "NULL" if first is None else f'"{printable(first, 60)}"'
    if value is None:
        return Passed(Status.L7OK, status or "the query gave a row")
    if first != value:
        raise CheckFailed(
            Status.L7RSP, f'the query gave {shown} instead of "{printable(value, 60)}"'
        )
    return Passed(Status.L7OK, f"the query gave {shown}")
