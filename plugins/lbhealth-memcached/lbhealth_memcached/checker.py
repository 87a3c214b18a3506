"""The `memcached` check: version, and the statistics if asked for (protocol.txt of memcached)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from lbhealth.checkers.outcome import excerpt, printable
from lbhealth.checkers.settings import TLS_AT_ONCE, check_tls
from lbhealth.checkers.stream import Stream
from lbhealth.errors import CheckFailed
from lbhealth.model import CheckContext, Passed, Status, Target

__all__ = ["Memcached"]

_ERROR = re.compile(rb"(?:ERROR|CLIENT_ERROR|SERVER_ERROR)(?: |$)")
_VERSION = re.compile(rb"VERSION ([!-~]{1,40})")
_STAT = re.compile(rb"STAT ([!-~]{1,250}) (.*)")


@dataclass(frozen=True, slots=True)
class Memcached:
    """Passes when the server tells its version.

    With `stats` it must also tell its statistics and accept connections: one at its limit
    (-c) has stopped to.  `tls` is "none" or "implicit"; `verify` and `ca_file` as in the
    check type https.
    """

    kind: ClassVar[str] = "memcached"
    owns_sockets: ClassVar[bool] = True

    stats: bool = False
    tls: str = "none"
    verify: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        check_tls(self.tls, self.verify, self.ca_file, TLS_AT_ONCE)

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Ask once on a connection of its own."""
        async with Stream.connect(
            target, ctx, tls=self.tls, verify=self.verify, ca_file=self.ca_file
        ) as stream:
            await stream.write(b"version\r\n")
            line = await _line(stream)
            found = _VERSION.fullmatch(line)
            if found is None:
                raise CheckFailed(Status.L7RSP, f"not an answer of memcached: {excerpt(line)}")
            detail = f"version {printable(found[1].decode())}"
            if self.stats:
                detail += f", {_judge(await _stats(stream))}"
            await stream.write(b"quit\r\n")
            return Passed(Status.L7OK, detail)


async def _line(stream: Stream) -> bytes:
    """A line that is no error."""
    line = await stream.read_line()
    if _ERROR.match(line):
        raise CheckFailed(Status.L7STS, f"error: {excerpt(line, 100)}")
    return line


async def _stats(stream: Stream) -> dict[bytes, bytes]:
    await stream.write(b"stats\r\n")
    values: dict[bytes, bytes] = {}
    while (line := await _line(stream)) != b"END":
        found = _STAT.fullmatch(line)
        if found is None:
            raise CheckFailed(Status.L7RSP, f"not a statistic: {excerpt(line)}")
        values[found[1]] = found[2]
    return values


def _judge(stats: dict[bytes, bytes]) -> str:
    connections = stats.get(b"curr_connections", b"").decode("ascii", "replace")
    limit = stats.get(b"max_connections", b"").decode("ascii", "replace")
    if not (connections.isdecimal() and limit.isdecimal()):
        raise CheckFailed(Status.L7RSP, "the statistics lack curr_connections or max_connections")
    told = f"{int(connections[:20])} of {int(limit[:20])} connections"
    if stats.get(b"accepting_conns") == b"0":
        raise CheckFailed(Status.L7STS, f"busy: no new connections are accepted ({told})")
    return told
