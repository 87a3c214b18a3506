"""What the checks of line protocols with an account have in common: settings and the course."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from lbhealth.checkers.dialogue import Script
from lbhealth.checkers.outcome import excerpt
from lbhealth.checkers.settings import check_line, check_tls
from lbhealth.checkers.stream import Stream, converse, masked
from lbhealth.errors import SettingError
from lbhealth.model import CheckContext, Passed, Status, Target

__all__ = ["AccountCheck"]


@dataclass(frozen=True, slots=True)
class AccountCheck:
    """A dialogue of lines, with or without TLS and a login; `script` is the protocol's part.

    Without `login` nobody logs in.  `tls` is "none", "implicit" (from the first byte) or
    "starttls"; with `verify` the certificate must be good for the server's name and come
    from `ca_file` (PEM) or else from an authority that the system trusts.
    """

    owns_sockets: ClassVar[bool] = True

    login: str | None = None
    password: str | None = field(default=None, repr=False, metadata={"secret": True})
    tls: str = "none"
    verify: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be sent or makes no sense."""
        check_line("login", self.login)
        check_line("password", self.password)
        check_tls(self.tls, self.verify, self.ca_file)
        if self.password and not self.login:
            raise SettingError("password", "is used only with login")

    def script(self) -> Script:
        """The dialogue, which returns what an operator reads about a good server."""
        raise AssertionError("a protocol brings its own")

    def secrets(self) -> tuple[str | bytes, ...]:
        """All forms in which the password travels and may come back."""
        return (self.password,) if self.password else ()

    def show(self, data: bytes) -> str:
        """The beginning of what the server said, quoted, without secrets."""
        return excerpt(masked(data, self.secrets()))

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Hold the dialogue on one connection."""
        async with Stream.connect(
            target,
            ctx,
            tls=self.tls,
            verify=self.verify,
            ca_file=self.ca_file,
            secrets=self.secrets(),
        ) as stream:
            return Passed(Status.L7OK, await converse(stream, self.script()))
