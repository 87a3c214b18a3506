"""The `ldap` and `ldaps` checks: a bind, and if asked for a search for one entry."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from lbhealth.checkers.outcome import excerpt, printable
from lbhealth.checkers.patterns import compile_pattern
from lbhealth.checkers.settings import check_tls
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target

if TYPE_CHECKING:
    from lbhealth.checkers.ldap_codec import Answer

__all__ = ["Ldap", "Ldaps"]

_SUCCESS, _BUSY, _UNAVAILABLE = 0, 51, 52
_MAX_ANSWERS = 1000
_MAX_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Ldap:
    """Passes when the server accepts the bind and, with `request`, has that entry.

    `login` is the bind DN and needs a `password`; without both the bind is anonymous.
    `request` is a search base: the entry of that name must be there, and visible to the login.
    `receive` is a Perl regular expression that must match the entry's DN as the server writes
    it.  (ldirectord always searches; with an empty request that finds the root DSE.)
    """

    kind: ClassVar[str] = "ldap"
    owns_sockets: ClassVar[bool] = True

    login: str | None = None
    password: str | None = field(default=None, repr=False, metadata={"secret": True})
    request: str | None = None
    receive: str | None = None
    tls: str = "none"
    verify: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        """Let empty texts be no texts, and refuse what makes no sense."""
        for name in ("login", "password", "request", "receive"):
            value = getattr(self, name) or None
            object.__setattr__(self, name, value)
            if value is not None and len(value) > _MAX_TEXT:
                raise SettingError(name, f"has more than {_MAX_TEXT} characters", _MAX_TEXT)
        if self.login and not self.password:
            # RFC 4513, 5.1.2: servers take such a bind for anonymous, so it would prove nothing.
            raise SettingError("password", "a bind DN (login) needs a password")
        if self.password and not self.login:
            raise SettingError("login", "a password needs a bind DN (login)")
        if self.receive:
            if not self.request:
                raise SettingError("receive", "needs a search base (request), whose DN it judges")
            compile_pattern(self.receive, "receive")
        check_tls(self.tls, self.verify, self.ca_file)

    @staticmethod
    def load() -> None:
        """Import the library now: at the first check it would hold the loop."""
        importlib.import_module("lbhealth.checkers.ldap_codec")

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Bind, search, unbind."""
        async with Stream.connect(
            target, ctx, tls=self.tls, verify=self.verify, ca_file=self.ca_file
        ) as stream:
            session = _Session(stream, ctx)
            try:
                detail = await self._ask(session)
            except CheckFailed:
                await session.unbind()
                raise
            await session.unbind()
            return Passed(Status.L7OK, detail)

    async def _ask(self, session: _Session) -> str:
        if self.tls == "starttls":
            await session.start_tls()
        await session.bind(self.login, self.password)
        if self.request:
            return await self._find(session)
        return f"bound as {printable(self.login, 100)}" if self.login else "bound anonymously"

    async def _find(self, session: _Session) -> str:
        """The DN of the one entry at the search base."""
        names = await session.search(self.request or "")
        if len(names) != 1:
            found = "no entry" if not names else f"{len(names)} entries"
            raise CheckFailed(
                Status.L7RSP, f'the search for "{printable(self.request or "", 100)}" found {found}'
            )
        (dn,) = names
        if self.receive and not compile_pattern(self.receive, "receive").search(dn):
            wanted = printable(self.receive, 100)
            raise CheckFailed(Status.L7RSP, f'the DN {excerpt(dn)} does not match "{wanted}"')
        return f"found {excerpt(dn)}"


@dataclass(frozen=True, slots=True)
class Ldaps(Ldap):
    """`ldap` inside TLS from the first byte."""

    kind: ClassVar[str] = "ldaps"

    tls: str = "implicit"


class _Session:
    """One connection's operations, each with the answer that it must have."""

    def __init__(self, stream: Stream, ctx: CheckContext) -> None:
        from lbhealth.checkers import ldap_codec

        self._codec = ldap_codec
        self._stream = stream
        self._ctx = ctx
        self._id = 0
        self._closed = False

    async def start_tls(self) -> None:
        """Ask for TLS (RFC 4511, 4.14) and begin it."""
        codec = self._codec
        await self._send(codec.start_tls(self._next()), "StartTLS")
        answer = await self._answer(codec.EXTENDED_RESPONSE)
        self._expect_success(answer, "StartTLS refused")
        self._closed = True  # a handshake that fails leaves nobody to talk to
        await self._stream.start_tls()
        self._closed = False

    async def bind(self, login: str | None, password: str | None) -> None:
        """Log in, or bind anonymously; whoever refuses is bad."""
        who = f'bind as "{printable(login)}"' if login else "anonymous bind"
        await self._send(self._codec.bind(self._next(), login, password), who)
        answer = await self._answer(self._codec.BIND_RESPONSE)
        self._expect_success(answer, f"{who} refused")

    async def search(self, base: str) -> list[bytes]:
        """The DNs found by a search for the entry `base`."""
        codec = self._codec
        what = f'search for "{printable(base)}"'
        await self._send(codec.search(self._next(), base), what)
        names: list[bytes] = []
        for _ in range(_MAX_ANSWERS):
            answer = await self._answer(
                codec.SEARCH_ENTRY, codec.SEARCH_REFERENCE, codec.SEARCH_DONE
            )
            if answer.operation == codec.SEARCH_ENTRY:
                names.append(answer.dn)
            elif answer.operation == codec.SEARCH_DONE:
                self._expect_success(answer, f"{what} refused")
                return names
        raise CheckFailed(Status.L7RSP, f"more than {_MAX_ANSWERS} answers to one search")

    async def unbind(self) -> None:
        """Take leave; the server answers by closing the connection."""
        if not self._closed:
            self._ctx.note("*", "unbind")
            await self._stream.farewell(self._codec.unbind(self._next()))

    def _next(self) -> int:
        self._id += 1
        return self._id

    async def _send(self, message: bytes, shown: str) -> None:
        await self._stream.write(message, shown=shown.encode())

    async def _answer(self, *operations: int) -> Answer:
        """The next answer to the last request, which must be one of `operations`."""
        message = await self._message()
        answer = self._codec.decode(message)
        result = "" if answer.code is None else f": {self._codec.result_name(answer.code)}"
        self._ctx.note("<", f"message {answer.message_id}, operation {answer.operation}{result}")
        if answer.message_id == 0 and answer.operation == self._codec.EXTENDED_RESPONSE:
            # Notice of Disconnection (RFC 4511, 4.4.1)
            self._closed = True
            raise CheckFailed(Status.L7STS, f"the server takes leave: {self._words(answer)}")
        if answer.message_id != self._id or answer.operation not in operations:
            raise CheckFailed(Status.L7RSP, "the server sent an answer to another request")
        return answer

    async def _message(self) -> bytes:
        try:
            head = b""
            while (length := self._codec.frame_length(head)) is None:
                head = await self._stream.peek(len(head) + 1)
            return await self._stream.read_exactly(length, note=False)
        except (CheckFailed, OSError):
            self._closed = True  # gone, or no LDAP: no use in taking leave
            raise

    def _expect_success(self, answer: Answer, refused: str) -> None:
        if answer.code == _SUCCESS:
            return
        what = "busy" if answer.code in (_BUSY, _UNAVAILABLE) else refused
        raise CheckFailed(Status.L7STS, f"{what}: {self._words(answer)}")

    def _words(self, answer: Answer) -> str:
        name = self._codec.result_name(answer.code or 0)
        return f"{name}, {excerpt(answer.text, 100)}" if answer.text else name
