"""What should be: from configuration, health and the operator's word to a desired service.

Pure.  Order of authority for taking away: checks, then the operator, then the agent; each
fact is kept apart in `ServerState` and none undoes another.  Every decision says why.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from socket import AF_INET6
from typing import Final

from lbhealth.model import (
    AdminState,
    Destination,
    DestinationKey,
    Fallback,
    Forwarding,
    HealthState,
    KernelService,
    OnDown,
    RealServer,
    ServiceKey,
    Tunnel,
    TunnelType,
    VirtualService,
)

__all__ = [
    "Action",
    "Decision",
    "DesiredService",
    "Pool",
    "ServerState",
    "canonical_flags",
    "canonical_tunnel",
    "decide",
    "decide_fallback",
    "decide_in_steps",
    "decide_server",
    "kernel_service",
    "refuses_at_zero",
    "survey",
]

MAX_WEIGHT = 65535
"""ipvsadm's own limit is 2**31-1; weights beyond 65535 gain nothing and overflow schedulers."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """The facts about one server of one service; who said what is never mixed.

    `confirmed` and `was_up` are those of `lbhealth.health.Health`; `reason` is the latest
    result in words; `feedback` is the weight that follows from the agent, None without one.
    """

    health: HealthState = HealthState.UNKNOWN
    confirmed: bool = False
    was_up: bool = False
    since: float = 0.0
    reason: str = "not checked yet"
    admin: AdminState = AdminState.ONLINE
    admin_reason: str = ""
    feedback: int | None = None


class Action(enum.Enum):
    """What a decision wants of a row."""

    SET = enum.auto()
    """The row exists with this weight."""
    SET_IF_PRESENT = enum.auto()
    """If the row exists, it has this weight; else it stays absent."""
    REMOVE = enum.auto()
    """The row does not exist."""
    KEEP = enum.auto()
    """Whatever was found stays: nothing is known yet."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What should be done with one row, and why, in words an operator can act on.

    `weight` counts for SET and SET_IF_PRESENT; it is 0 for the others.
    """

    action: Action
    weight: int
    why: str


@dataclass(frozen=True, slots=True)
class DesiredService:
    """A service as it should be.

    `rows` holds each row's settings with its configured weight, `decisions` what becomes of
    it; both have the same keys, the fallback's among them.
    """

    service: KernelService
    rows: Mapping[DestinationKey, Destination]
    decisions: Mapping[DestinationKey, Decision]
    fallback_active: bool | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """What the decision on one server must know about the others.

    `kept` are failed servers held in by `min_up`; `fallback` is True (serve), False, or None
    (leave as found, because some server has no verdict yet).
    """

    kept: frozenset[DestinationKey]
    fallback: bool | None
    up: int
    online: int


def refuses_at_zero(scheduler: str, flags: tuple[str, ...]) -> bool:
    """Say whether a row of weight 0 makes this scheduler refuse clients.

    dh always, sh and mh without their fallback flag, answer "no destination" for the share
    of clients that hash to the row (ip_vs_dh.c, ip_vs_sh.c, ip_vs_mh.c); such rows must be
    deleted instead of quiesced.
    """
    if scheduler == "dh":
        return True
    return scheduler in ("sh", "mh") and not {f"{scheduler}-fallback", "flag-1"} & set(flags)


SCHEDULER_FLAGS: Final[Mapping[str, int]] = {
    "flag-1": 1,
    "flag-2": 2,
    "flag-3": 3,
    "sh-fallback": 1,
    "sh-port": 2,
    "mh-fallback": 1,
    "mh-port": 2,
}
"""ipvsadm's names of the scheduler flags and their numbers (IP_VS_SVC_F_SCHED1..3)."""


