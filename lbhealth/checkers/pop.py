"""The `pop` and `pops` checks (RFC 1939): greeting, STLS, APOP or USER and PASS, QUIT."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import ClassVar

from lbhealth.checkers.account import AccountCheck
from lbhealth.checkers.dialogue import Expect, Lines, Quit, Script, Send, StartTls
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import Status

__all__ = ["Pop", "Pops"]

_TIMESTAMP = re.compile(rb"<[^<>\s]+@[^<>\s]+>")
_BUSY = re.compile(rb"-ERR \[(?:IN-USE|LOGIN-DELAY|SYS/)", re.IGNORECASE)
"""Response codes that are not about the password (RFC 2449, 8; RFC 3206)."""


@dataclass(frozen=True, slots=True)
class Pop(AccountCheck):
    """Passes at a good greeting; with `login`, when the server also lets it in.

    The login goes by APOP when the greeting has a timestamp (RFC 1939, 7), as in ldirectord,
    else by USER and PASS.  (Without a login ldirectord passes whatever the server does.)
    """

    kind: ClassVar[str] = "pop"

    def __post_init__(self) -> None:
        """Servers take blanks around a name for no part of it."""
        AccountCheck.__post_init__(self)
        if self.login and self.login != self.login.strip():
            raise SettingError("login", "must not begin or end with a blank")

    def script(self) -> Script:
        """The dialogue."""
        (greeting,) = yield Expect("the greeting")
        if greeting.upper().startswith(b"-ERR"):
            raise CheckFailed(Status.L7STS, f"the server is busy or closing: {self.show(greeting)}")
        if not _is_ok(greeting):
            raise CheckFailed(Status.L7RSP, f"no POP3 greeting: {self.show(greeting)}")
        if self.tls == "starttls":
            yield from self._command("STLS", b"STLS")
            yield StartTls()
        if self.login:
            yield from self._login(self.login, greeting)
        yield Quit(b"QUIT\r\n")
        return "logged in" if self.login else "ready"

    def _login(self, login: str, greeting: bytes) -> Lines:
        user = login.encode("utf-8", "surrogateescape")
        password = (self.password or "").encode("utf-8", "surrogateescape")
        stamp = _TIMESTAMP.search(greeting)
        if stamp is not None and b" " not in user:
            digest = hashlib.md5(stamp[0] + password, usedforsecurity=False).hexdigest()
            return (
                yield from self._command(
                    "APOP", b"APOP %b %b" % (user, digest.encode()), b"APOP %b ***" % user
                )
            )
        yield from self._command("USER", b"USER " + user)
        return (yield from self._command("PASS", b"PASS " + password, b"PASS ***"))

    def _command(self, what: str, command: bytes, shown: bytes | None = None) -> Lines:
        yield Send(command + b"\r\n", None if shown is None else shown + b"\r\n")
        lines = yield Expect(f"the answer to {what}")
        answer = lines[-1]
        if _is_ok(answer):
            return lines
        if _BUSY.match(answer):
            raise CheckFailed(Status.L7STS, f"the server is busy: {self.show(answer)}")
        if answer.upper().startswith(b"-ERR"):
            raise CheckFailed(Status.L7STS, f"{what} refused: {self.show(answer)}")
        raise CheckFailed(Status.L7RSP, f"bad answer to {what}: {self.show(answer)}")


@dataclass(frozen=True, slots=True)
class Pops(Pop):
    """The same over TLS from the first byte."""

    kind: ClassVar[str] = "pops"

    tls: str = "implicit"


def _is_ok(line: bytes) -> bool:
    return line[:4].upper().rstrip(b" ") == b"+OK"
