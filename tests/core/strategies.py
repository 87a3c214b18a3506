"""Hypothesis strategies for the core's values.

The pools of addresses, ports and marks are small on purpose: generated tables, services and
strangers must meet on the same keys.
"""

from socket import AF_INET, AF_INET6

from hypothesis import strategies as st

from lbhealth.health import ADOPTED_DOWN, ADOPTED_UP, UNKNOWN
from lbhealth.model import (
    AdminState,
    CheckResult,
    Destination,
    Fallback,
    Forwarding,
    FwmarkKey,
    HealthState,
    InetKey,
    KernelService,
    OnDown,
    Persistence,
    RealServer,
    Schedule,
    ServiceEntry,
    Status,
    TransportProtocol,
    Verdict,
    VirtualService,
)
from lbhealth.policy import ServerState

V4 = [f"10.0.0.{n}" for n in range(1, 7)]
V6 = [f"2001:db8::{n}" for n in range(1, 7)]
SCHEDULERS = ["rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "sed", "nq"]

weights = st.one_of(st.integers(0, 3), st.integers(0, 65535))
forwardings = st.sampled_from([Forwarding.MASQ, Forwarding.TUNNEL, Forwarding.ROUTE])
thresholds = st.sampled_from([0, 0, 10, 100])
verdicts = st.sampled_from(Verdict)
moments = st.floats(0, 1000, allow_nan=False)

inet_keys = st.builds(
    InetKey,
    st.sampled_from([TransportProtocol.TCP, TransportProtocol.UDP]),
    st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8:ff::1"]),
    st.sampled_from([80, 443]),
)
fwmark_keys = st.builds(FwmarkKey, st.integers(1, 2), st.sampled_from([AF_INET, AF_INET6]))
service_keys = st.one_of(inet_keys, fwmark_keys)


def addresses(key):
    """Addresses of the family of `key`."""
    return st.sampled_from(V6 if key.family == AF_INET6 else V4)


@st.composite
def results(draw, verdict=verdicts):
    """One finished run of a check."""
    drawn = draw(verdict)
    status = {Verdict.PASS: Status.L4OK, Verdict.FAIL: Status.L4CON, Verdict.ERROR: Status.SOCKERR}
    return CheckResult(drawn, status[drawn], "", started=draw(moments), duration=0.01)


schedules = st.builds(Schedule, rise=st.integers(1, 5), fall=st.integers(1, 5))
healths = st.sampled_from([UNKNOWN, ADOPTED_UP, ADOPTED_DOWN])

kernel_services = service_keys.flatmap(
    lambda key: st.builds(
        KernelService,
        st.just(key),
        st.sampled_from(SCHEDULERS),
        timeout=st.sampled_from([0, 600]),
        netmask=st.just(128 if key.family == AF_INET6 else 32),
        one_packet=st.booleans(),
    )
)


@st.composite
def entries(draw):
    """One kernel service with its rows."""
    service = draw(kernel_services)
    rows = draw(
        st.lists(
            st.builds(
                Destination,
                addresses(service.key),
                st.sampled_from([80, 8080]),
                forwardings,
                weights,
                thresholds,
                thresholds,
            ),
            max_size=6,
        )
    )
    return ServiceEntry(service, {row.key: row for row in rows})


tables = st.lists(entries(), max_size=4).map(lambda all_: {e.service.key: e for e in all_})


def real_servers(key):
    """Servers of one virtual service."""
    return st.builds(
        RealServer,
        address=addresses(key),
        port=st.sampled_from([80, 8080]),
        forwarding=forwardings,
        weight=weights,
        upper=thresholds,
        lower=thresholds,
    )


@st.composite
def virtual_services(draw):
    """A configured service whose servers stand for distinct rows."""
    key = draw(service_keys)
    bare = VirtualService(key=key)
    return VirtualService(
        key=key,
        scheduler=draw(st.sampled_from(SCHEDULERS)),
        flags=draw(st.sampled_from([(), ("flag-1",)])),
        persistence=draw(st.sampled_from([None, Persistence(600)])),
        real=tuple(draw(st.lists(real_servers(key), max_size=5, unique_by=bare.destination_key))),
        fallback=draw(
            st.one_of(
                st.none(),
                st.builds(
                    Fallback, address=addresses(key), port=st.just(8080), forwarding=forwardings
                ),
            )
        ),
        on_down=draw(st.sampled_from(OnDown)),
        min_up=draw(st.sampled_from([0.0, 0.0, 0.3, 0.5, 1.0])),
        readd_quiescent=draw(st.booleans()),
        parked_holds_fallback=draw(st.booleans()),
    )


@st.composite
def server_states(draw):
    """Facts as the engine hands them on: an unknown server is never confirmed, a confirmed
    server that is up has been up."""
    health = draw(st.sampled_from(HealthState))
    confirmed = health is not HealthState.UNKNOWN and draw(st.booleans())
    return ServerState(
        health=health,
        confirmed=confirmed,
        was_up=health is HealthState.UP or (confirmed and draw(st.booleans())),
        since=draw(moments),
        reason=f"the check says {health}",
        admin=draw(st.sampled_from(AdminState)),
        feedback=draw(st.one_of(st.none(), weights)),
    )


def states_of(service):
    """One `ServerState` per server of `service`."""
    return st.fixed_dictionaries(
        {service.destination_key(s): server_states() for s in service.real}
    )


@st.composite
def pools(draw):
    """A service and the states of its servers."""
    service = draw(virtual_services())
    return service, draw(states_of(service))


@st.composite
def configurations(draw):
    """Some services on distinct keys, with their states."""
    found = draw(st.lists(pools(), max_size=3, unique_by=lambda pool: pool[0].key))
    return [service for service, _ in found], {service.key: own for service, own in found}