def canonical_flags(scheduler: str, flags: Iterable[str]) -> tuple[str, ...]:
    """The one spelling of a service's scheduler flags that lbhealth compares, sorted.

    For sh and mh that is `sh-fallback`, `mh-port` and the like, and their third flag, which
    has no meaning there, is dropped; for the other schedulers `flag-N`.  A name that nobody
    knows is kept, so that the data plane can refuse it.
    """
    named = {"sh": ("sh-fallback", "sh-port"), "mh": ("mh-fallback", "mh-port")}
    names = named.get(scheduler, ("flag-1", "flag-2", "flag-3"))
    canonical: set[str] = set()
    for flag in flags:
        number = SCHEDULER_FLAGS.get(flag)
        if number is None:
            canonical.add(flag)
        elif number <= len(names):
            canonical.add(names[number - 1])
    return tuple(sorted(canonical))


def canonical_tunnel(forwarding: Forwarding, tunnel: Tunnel | None) -> Tunnel | None:
    """The encapsulation as lbhealth compares it: None for plain IPIP and for other methods.

    IPIP has neither port nor checksum, GRE has no port (net/netfilter/ipvs/ip_vs_xmit.c).
    """
    if forwarding is not Forwarding.TUNNEL or tunnel is None or tunnel.type is TunnelType.IPIP:
        return None
    if tunnel.type is TunnelType.GRE and tunnel.port:
        return Tunnel(tunnel.type, 0, tunnel.checksum)
    return tunnel


def kernel_service(service: VirtualService) -> KernelService:
    """The service as the kernel should hold it."""
    width = 128 if service.key.family == AF_INET6 else 32
    persistence = service.persistence
    netmask = persistence.netmask if persistence and persistence.netmask is not None else width
    return KernelService(
        key=service.key,
        scheduler=service.scheduler,
        flags=canonical_flags(service.scheduler, service.flags),
        timeout=persistence.timeout if persistence else 0,
        netmask=netmask,
        one_packet=service.one_packet,
        engine=persistence.engine if persistence else None,
    )


def survey(service: VirtualService, states: Mapping[DestinationKey, ServerState]) -> Pool:
    """Count the pool once, for the decisions on all of its servers."""
    online = up = failed = 0
    all_confirmed, serving = True, False
    down: list[tuple[float, DestinationKey]] = []
    for server in service.real:
        key = service.destination_key(server)
        state = states[key]
        all_confirmed &= state.confirmed
        if state.admin is not AdminState.ONLINE:
            continue
        is_up = state.health is HealthState.UP
        if server.weight > 0 or service.parked_holds_fallback:
            # A guess from the kernel's table neither brings the fallback in nor takes it out.
            serving |= is_up and state.confirmed
        if server.weight == 0:
            continue
        online += 1
        up += is_up
        if state.health is HealthState.DOWN:
            failed += 1
            if state.was_up and state.confirmed:
                down.append((state.since, key))
    wanted = math.ceil(service.min_up * online - 1e-9)
    # The latest to fail are the likeliest to be alive still.
    down.sort(key=lambda item: -item[0])
    kept = frozenset(key for _, key in down[: max(0, wanted - up)])
    fallback: bool | None
    if serving or kept:
        fallback = False
    elif not all_confirmed:
        fallback = None
    else:
        fallback = failed > 0
    return Pool(kept=kept, fallback=fallback, up=up, online=online)


def decide_server(
    service: VirtualService, server: RealServer, state: ServerState, pool: Pool
) -> Decision:
    """Decide on one row."""
    if state.admin is AdminState.HALT:
        return _decision(Action.REMOVE, 0, _words("halted", state.admin_reason))
    if state.admin is AdminState.DRAIN:
        why = _words("draining", state.admin_reason)
        if state.confirmed and state.health is HealthState.DOWN:
            why = f"{why}; {state.reason}"
            return _without_traffic(service, why, remove=service.on_down is OnDown.REMOVE)
        return _without_traffic(service, why)
    if server.weight == 0 and state.health is not HealthState.DOWN:
        why = "parked by configuration"
        return _without_traffic(service, why, add=state.confirmed)
    if not state.confirmed:
        return _decision(Action.KEEP, 0, "as found: no verdict yet")
    if state.health is HealthState.DOWN:
        return _decide_down(service, server, state, pool)
    if state.feedback is not None:
        weight = max(1, min(state.feedback, MAX_WEIGHT))
        return _decision(Action.SET, weight, f"weight {weight}: up, agent feedback")
    return _decision(Action.SET, server.weight, f"weight {server.weight}: {state.reason}")


