"""Every key of the TOML form: what it means, and what holds where it is not given."""

import socket

import pytest

from lbhealth.checkers.http import Http, Https
from lbhealth.checkers.ping import Ping
from lbhealth.checkers.tcp import Tcp
from lbhealth.config import render
from lbhealth.model import (
    Check,
    DirectorSettings,
    Fallback,
    Forwarding,
    FwmarkKey,
    HealthState,
    Hybrid,
    InetKey,
    OnDown,
    Persistence,
    RealServer,
    Schedule,
    Target,
    TransportProtocol,
    Tunnel,
    TunnelChecksum,
    TunnelType,
    VirtualService,
)
from tests.config.fakes import FakeRegistry, read

REGISTRY = FakeRegistry(Tcp, Ping, Http, Https)
TCP = TransportProtocol.TCP


def config(text):
    loaded = read(text, "test.toml", REGISTRY)
    assert loaded.config is not None, render(loaded.diagnostics)
    return loaded.config


def service(keys, listen='listen = "192.0.2.10:80"', real='real = [{ address = "10.0.0.1:80" }]'):
    (found,) = config(f"[[virtual]]\n{listen}\n{keys}\n{real}\n").virtual
    return found


def server(keys, virtual=""):
    (found,) = service(virtual, real=f'real = [{{ address = "10.0.0.1:80", {keys} }}]').real
    return found


def check(keys, virtual=""):
    (found,) = server(f"check = {{ {keys} }}", virtual).checks
    return found


# --------------------------------------------------------------------------- whole files


def test_the_example_of_the_documentation():
    (found,) = config(
        """
        [director]
        resync = "10s"
        clean_stop = true
        prune = false
        [[virtual]]
        name = "web"
        listen = "192.0.2.10:80/tcp"
        scheduler = "wrr"
        forwarding = "masq"
        persistence = { timeout = "10m", netmask = "255.255.255.255" }
        on_down = "quiesce"
        min_up = "0%"
        fallback = { address = "127.0.0.1:8080", forwarding = "masq" }
        check = { type = "http", port = 80, path = "/health", host = "www.example.org", \
interval = "1s", timeout = "1s", rise = 1, fall = 1, expect = { status = [200], body = "OK" }, \
via = "direct" }
        real = [ { address = "10.0.0.1:80", weight = 5, forwarding = "masq", \
max_connections = 0, min_connections = 0 } ]
        """
    ).virtual
    http = Http(path="/health", host="www.example.org", status=("200",), body="OK")
    assert found == VirtualService(
        key=InetKey(TCP, "192.0.2.10", 80),
        name="web",
        persistence=Persistence(600, 32),
        fallback=Fallback(address="127.0.0.1", port=8080, forwarding=Forwarding.MASQ),
        clean_stop=True,
        real=(
            RealServer(
                address="10.0.0.1",
                port=80,
                forwarding=Forwarding.MASQ,
                weight=5,
                checks=(Check(http, Target("10.0.0.1", 80), Schedule(1.0, 1.0, 1, 1, 1.0)),),
            ),
        ),
    )


def test_defaults():
    found = service("")
    tcp = Check(Tcp(), Target("10.0.0.1", 80), Schedule(5.0, 2.0, 2, 3, 1.0))
    real = RealServer(
        address="10.0.0.1", port=80, forwarding=Forwarding.ROUTE, weight=1, checks=(tcp,)
    )
    assert found == VirtualService(
        key=InetKey(TCP, "192.0.2.10", 80), scheduler="wrr", real=(real,)
    )
    assert found.on_down is OnDown.QUIESCE


def test_an_empty_file_is_a_configuration():
    assert config("").virtual == ()
    assert config("").director == DirectorSettings(resync=10.0, clean_stop=False, prune=False)


def test_director():
    found = config('[director]\nresync = "500ms"\nclean_stop = true\nprune = true\n').director
    assert found == DirectorSettings(resync=0.5, clean_stop=True, prune=True)


def test_a_byte_order_mark_and_windows_line_ends():
    assert config("\ufeff[director]\r\nresync = '1m'\r\n").director.resync == 60.0


