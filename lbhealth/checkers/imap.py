"""The `imap` and `imaps` checks (RFC 3501): greeting, STARTTLS, LOGIN, LOGOUT."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from lbhealth.checkers.account import AccountCheck
from lbhealth.checkers.dialogue import Expect, Lines, Quit, Script, Send, StartTls
from lbhealth.errors import CheckFailed
from lbhealth.model import Status

__all__ = ["Imap", "Imaps"]

_GREETING = re.compile(rb"\* (OK|PREAUTH|BYE)(?: |$)", re.IGNORECASE)
_BYE = re.compile(rb"\* BYE(?: |$)", re.IGNORECASE)
_CAPABILITIES = re.compile(rb"\[CAPABILITY ([^\]]*)\]|^\* CAPABILITY (.*)", re.IGNORECASE)
_LONGEST_QUOTED = 1000
"""Bytes; servers limit their command lines, and literals do not count there."""


@dataclass(frozen=True, slots=True)
class Imap(AccountCheck):
    """Passes at a good greeting; with `login`, when the server also accepts LOGIN.

    `* BYE` as a greeting means that the server is busy or closing (RFC 3501, 7.1.5).  LOGIN
    is not tried where the server forbids it (LOGINDISABLED, RFC 3501, 6.2.3).
    """

    kind: ClassVar[str] = "imap"

    def script(self) -> Script:
        """The dialogue: each command has a tag of its own."""
        (greeting,) = yield Expect("the greeting")
        match = _GREETING.match(greeting)
        if match is None:
            raise CheckFailed(Status.L7RSP, f"no IMAP greeting: {self.show(greeting)}")
        kind = match[1].upper()
        if kind == b"BYE":
            raise CheckFailed(Status.L7STS, f"the server is busy or closing: {self.show(greeting)}")
        if self.tls == "starttls":
            if kind == b"PREAUTH":  # STARTTLS is for the state before (RFC 3501, 6.2.1)
                raise CheckFailed(Status.L7STS, "the greeting PREAUTH rules STARTTLS out")
            yield from self._command(b"a1", b"STARTTLS")
            yield StartTls()
            greeting = b""  # what was said unprotected no longer counts
        word = "ready" if not self.login else "logged in"
        if kind == b"PREAUTH":
            word = "ready, authenticated by the connection itself"
        elif self.login:
            yield from self._login(greeting)
        yield Quit(b"a9 LOGOUT\r\n")
        return word

    def secrets(self) -> tuple[str | bytes, ...]:
        """The password, bare and as it looks inside quotes."""
        return (self.password, _quoted(self.password)[1:-1]) if self.password else ()

    def _login(self, greeting: bytes) -> Script:
        said = _CAPABILITIES.search(greeting)
        if said is None:
            lines = yield from self._command(b"a2", b"CAPABILITY")
            said = next(filter(None, map(_CAPABILITIES.search, lines)), None)
        if said is not None and b"LOGINDISABLED" in (said[1] or said[2]).upper().split():
            raise CheckFailed(Status.L7STS, "the server forbids LOGIN here (LOGINDISABLED)")
        command = b"a3 LOGIN"
        for text in (self.login or "", self.password or ""):
            argument = _quoted(text)
            if len(argument) > _LONGEST_QUOTED or not argument.isascii():
                data = text.encode("utf-8", "surrogateescape")
                yield Send(b"%b {%d}\r\n" % (command, len(data)))
                yield Expect("the consent to a literal", self._consent)
                command, argument = b"", data
            command += (b" " if command else b"") + argument
        yield Send(command + b"\r\n")
        yield from self._answer(b"a3", "LOGIN")
        return ""

    def _command(self, tag: bytes, words: bytes) -> Lines:
        yield Send(tag + b" " + words + b"\r\n")
        return (yield from self._answer(tag, words.decode()))

    def _answer(self, tag: bytes, what: str) -> Lines:
        """The lines of an answer that is OK; CheckFailed for any other."""
        lines = yield Expect(f"the answer to {what}", self._last(tag))
        status = lines[-1][len(tag) + 1 :].split(b" ", 1)[0].upper()
        if status == b"OK":
            return lines
        if status == b"NO":
            raise CheckFailed(Status.L7STS, f"{what} refused: {self.show(lines[-1])}")
        raise CheckFailed(Status.L7RSP, f"bad answer to {what}: {self.show(lines[-1])}")

    def _last(self, tag: bytes) -> Callable[[bytes], bool]:
        return lambda line: line.startswith(tag + b" ") or self._untagged(line)

    def _consent(self, line: bytes) -> bool:
        if line.startswith(b"a3 "):
            raise CheckFailed(Status.L7STS, f"LOGIN refused: {self.show(line)}")
        return line.startswith(b"+") or self._untagged(line)

    def _untagged(self, line: bytes) -> bool:
        """Not the last line; CheckFailed for the news that the server hangs up."""
        if _BYE.match(line):
            raise CheckFailed(Status.L7STS, f"the server is closing: {self.show(line)}")
        if not line.startswith(b"* "):
            raise CheckFailed(Status.L7RSP, f"no IMAP answer: {self.show(line)}")
        return False


@dataclass(frozen=True, slots=True)
class Imaps(Imap):
    """The same over TLS from the first byte."""

    kind: ClassVar[str] = "imaps"

    tls: str = "implicit"


def _quoted(text: str) -> bytes:
    r"""A quoted string (RFC 3501, 4.3): `\` and `"` are escaped."""
    data = text.encode("utf-8", "surrogateescape")
    return b'"' + data.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
