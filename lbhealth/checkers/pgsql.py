"""The `pgsql` check: the server's readiness, a login, a query, as far as it is asked to go."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import ClassVar

from lbhealth.checkers import pgsql_packets as packets
from lbhealth.checkers.outcome import printable
from lbhealth.checkers.sql import SqlSettings, judge_rows
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed
from lbhealth.model import CheckContext, Passed, Status, Target

__all__ = ["Pgsql"]

_NOBODY = "lbhealth"
"""Whom a check without a login asks for; there need be no such account."""

_NOT_READY = ("53", "57P", "XX")
"""SQL states: out of resources, starting up or shutting down, internal error."""

_MAX_NOTICES = 100


@dataclass(frozen=True, slots=True)
class Pgsql(SqlSettings):
    """Passes when a PostgreSQL server is ready, takes the login and answers the query.

    Without `login` it is enough that the server asks for a password, or refuses a user of no
    account (as pg_isready judges).  With it the login must succeed, in `database` (default:
    the one named like the login); with `request` (SQL) too, at least one row must come of it,
    as in ldirectord; with `value` the first column of the first row must be that text, written
    as psql does ("t" for true).  `tls` is none or starttls (PostgreSQL's SSLRequest); a server
    without it fails.
    """

    kind: ClassVar[str] = "pgsql"

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
        importlib.import_module("lbhealth.checkers.pgsql_client")

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Ask for TLS if wanted, log in, ask, terminate."""
        secrets = (self.password or "",)
        async with Stream.connect(
            target, ctx, verify=self.verify, ca_file=self.ca_file, secrets=secrets
        ) as stream:
            if self.tls == "starttls":
                await _start_tls(stream)
            if self.login is None:
                return await _knock(stream)
            from lbhealth.checkers import pgsql_client as client

            ctx.note(">", f'login as "{printable(self.login)}"')
            database = self.database or self.login
            async with client.login(
                stream, target, self.login, self.password or "", database
            ) as session:
                ctx.note("<", "login accepted")
                if self.request is None:
                    return Passed(Status.L7OK, "logged in")
                ctx.note(">", "query")
                rows, first, status = await client.query(session, self.request)
                ctx.note("<", f"{rows} rows")
                return judge_rows(rows, first, self.value, status)


async def _start_tls(stream: Stream) -> None:
    await stream.write(packets.SSL_REQUEST, shown=b"SSLRequest")
    answer = await stream.read_exactly(1)
    if answer == packets.TLS_REFUSED:
        raise CheckFailed(Status.L6RSP, "the server does not offer TLS")
    if answer != packets.TLS_ACCEPTED:  # an error here is not to be believed (CVE-2024-10977)
        raise CheckFailed(Status.L7RSP, "the answer to the TLS request is not PostgreSQL's")
    await stream.start_tls()


async def _knock(stream: Stream) -> Passed:
    """Ask for a session as nobody in particular, and go when the server wants a password."""
    await stream.write(packets.startup(_NOBODY, "postgres"), shown=b"start-up")
    for _ in range(_MAX_NOTICES):
        header = await stream.read_exactly(packets.HEADER, note=False)
        body = await stream.read_exactly(packets.body_length(header), note=False)
        if header[:1] == b"R":
            stream.ctx.note("<", "the server asks for a password, or for none")
            return Passed(Status.L7OK, "ready for a login")
        if header[:1] == b"E":
            error = packets.parse_error(body)
            text = f'"{printable(error.text, 150)}" ({printable(error.state, 5)})'
            stream.ctx.note("<", f"error {text}")
            if error.state.startswith(_NOT_READY) or not error.state:
                raise CheckFailed(Status.L7STS, f"busy: {text}")
            return Passed(Status.L7OK, "ready for a login")
    raise CheckFailed(Status.L7RSP, f"the server sent more than {_MAX_NOTICES} notices")