@pytest.mark.parametrize(
    "table",
    [
        '[ipvs]\nsysctls = "manage"',
        '[snmp]\nagentx = "tcp:127.0.0.1:705"',
    ],
)
def test_tables_that_are_not_acted_on_yet(table):
    loaded = read(table, "test.toml", REGISTRY)
    assert [d.code for d in loaded.warnings] == ["LB380"]
    assert loaded.config is not None


def test_feedback_is_not_acted_on_yet():
    text = """
[[virtual]]
listen = "192.0.2.10:80"
real = [{ address = "10.0.0.1" }]
[virtual.feedback]
type = "agent"
port = 3333
interval = "10s"
timeout = "2s"
formula = "percent"
apply_every = "2s"
stale_after = "30s"
smoothing = 0
dead_band = 2
max_step = 10.5
quantise = 5
"""
    loaded = read(text, "test.toml", REGISTRY)
    assert [(d.code, d.span.line) for d in loaded.diagnostics] == [("LB380", 5)]


# --------------------------------------------------------------------------- the service


@pytest.mark.parametrize(
    ("listen", "key"),
    [
        ('"192.0.2.10:80"', InetKey(TCP, "192.0.2.10", 80)),
        ('"192.0.2.10:80/tcp"', InetKey(TCP, "192.0.2.10", 80)),
        ('"192.0.2.10:53/udp"', InetKey(TransportProtocol.UDP, "192.0.2.10", 53)),
        ('"192.0.2.10:80/sctp"', InetKey(TransportProtocol.SCTP, "192.0.2.10", 80)),
        ('"192.0.2.10:http"', InetKey(TCP, "192.0.2.10", 80)),
        ('"vip.example.org:https/tcp"', InetKey(TCP, "192.0.2.10", 443)),
    ],
)
def test_listen(listen, key):
    found = service(
        'check = { type = "on" }', f"listen = {listen}", 'real = [{ address = "10.0.0.1" }]'
    )
    assert found.key == key
    assert found.real[0].port == key.port


def test_listen_on_ipv6():
    real = 'real = [{ address = "[2001:db8:0::1]:80" }, { address = "web1.example.org" }]'
    found = service("", 'listen = "[2001:DB8:0:0::10]:80"', real)
    assert found.key == InetKey(TCP, "2001:db8::10", 80)
    assert [real.address for real in found.real] == ["2001:db8::1", "2001:db8::101"]


def test_listen_on_every_port():
    found = service(
        'persistence = { timeout = "5m" }\ncheck = { type = "tcp", port = 80 }',
        'listen = "192.0.2.10:0"',
        'real = [{ address = "10.0.0.1" }]',
    )
    assert found.key == InetKey(TCP, "192.0.2.10", 0)
    assert found.real[0].port == 0
    assert found.real[0].checks[0].target == Target("10.0.0.1", 80)


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ("fwmark = 5", FwmarkKey(5, socket.AF_INET)),
        ('fwmark = 5\nfamily = "inet"', FwmarkKey(5, socket.AF_INET)),
        ('fwmark = 4294967295\nfamily = "inet6"', FwmarkKey(2**32 - 1, socket.AF_INET6)),
    ],
)
def test_fwmark(keys, key):
    found = service('check = { type = "ping" }', keys, 'real = [{ address = "web1.example.org" }]')
    assert found.key == key
    assert found.real[0].port == 0
    assert (":" in found.real[0].address) == (key.family == socket.AF_INET6)


def test_name():
    assert service('name = "web"').name == "web"


