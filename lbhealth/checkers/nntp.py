"""The `nntp` check (RFC 3977): greeting, STARTTLS, AUTHINFO, GROUP, QUIT."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from lbhealth.checkers.account import AccountCheck
from lbhealth.checkers.dialogue import Answer, Expect, Quit, Script, Send, StartTls
from lbhealth.checkers.settings import check_line
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import Status

__all__ = ["Nntp"]

_ANSWER = re.compile(rb"([1-5][0-9][0-9])(?: |$)")
_CLOSED = frozenset({400, 502})
"""Not now, or not for this client; the server hangs up (RFC 3977, 5.1.1)."""


@dataclass(frozen=True, slots=True)
class Nntp(AccountCheck):
    """Passes at the greeting 200 or 201; then as asked for: STARTTLS, a login, a group.

    `group` is the name of a newsgroup that must exist.  (ldirectord passes whatever begins
    with `2`, and looks no further.)
    """

    kind: ClassVar[str] = "nntp"

    group: str | None = None

    def __post_init__(self) -> None:
        """A group's name is one word (RFC 3977, 4.1)."""
        AccountCheck.__post_init__(self)
        check_line("group", self.group)
        if self.group and any(c.isspace() or c in "*?[]\\!," for c in self.group):
            raise SettingError("group", "must be the name of one newsgroup")

    def script(self) -> Script:
        """The dialogue."""
        (greeting,) = yield Expect("the greeting")
        code = self._code(greeting, "no NNTP greeting")
        self._refuse_closed(code, greeting)
        if code not in (200, 201):
            raise CheckFailed(Status.L7RSP, f"no good greeting: {self.show(greeting)}")
        word = "ready" if code == 200 else "ready, posting prohibited"
        if self.login or self.group or self.tls == "starttls":
            # To the readers' half of the server, before all else (RFC 3977, 5.3): innd itself
            # knows none of what follows.  One that needs no such switch may refuse it.
            yield from self._ask(b"MODE READER")
        if self.tls == "starttls":
            yield from self._demand(b"STARTTLS", 382)
            yield StartTls()
        if self.login:
            yield from self._authenticate(self.login)
            word += ", logged in"
        if self.group:
            word += yield from self._select(self.group)
        yield Quit(b"QUIT\r\n")
        return word

    def _authenticate(self, login: str) -> Script:
        user = login.encode("utf-8", "surrogateescape")
        answer = yield from self._ask(b"AUTHINFO USER " + user)
        if answer.startswith(b"381"):
            password = (self.password or "").encode("utf-8", "surrogateescape")
            answer = yield from self._ask(b"AUTHINFO PASS " + password, b"AUTHINFO PASS ***")
        if not answer.startswith(b"281"):
            raise CheckFailed(Status.L7STS, f"login refused: {self.show(answer)}")
        return ""

    def _select(self, group: str) -> Script:
        answer = yield from self._ask(b"GROUP " + group.encode("utf-8", "surrogateescape"))
        if answer.startswith(b"211"):
            return f", group {group}"
        if answer.startswith(b"411"):
            raise CheckFailed(Status.L7RSP, f"no such group: {self.show(answer)}")
        raise CheckFailed(Status.L7STS, f"GROUP refused: {self.show(answer)}")

    def _demand(self, command: bytes, wanted: int) -> Script:
        answer = yield from self._ask(command)
        if self._code(answer) != wanted:
            raise CheckFailed(Status.L7STS, f"{command.decode()} refused: {self.show(answer)}")
        return ""

    def _ask(self, command: bytes, shown: bytes | None = None) -> Answer:
        """The answer to a command, if it is one at all and the server stays."""
        yield Send(command + b"\r\n", None if shown is None else shown + b"\r\n")
        (answer,) = yield Expect(f"the answer to {command.split()[0].decode()}")
        if self._code(answer) == 400:
            self._refuse_closed(400, answer)
        return answer

    def _code(self, line: bytes, wrong: str = "no NNTP answer") -> int:
        match = _ANSWER.match(line)
        if match is None:
            raise CheckFailed(Status.L7RSP, f"{wrong}: {self.show(line)}")
        return int(match[1])

    def _refuse_closed(self, code: int, line: bytes) -> None:
        if code in _CLOSED:
            raise CheckFailed(Status.L7STS, f"the server is not available: {self.show(line)}")