def _decide_down(
    service: VirtualService, server: RealServer, state: ServerState, pool: Pool
) -> Decision:
    if service.destination_key(server) in pool.kept:
        why = (
            f"weight {server.weight}: kept by min_up {service.min_up:.0%} "
            f"({pool.up} of {pool.online} up), though {state.reason}"
        )
        return _decision(Action.SET, server.weight, why)
    return _without_traffic(
        service,
        state.reason,
        remove=service.on_down is OnDown.REMOVE,
        add=service.readd_quiescent,
    )


def _without_traffic(
    service: VirtualService, why: str, *, remove: bool = False, add: bool = False
) -> Decision:
    """Take new connections away: delete the row, or give it weight 0 (absent: only if `add`)."""
    if remove:
        return _decision(Action.REMOVE, 0, f"removed: {why}")
    if refuses_at_zero(service.scheduler, service.flags):
        return _decision(
            Action.REMOVE,
            0,
            f"removed: {why} ({service.scheduler} refuses clients at weight 0)",
        )
    return _decision(Action.SET if add else Action.SET_IF_PRESENT, 0, f"weight 0: {why}")


def decide_fallback(pool: Pool) -> Decision:
    """Decide on the fallback's row."""
    if pool.fallback is None:
        return _decision(Action.KEEP, 0, "as found: not every server has a verdict")
    if pool.fallback:
        return _decision(Action.SET, 1, f"weight 1: none of {pool.online} servers is up")
    return _decision(Action.REMOVE, 0, "standing by")


def decide(
    service: VirtualService,
    states: Mapping[ServiceKey, Mapping[DestinationKey, ServerState]],
    now: float,
) -> DesiredService:
    """Decide on a whole service.

    `states` holds the states of *all* services, so that later rules may look beyond one;
    `now` is monotonic seconds, the only notion of time there is.
    """
    steps = decide_in_steps(service, states, now)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            desired: DesiredService = done.value
            return desired


def decide_in_steps(
    service: VirtualService,
    states: Mapping[ServiceKey, Mapping[DestinationKey, ServerState]],
    now: float,
) -> Generator[None, None, DesiredService]:
    """As `decide`, as a generator that yields after each server.

    The engine runs it in slices, because a service may have thousands of servers; `states`
    must not change meanwhile.
    """
    del now  # no rule depends on time yet; slow start and staged responses will
    own = states[service.key]
    pool = survey(service, own)
    rows: dict[DestinationKey, Destination] = {}
    decisions: dict[DestinationKey, Decision] = {}
    for server in service.real:
        key = service.destination_key(server)
        rows[key] = destination_of(service, server)
        decisions[key] = decide_server(service, server, own[key], pool)
        yield
    active = None
    if service.fallback is not None:
        key = service.destination_key(service.fallback)
        active = pool.fallback
        # A server may be its own fallback: it then serves as such unless an operator took it out.
        if key in decisions and own[key].admin is not AdminState.ONLINE:
            active = False
        if key not in decisions or active:
            rows[key] = destination_of(service, service.fallback)
            decisions[key] = decide_fallback(pool)
    return DesiredService(kernel_service(service), rows, decisions, active)


def destination_of(service: VirtualService, server: RealServer | Fallback) -> Destination:
    """The kernel row of a configured server, with its configured weight."""
    address, port = service.destination_key(server)
    if isinstance(server, Fallback):
        return Destination(address, port, server.forwarding, 1)
    tunnel = canonical_tunnel(server.forwarding, server.tunnel)
    return Destination(
        address, port, server.forwarding, server.weight, server.upper, server.lower, tunnel
    )


# Thousands of servers share a few decisions: one object for each keeps them cheap to hold.
_decision = functools.lru_cache(maxsize=4096)(Decision)


def _words(what: str, reason: str) -> str:
    return f"{what}: {reason}" if reason else what