@pytest.mark.parametrize(
    "scheduler", ["rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "lblc", "lblcr"]
)
def test_scheduler(scheduler):
    assert service(f'scheduler = "{scheduler}"').scheduler == scheduler


@pytest.mark.parametrize(
    ("scheduler", "flags", "expected"),
    [
        ("sh", '"sh-port", "sh-fallback"', ("sh-fallback", "sh-port")),
        ("mh", '"mh-port", "mh-fallback"', ("mh-fallback", "mh-port")),
        ("mh", '"flag-1", "flag-2"', ("mh-fallback", "mh-port")),
        ("sh", '"flag-1", "sh-fallback"', ("sh-fallback",)),
        ("wrr", '"flag-3", "flag-1"', ("flag-1", "flag-3")),
    ],
)
def test_flags_have_the_names_that_ipvsadm_prints(scheduler, flags, expected):
    assert service(f'scheduler = "{scheduler}"\nflags = [{flags}]').flags == expected


def test_one_packet():
    keys = 'one_packet = true\ncheck = { type = "ping" }'
    assert service(
        keys, 'listen = "192.0.2.10:53/udp"', 'real = [{ address = "10.0.0.1" }]'
    ).one_packet


@pytest.mark.parametrize("word", ["masq", "route", "tunnel"])
def test_forwarding_of_the_service_is_the_default_of_its_servers_and_fallback(word):
    found = service(f'forwarding = "{word}"\nfallback = {{ address = "127.0.0.1" }}')
    assert found.real[0].forwarding is Forwarding[word.upper()]
    assert found.fallback == Fallback(
        address="127.0.0.1", port=80, forwarding=Forwarding[word.upper()]
    )


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('timeout = "10m"', Persistence(600)),
        ('timeout = "1h", netmask = "255.255.255.0"', Persistence(3600, 24)),
        ('timeout = "90s", netmask = 24', Persistence(90, 24)),
        ('timeout = "1d", netmask = "16"', Persistence(86400, 16)),
    ],
)
def test_persistence(table, expected):
    assert service(f"persistence = {{ {table} }}").persistence == expected


def test_persistence_of_ipv6_and_its_engine():
    keys = (
        'persistence = { timeout = "10m", netmask = 64, engine = "sip" }\ncheck = { type = "on" }'
    )
    found = service(
        keys, 'listen = "[2001:db8::10]:5060/udp"', 'real = [{ address = "[2001:db8::1]" }]'
    )
    assert found.persistence == Persistence(600, 64, "sip")


@pytest.mark.parametrize("word", ["quiesce", "remove"])
def test_on_down(word):
    assert service(f'on_down = "{word}"').on_down is OnDown(word)


@pytest.mark.parametrize(
    ("text", "share"), [("0%", 0), ("50%", 0.5), ("12.5%", 0.125), ("100%", 1)]
)
def test_min_up(text, share):
    assert service(f'min_up = "{text}"').min_up == share


def test_readd_quiescent():
    assert service("readd_quiescent = true").readd_quiescent


# --------------------------------------------------------------------------- servers


def test_server_keys():
    found = server('weight = 0, forwarding = "masq", max_connections = 100, min_connections = 80')
    assert (found.weight, found.forwarding, found.upper, found.lower) == (
        0,
        Forwarding.MASQ,
        100,
        80,
    )


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('type = "ipip"', Tunnel()),
        ("", Tunnel()),
        ('type = "gue", port = 6080', Tunnel(TunnelType.GUE, 6080)),
        (
            'type = "gue", port = 6080, checksum = "remote"',
            Tunnel(TunnelType.GUE, 6080, TunnelChecksum.REMOTE),
        ),
        ('type = "gre", checksum = "checksum"', Tunnel(TunnelType.GRE, 0, TunnelChecksum.CHECKSUM)),
    ],
)
def test_tunnel(table, expected):
    assert server(f'forwarding = "tunnel", tunnel = {{ {table} }}').tunnel == expected


def test_a_tunnel_may_lead_to_the_other_family():
    found = service('forwarding = "tunnel"', real='real = [{ address = "[2001:db8::1]:80" }]')
    assert found.real[0].address == "2001:db8::1"


def test_servers_in_tables_of_their_own():
    text = """
[[virtual]]
listen = "192.0.2.10:80"
forwarding = "masq"
[[virtual.real]]
address = "10.0.0.1:8080"
[[virtual.real]]
address = "10.0.0.2:8080"
[[virtual.check]]
type = "tcp"
[[virtual.check]]
type = "ping"
[[virtual]]
listen = "192.0.2.11:80"
[[virtual.real]]
address = "10.0.0.3"
"""
    first, second = config(text).virtual
    assert [s.name for s in first.real] == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert [c.checker.kind for c in first.real[1].checks] == ["tcp", "ping"]
    assert [s.name for s in second.real] == ["10.0.0.3:80"]


# --------------------------------------------------------------------------- checks


