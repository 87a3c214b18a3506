"""The operator's word on servers: set, kept over a reload, and over when its time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lbhealth.engine.services import ServerRuntime
from lbhealth.events import AdminChanged, Event
from lbhealth.model import Admin, AdminState

__all__ = ["Operators"]


class Operators:
    """Gives servers their admin state.  `changed` hears of each server that has a new one."""

    def __init__(
        self,
        changed: Callable[[ServerRuntime], None],
        emit: Callable[[Event], None],
        wall_clock: Callable[[], float],
    ) -> None:
        self._changed = changed
        self._emit = emit
        self._wall_clock = wall_clock
        self._expiries: dict[ServerRuntime, asyncio.TimerHandle] = {}

    def set(self, server: ServerRuntime, admin: Admin) -> None:
        """Take an order; one with an end comes back online by itself."""
        self.forget(server)
        server.admin = admin
        self._expire_later(server)
        self._changed(server)
        self._emit(
            AdminChanged(
                self._wall_clock(),
                str(server.service.config.key),
                server.server.name,
                admin.state,
                admin.reason,
                admin.actor,
                admin.until,
            )
        )

    def hand_over(self, old: ServerRuntime, new: ServerRuntime) -> None:
        """Keep an order when a reload replaces its server."""
        if old.admin.state is AdminState.ONLINE:
            return
        self.forget(old)
        new.admin = old.admin
        self._expire_later(new)
        self._changed(new)

    def forget(self, server: ServerRuntime) -> None:
        """Let a server's order have no end any more: there is a new one, or no server."""
        timer = self._expiries.pop(server, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Stop all clocks."""
        for server in tuple(self._expiries):
            self.forget(server)

    def _expire_later(self, server: ServerRuntime) -> None:
        admin = server.admin
        if admin.until is None or admin.state is AdminState.ONLINE:
            return
        delay = max(0.0, admin.until - self._wall_clock())
        loop = asyncio.get_running_loop()
        self._expiries[server] = loop.call_later(delay, self._expire, server)

    def _expire(self, server: ServerRuntime) -> None:
        reason = f"the time for {server.admin.state} is over"
        self.set(server, Admin(AdminState.ONLINE, reason, "lbhealth", self._wall_clock()))
