"""The `redis` check: AUTH if there is a password, PING, ROLE if it matters, QUIT."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from lbhealth.checkers.outcome import excerpt, printable
from lbhealth.checkers.settings import TLS_AT_ONCE, check_tls
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target
from lbhealth_redis.resp import ErrorReply, Malformed, Value, command, parse

__all__ = ["Redis"]

_ROLES = {"master": b"master", "replica": b"slave"}
_NAMES = {b"slave": "replica"}

_ERRORS = {
    "NOAUTH": "the server wants a password",
    "WRONGPASS": "authentication refused",
    "NOPERM": "the user may not do that",
    "LOADING": "busy: the server is loading its data",
    "BUSY": "busy: the server is running a script",
    "MASTERDOWN": "the replica has lost its master",
    "DENIED": "the server is in protected mode",
}


@dataclass(frozen=True, slots=True)
class Redis:
    """Passes when the server answers PING, and has the wanted role if one is given.

    `username` needs `password` (Redis 6 access lists).  `role` is "master" or "replica"; a
    replica must also be connected to its master.  `tls` is "none" or "implicit"; `verify`
    and `ca_file` as in the check type https.
    """

    kind: ClassVar[str] = "redis"
    owns_sockets: ClassVar[bool] = True

    username: str | None = None
    password: str | None = field(default=None, repr=False, metadata={"secret": True})
    role: str | None = None
    tls: str = "none"
    verify: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        check_tls(self.tls, self.verify, self.ca_file, TLS_AT_ONCE)
        if self.username is not None and self.password is None:
            raise SettingError("username", "has no effect without password")
        if self.role is not None and self.role not in _ROLES:
            raise SettingError("role", f"must be {' or '.join(_ROLES)}")

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Ask once on a connection of its own."""
        async with Stream.connect(
            target, ctx, tls=self.tls, verify=self.verify, ca_file=self.ca_file
        ) as stream:
            client = _Client(stream)
            if self.password is not None:
                words = [w.encode() for w in (self.username, self.password) if w is not None]
                refused = "authentication refused"
                await client.ask(b"AUTH", *words, shown="AUTH ***", refused=refused)
            answer = await client.ask(b"PING")
            if answer != b"PONG":
                raise CheckFailed(Status.L7RSP, f"unexpected answer to PING: {_shown(answer)}")
            detail = "PONG"
            if self.role is not None:
                detail = self._judge_role(await client.ask(b"ROLE"))
            await stream.write(command(b"QUIT"), shown="QUIT")
            return Passed(Status.L7OK, detail)

    def _judge_role(self, answer: Value) -> str:
        if not isinstance(answer, list) or not answer or not isinstance(answer[0], bytes):
            raise CheckFailed(Status.L7RSP, f"unexpected answer to ROLE: {_shown(answer)}")
        role = answer[0]
        name = printable(_NAMES.get(role, role.decode("ascii", "backslashreplace")))
        if self.role is not None and role != _ROLES[self.role]:
            raise CheckFailed(Status.L7STS, f"the server is a {name}, not a {self.role}")
        if role == b"slave":
            link = answer[3] if len(answer) > 3 else None
            if link != b"connected":
                why = f"the replica is not connected to its master: {_shown(link)}"
                raise CheckFailed(Status.L7STS, why)
        return name


class _Client:
    """Requests and replies, one after the other."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = b""

    async def ask(self, *words: bytes, shown: str | None = None, refused: str = "error") -> Value:
        """The reply to a command; an error reply is CheckFailed."""
        await self._stream.write(command(*words), shown=shown or words[0].decode())
        try:
            while (found := parse(self._buffer)) is None:
                data = await self._stream.read_some()
                if not data:
                    raise CheckFailed(Status.L7RSP, "the server closed the connection early")
                self._buffer += data
        except Malformed as error:
            why = f"{error}; it begins {excerpt(self._buffer)}"
            raise CheckFailed(Status.L7RSP, why) from None
        value, end = found
        self._buffer = self._buffer[end:]
        if isinstance(value, ErrorReply):
            what = _ERRORS.get(value.code, refused)
            if b"max number of clients" in value.text:
                what = "busy"
            raise CheckFailed(Status.L7STS, f"{what}: {excerpt(value.text, 100)}")
        return value


def _shown(value: Value) -> str:
    return excerpt(value) if isinstance(value, bytes) else printable(repr(value), 60)
