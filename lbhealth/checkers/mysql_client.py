"""A login and a query with aiomysql, on a connection that is made here.

aiomysql's own connect knows neither source address nor mark, hangs in the handshake for
ever, stays in plain text when the server has no TLS, and sends the password in plain text to
whoever asks for it.  So it is given a connection whose greeting has been read and whose TLS is
up, and does what it is needed for: the ways of authentication, and the result sets.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiomysql  # type: ignore[import-untyped]
from pymysql.constants import CLIENT  # type: ignore[import-untyped]
from pymysql.err import MySQLError  # type: ignore[import-untyped]

from lbhealth.checkers import mysql_packets as packets
from lbhealth.checkers.outcome import excerpt, printable
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckError, CheckFailed
from lbhealth.model import CheckContext, Status

__all__ = ["Client", "Refused"]

_BUSY = frozenset({1040, 1041, 1053, 1203, 1226})
"""Too many connections, no memory, shutdown in progress, too many of the user, quota."""

_TURNED_AWAY = frozenset({1129, 1130})
"""The host is blocked after interrupted handshakes, or may not connect at all."""

_NATIVE = b"mysql_native_password"
_SAFE_FIRST = frozenset({_NATIVE, b"caching_sha2_password"})
"""What may be answered at once; for others the server asks, once it knows of TLS."""


class Refused(CheckFailed):
    """The server is in order, and refuses the login (`code` is MySQL's)."""

    def __init__(self, code: int, detail: str) -> None:
        self.code = code
        super().__init__(Status.L7STS, detail)


class Client:
    """One connection, from the greeting on; `database` is chosen at the login."""

    def __init__(self, stream: Stream, ctx: CheckContext, database: str | None) -> None:
        self._stream = stream
        self._ctx = ctx
        self._database = database
        self._wire = _Wire(stream)
        self._greeting: packets.Greeting
        self._packet = b""
        self._tls = False

    async def greet(self) -> packets.Greeting:
        """The server's greeting.  Raises CheckFailed for an error in its place."""
        header = await self._stream.read_exactly(4, note=False)
        length = packets.greeting_length(header)
        payload = await self._stream.read_exactly(length, note=False)
        greeting = packets.parse_greeting(payload)
        if isinstance(greeting, packets.ServerError):
            text = f"{excerpt(greeting.text, 150)} ({greeting.code})"
            self._ctx.note("<", f"error {text}")
            raise CheckFailed(Status.L7STS, f"{_cause(greeting.code, 'refused')}: {text}")
        self._ctx.note("<", f"greeting of {excerpt(greeting.version)}")
        self._greeting, self._packet = greeting, header + payload
        return greeting

    async def start_tls(self) -> None:
        """Begin TLS, which the greeting must have on offer."""
        flags = CLIENT.CAPABILITIES | CLIENT.MULTI_STATEMENTS | CLIENT.MULTI_RESULTS
        if self._database:
            flags |= CLIENT.CONNECT_WITH_DB
        await self._stream.write(packets.ssl_request(flags), shown=b"SSLRequest")
        await self._stream.start_tls()
        self._tls = True

    @contextlib.asynccontextmanager
    async def login(self, user: str, password: str) -> AsyncIterator[Any]:
        """Log in; the block gets what `query` takes.  Takes leave when the block ends."""
        connection = self._connection(user, password)
        try:
            with _judged("login"):
                self._wire.shown = f'login as "{printable(user)}"'
                self._stream.put_back(self._packet)
                connection._next_seq_id = 0
                await connection._get_server_information()
                # The greeting was number 0 and the SSLRequest, if any, number 1.
                connection._next_seq_id = 2 if self._tls else 1
                connection._secure = self._tls
                await connection._request_authentication()
            self._ctx.note("<", "login accepted")
            try:
                yield connection
            except CheckFailed:
                await self._quit()
                raise
            await self._quit()
        finally:
            connection.close()

    async def query(self, connection: Any, sql: str) -> tuple[int, str | None]:
        """The number of rows, and the first column of the first row (None: NULL or no row).

        Of a result set only the first row is read, and counts as one.  Of other statements it
        is the number of rows that they changed.
        """
        self._wire.shown = "query"
        with contextlib.suppress(CheckFailed), _judged("query"):
            # Otherwise all of a large table would be on its way before its first row is read.
            await connection.query("set sql_select_limit=1")
        with _judged("query"):
            await connection.query(sql, unbuffered=True)
            result = connection._result
            if not result.unbuffered_active:
                return (int(result.affected_rows or 0), None)
            row = await result._read_rowdata_packet_unbuffered()
            result.unbuffered_active = False
        if row is None:
            return (0, None)
        first = row[0] if row else None
        if isinstance(first, bytes):
            first = first.decode("utf-8", "backslashreplace")
        return (1, first)

    async def _quit(self) -> None:
        self._ctx.note("*", "COM_QUIT")
        await self._stream.farewell(packets.QUIT)

    def _connection(self, user: str, password: str) -> Any:
        first = self._greeting.plugin if self._greeting.plugin in _SAFE_FIRST else _NATIVE
        connection = _Connection(
            user=user,
            # aiomysql encodes as Latin-1; servers compare bytes, which are UTF-8.
            password=password.encode("utf-8", "surrogateescape").decode("latin-1"),
            db=self._database,
            charset="utf8mb4",
            conv={},  # values stay as the server writes them
            client_flag=CLIENT.SSL if self._tls else 0,
            auth_plugin=first.decode(),
        )
        connection._reader = connection._writer = self._wire
        return connection


class _Connection(aiomysql.Connection):  # type: ignore[misc]
    """Keeps the password from a server that asks for it in plain text without TLS."""

    async def _process_auth(self, plugin_name: bytes, auth_packet: Any) -> Any:
        if plugin_name == b"mysql_clear_password" and not self._secure:
            raise CheckFailed(Status.L7STS, "the server wants the password in plain text: use tls")
        return await super()._process_auth(plugin_name, auth_packet)


class _Wire:
    """What aiomysql takes for its reader, its writer and its transport.

    `shown` stands for what is sent in the trace.
    """

    def __init__(self, stream: Stream) -> None:
        self.shown = ""
        self._stream = stream
        self._unsent = b""

    @property
    def transport(self) -> _Wire:
        return self

    def write(self, data: bytes) -> None:
        self._unsent += data

    async def readexactly(self, length: int) -> bytes:
        """Send what was written since the last time, and read."""
        if self._unsent:
            data, self._unsent = self._unsent, b""
            await self._stream.write(data, shown=self.shown.encode("utf-8", "replace"))
        return await self._stream.read_exactly(length, note=False)

    def close(self) -> None:
        """The stream closes itself."""


@contextlib.contextmanager
def _judged(what: str) -> Iterator[None]:
    """Turn the exceptions of aiomysql into verdicts; hostile bytes make it raise anything."""
    try:
        yield
    except (CheckFailed, CheckError, OSError):
        raise
    except MySQLError as error:
        if isinstance(error.__cause__, OSError):  # it wraps what the connection ended with
            raise error.__cause__ from None
        raise _failure(what, error.args) from error
    except Exception as error:
        if isinstance(error, RuntimeError) and "cryptography" in str(error):
            raise CheckError(
                "the server wants the password encrypted by RSA: install the package "
                "cryptography, or use tls"
            ) from error
        raise CheckFailed(Status.L7RSP, "the server sent a malformed packet") from error


def _failure(what: str, args: tuple[object, ...]) -> CheckFailed:
    match args:
        case (int(code), str(text)):
            words = f'"{printable(text, 150)}" ({code})'
            if what == "login":
                return Refused(code, f"{_cause(code, 'login refused')}: {words}")
            return CheckFailed(Status.L7STS, f"{_cause(code, 'query failed')}: {words}")
    return CheckFailed(Status.L7RSP, "the server sent a malformed packet")


def _cause(code: int, otherwise: str) -> str:
    if code in _BUSY:
        return "busy"
    return "the server turns this host away" if code in _TURNED_AWAY else otherwise
