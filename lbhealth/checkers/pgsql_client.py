"""A login and a query with asyncpg, on a connection that is made here.

asyncpg asks its event loop for a connection to a host.  It gets the loop's double, which
answers with the connection of this check: source address, mark, TLS with its name and the
limit on what a server may send are thus the same as in every other check.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from lbhealth.checkers.dialogue import MAX_BYTES
from lbhealth.checkers.outcome import printable
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckError, CheckFailed
from lbhealth.model import Status, Target

__all__ = ["login", "query"]

_NO_LIMIT = 86_400.0
"""Seconds; the check's own deadline comes long before."""

_PATIENCE = 0.2
"""Seconds to wait for the server's end after the farewell."""

_BUSY = ("53", "57P")
"""SQL states: out of resources (53300: too many connections), starting up or shutting down."""


@contextlib.asynccontextmanager
async def login(
    stream: Stream, target: Target, user: str, password: str, database: str
) -> AsyncIterator[Any]:
    """Log in on `stream`; the block gets what `query` takes.  Takes leave when the block ends."""
    double = _Loop(stream)
    connection = None
    try:
        with _judged("login refused"):
            connection = await asyncpg.connect(
                host=target.address.partition("%")[0],
                port=target.port,
                user=user,
                password=password,
                database=database,
                ssl=False,  # TLS, if any, is up
                timeout=_NO_LIMIT,
                command_timeout=None,
                statement_cache_size=0,  # named statements trouble pgbouncer
                target_session_attrs="any",
                server_settings={"application_name": "lbhealth"},
                loop=double,
            )
        try:
            yield connection
        except CheckFailed:
            await _terminate(stream, connection)
            raise
        await _terminate(stream, connection)
    finally:
        if connection is not None:
            connection.terminate()
        double.end()


async def _terminate(stream: Stream, connection: Any) -> None:
    stream.ctx.note("*", "terminate")
    left = stream.ctx.deadline - asyncio.get_running_loop().time()
    with contextlib.suppress(Exception):  # the verdict stands
        await connection.close(timeout=max(0.001, min(_PATIENCE, left / 2)))


async def query(connection: Any, sql: str) -> tuple[int, str | None, str]:
    """The number of rows, the first column of the first row (None: NULL or no row), the status.

    Of a result set only the first row is asked for.  Of other statements it is the number of
    rows that they changed; the status is PostgreSQL's ("UPDATE 3").
    """
    with _judged("query failed"):
        statement = await connection.prepare(sql)
        row = await statement.fetchrow()
        status = str(statement.get_statusmsg() or "")
    if row is not None:
        return (1, _text(row[0]) if len(row) else None, "")
    command, _, count = status.rpartition(" ")
    changed = int(count) if count.isdecimal() and not command.startswith("SELECT") else 0
    return (changed, None, status)


def _text(value: object) -> str | None:
    """A value as psql shows it, for the types that health queries use."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    return str(value)


class _Loop:
    """The running loop, but with one connection only: the one that is there."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._used = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self, factory: Callable[[], Any], *_args: object, **_options: object
    ) -> tuple[asyncio.Transport, Any]:
        """Give `factory`'s protocol the connection."""
        if self._used:  # asyncpg wants another one to cancel a query
            raise ConnectionAbortedError
        self._used = True
        protocol = factory()
        transport = self._stream.transport
        _limit(protocol, transport)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return transport, protocol

    def create_task(self, *args: Any, **options: Any) -> asyncio.Task[Any]:
        """As the loop does, but nothing outlives the check."""
        task = self._loop.create_task(*args, **options)
        self._tasks.add(task)
        return task

    def end(self) -> None:
        """Cancel what asyncpg left running."""
        for task in self._tasks:
            task.cancel()


def _limit(protocol: Any, transport: asyncio.Transport) -> None:
    """Drop the connection when the server sends more than MAX_BYTES."""
    receive = protocol.data_received
    left = MAX_BYTES

    def data_received(data: bytes) -> None:
        nonlocal left
        left -= len(data)
        if left < 0:
            transport.abort()
        else:
            receive(data)

    protocol.data_received = data_received


@contextlib.contextmanager
def _judged(what: str) -> Iterator[None]:
    """Turn the exceptions of asyncpg into verdicts; hostile bytes make it raise anything."""
    try:
        yield
    except (CheckFailed, CheckError, OSError):
        raise
    except asyncpg.ConnectionDoesNotExistError as error:
        raise CheckFailed(Status.L7RSP, "the server closed the connection early") from error
    except asyncpg.PostgresError as error:
        state = str(error.sqlstate or "")
        cause = "busy" if state.startswith(_BUSY) else what
        text = f'"{printable(error.message or "", 150)}" ({printable(state)})'
        raise CheckFailed(Status.L7STS, f"{cause}: {text}") from error
    except Exception as error:
        raise CheckFailed(Status.L7RSP, "the server sent a malformed message") from error
