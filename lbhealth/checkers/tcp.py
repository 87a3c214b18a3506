"""The `tcp` (ldirectord: connect) check: a full handshake, then a reset."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from lbhealth.checkers.outcome import failure_from
from lbhealth.checkers.sockets import open_socket, sockaddr
from lbhealth.model import CheckContext, Passed, Status, Target

__all__ = ["Tcp"]


@dataclass(frozen=True, slots=True)
class Tcp:
    """Passes when the server accepts a TCP connection; sends no data."""

    kind: ClassVar[str] = "tcp"

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Connect once."""
        ctx.note("*", f"connecting to {target}")
        try:
            with open_socket(target) as sock:
                address = sockaddr(target.address, target.port)
                await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError as error:
            raise failure_from(error, Status.L4TOUT) from error
        ctx.note("*", "connected")
        return Passed(Status.L4OK, "connected")
