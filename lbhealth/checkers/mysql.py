"""The `mysql` check: the greeting, a login, a query, as far as it is asked to go."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from lbhealth.checkers.outcome import excerpt
from lbhealth.checkers.sql import SqlSettings, judge_rows
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed
from lbhealth.model import CheckContext, Passed, Status, Target

if TYPE_CHECKING:
    from lbhealth.checkers.mysql_client import Client

__all__ = ["Mysql"]

_NOBODY = "lbhealth"
"""Whom a check without a login asks for; there need be no such account."""

_UNKNOWN_TO_SERVER = frozenset({1044, 1045, 1049, 1251, 1698, 2059})
"""Refusals of an account, its database or its way to log in: the server itself is in order."""


@dataclass(frozen=True, slots=True)
class Mysql(SqlSettings):
    """Passes when a MySQL or MariaDB server greets, takes the login and answers the query.

    Without `login` the greeting decides.  With it the login must succeed, in `database` if
    given; with `request` (SQL) too, at least one row must come of it, as in ldirectord; with
    `value` the first column of the first row must be that text.  `tls` is none or starttls
    (MySQL's SSLRequest); a server without it fails.

    A server blocks hosts that go away inside its handshake (max_connect_errors).  So the check
    goes through with it even without a login, as a user without rights, and is refused.
    """

    kind: ClassVar[str] = "mysql"

    login: str | None = None
    password: str | None = field(default=None, repr=False, metadata={"secret": True})
    database: str | None = None
    request: str | None = None
    value: str | None = None
    tls: str = "none"
    verify: bool = False
    ca_file: str | None = None

    @staticmethod
    def load() -> None:
        """Import the library now: at the first check it would hold the loop."""
        importlib.import_module("lbhealth.checkers.mysql_client")

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Greet, log in, ask, quit."""
        from lbhealth.checkers.mysql_client import Client

        secrets = (self.password or "",)
        async with Stream.connect(
            target, ctx, verify=self.verify, ca_file=self.ca_file, secrets=secrets
        ) as stream:
            client = Client(stream, ctx, self.database)
            greeting = await client.greet()
            if self.tls == "starttls":
                if not greeting.has_tls:
                    await _knock(client)
                    raise CheckFailed(Status.L6RSP, "the server does not offer TLS")
                await client.start_tls()
            if self.login is None:
                await _knock(client)
                return Passed(Status.L7OK, f"greeting of {excerpt(greeting.version)}")
            async with client.login(self.login, self.password or "") as session:
                if self.request is None:
                    return Passed(Status.L7OK, f"logged in to {excerpt(greeting.version)}")
                rows, first = await client.query(session, self.request)
                return judge_rows(rows, first, self.value)


async def _knock(client: Client) -> None:
    """Go through the handshake as nobody in particular.

    Raises CheckFailed when it fails for another reason than that.
    """
    from lbhealth.checkers.mysql_client import Refused

    try:
        async with client.login(_NOBODY, ""):
            pass
    except Refused as refused:
        if refused.code not in _UNKNOWN_TO_SERVER:
            raise