def test_negotiate_checks_have_a_longer_time_out():
    assert check('type = "http"').schedule == Schedule(5.0, 5.0, 2, 3, 1.0)
    assert check('type = "ping"').schedule == Schedule(5.0, 2.0, 2, 3, 1.0)


def test_schedule_keys():
    keys = 'type = "tcp", interval = "50ms", timeout = "40ms", rise = 100, fall = 1'
    assert check(keys).schedule == Schedule(0.05, 0.04, 100, 1, 0.05)
    keys = 'type = "tcp", interval = "1.5s", timeout = "1s", fast_interval = "250ms"'
    assert check(keys).schedule == Schedule(1.5, 1.0, 2, 3, 0.25)


def test_where_a_check_goes():
    keys = 'type = "tcp", port = 8080, source = "192.0.2.1", mark = 7, via = "direct"'
    assert check(keys).target == Target("10.0.0.1", 8080, source="192.0.2.1", mark=7)


def test_a_ping_has_no_port_so_that_services_share_it():
    assert check('type = "ping", attempts = 3').target == Target("10.0.0.1", 0)
    assert check('type = "ping", attempts = 3').checker == Ping(3)


def test_http_settings():
    keys = """type = "http", path = "/a", method = "HEAD", host = "h.example", redirects = 0,
      headers = { "X-Foo" = "bar", "X-B" = "c" },
      expect = { status = [200, "300-399"], body_regex = "a+" }"""
    keys = " ".join(keys.split())
    assert check(keys).checker == Http(
        path="/a",
        method="HEAD",
        host="h.example",
        headers=(("X-Foo", "bar"), ("X-B", "c")),
        status=("200", "300-399"),
        body_regex="a+",
        redirects=0,
    )


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ('"www.example.org"', "www.example.org"),
        ('"www.example.org:8443"', "www.example.org"),
        ('"192.0.2.1"', None),
        ('"[2001:db8::1]:443"', None),
    ],
)
def test_the_tls_server_name_is_the_virtual_host(host, name):
    found = check(f'type = "https", host = {host}, verify = true')
    assert found.target.server_name == name
    assert found.checker.verify


def test_plain_http_has_no_server_name():
    assert check('type = "http", host = "www.example.org"').target.server_name is None


@pytest.mark.parametrize(("word", "state"), [("on", HealthState.UP), ("off", HealthState.DOWN)])
def test_on_and_off(word, state):
    found = server(f'check = {{ type = "{word}" }}')
    assert (found.checks, found.assumed) == ((), state)


def test_a_server_may_have_its_own_check():
    virtual = 'check = { type = "http" }'
    assert check('type = "tcp"', virtual).checker == Tcp()


def test_all_of_a_list_of_checks():
    found = server('check = [{ type = "tcp" }, { type = "http", port = 8080 }]')
    assert [(c.checker.kind, c.target.port) for c in found.checks] == [("tcp", 80), ("http", 8080)]


def test_hybrid():
    found = check(
        'type = "hybrid", connects = 5, timeout = "1s", interval = "2s", port = 81, '
        'negotiate = { type = "https", timeout = "4s", host = "a.example" }'
    )
    assert found == Check(
        Https(host="a.example"),
        Target("10.0.0.1", 81, server_name="a.example"),
        Schedule(2.0, 4.0, 2, 3, 1.0),
        Hybrid(5, Tcp(), 1.0),
    )


def test_hybrid_defaults():
    found = check('type = "hybrid", connects = 5, negotiate = { type = "http" }')
    assert found.schedule.timeout == 5.0
    assert found.hybrid == Hybrid(5, Tcp(), 2.0)


def test_equal_values_are_one_object():
    text = """
[[virtual]]
listen = "192.0.2.10:80"
real = [
  { address = "10.0.0.1:80", check = { type = "http", path = "/x" } },
  { address = "10.0.0.2:80", check = { type = "http", path = "/x" } },
]
[[virtual]]
listen = "192.0.2.11:80"
check = { type = "http", path = "/x" }
real = [{ address = "10.0.0.1:80" }]
"""
    first, second = config(text).virtual
    one, two, three = first.real[0], first.real[1], second.real[0]
    assert one.checks[0] is three.checks[0]
    assert one.address is three.address
    assert one.checks[0].checker is two.checks[0].checker
    assert one.checks[0].schedule is two.checks[0].schedule
