"""The `finger` check (RFC 1288): ask for a user, and find something in the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbhealth.checkers.outcome import excerpt
from lbhealth.checkers.patterns import compile_pattern
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.model import CheckContext, Passed, Status, Target

__all__ = ["Finger"]


@dataclass(frozen=True, slots=True)
class Finger:
    """Passes when the server's answer about `user` matches `receive`, a Perl regular expression.

    Without `user` it is asked who is logged in; without `receive` any answer will do.
    """

    kind: ClassVar[str] = "finger"
    owns_sockets: ClassVar[bool] = True

    user: str = ""
    receive: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be sent, before anything is."""
        for place, char in enumerate(self.user):
            if not "!" <= char <= "~":
                raise SettingError("user", "must be printable and without blanks", place)
        if self.receive:
            compile_pattern(self.receive, "receive")

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Ask once; the server closes the connection after its answer (RFC 1288, 2.2)."""
        async with Stream.connect(target, ctx) as stream:
            await stream.write(self.user.encode() + b"\r\n")
            answer = b""
            while data := await stream.read_some():
                answer += data
        if not answer.strip():
            raise CheckFailed(Status.L7RSP, "the server closed the connection without an answer")
        if self.receive and not compile_pattern(self.receive, "receive").search(answer):
            raise CheckFailed(Status.L7RSP, f"no match; the answer begins {excerpt(answer)}")
        return Passed(Status.L7OK, f"{len(answer)} bytes")
