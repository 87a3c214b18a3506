"""`virtual`, `real` and `fallback` lines."""

import socket

import pytest

from lbhealth.model import Forwarding, FwmarkKey, HealthState, InetKey, TransportProtocol
from tests.config.fakes import FakeResolver, codes, one, read, section

TCP, UDP = TransportProtocol.TCP, TransportProtocol.UDP


@pytest.mark.parametrize(
    ("head", "key"),
    [
        ("virtual=192.0.2.1:80", InetKey(TCP, "192.0.2.1", 80)),
        ("virtual = 192.0.2.1:80", InetKey(TCP, "192.0.2.1", 80)),
        ("virtual=192.0.2.1:http", InetKey(TCP, "192.0.2.1", 80)),
        ("virtual=vip.example.org:http", InetKey(TCP, "192.0.2.10", 80)),
        ("virtual=192.0.2.1:53", InetKey(UDP, "192.0.2.1", 53)),
        ("virtual=192.0.2.1:domain", InetKey(UDP, "192.0.2.1", 53)),
        ("virtual=192.0.2.1:053", InetKey(TCP, "192.0.2.1", 53)),
        ("virtual6=[2001:DB8::0:1]:80", InetKey(TCP, "2001:db8::1", 80)),
        ("virtual6=vip.example.org:80", InetKey(TCP, "2001:db8::10", 80)),
        ("virtual=5", FwmarkKey(5)),
        ("virtual=4294967295", FwmarkKey(2**32 - 1)),
        ("virtual6=5", FwmarkKey(5, socket.AF_INET6)),
    ],
)
def test_virtual(head, key):
    assert one(section("checktype=on", head=head)).key == key


@pytest.mark.parametrize(
    ("head", "code", "column", "length"),
    [
        ("virtual=10.0.0.1", "LB201", 9, 8),
        ("virtual=10.0.0.1:", "LB201", 9, 9),
        ("virtual=5abc", "LB201", 9, 4),
        ("virtual=vip.example.org", "LB201", 9, 15),
        ("virtual6=[2001:db8::1]", "LB201", 10, 13),
        ("virtual=0", "LB202", 9, 1),
        ("virtual=4294967296", "LB202", 9, 10),
        ("virtual=", "LB202", 1, 7),
        ("virtual", "LB202", 1, 7),
        ("virtual6=2001:db8::1:80", "LB202", 10, 14),
        ("virtual=[2001:db8::1]:80", "LB203", 9, 16),
        ("virtual=192.0.2.1:nosuch", "LB402", 19, 6),
        ("virtual=192.0.2.1:80x", "LB402", 19, 3),
        ("virtual=192.0.2.1:65536", "LB402", 19, 5),
        ("virtual=192.0.2.1:-1", "LB402", 19, 2),
        ("virtual=nowhere.example.org:80", "LB401", 9, 19),
        ("virtual=192.0.2.256:80", "LB415", 9, 11),
        ("virtual=192.0.02.1:80", "LB415", 9, 10),
        ("virtual6=192.0.2.1:80", "LB415", 10, 9),
        ("virtual6=[192.0.2.1]:80", "LB415", 10, 11),
        ("virtual6=[fe80::1%eth0]:80", "LB415", 10, 14),
        ("virtual=192.0.2.1:0", "LB412", 9, 11),
    ],
)
def test_virtual_refused(head, code, column, length):
    (error,) = read(section("checktype=on", head=head)).errors
    assert (error.code, error.span.line) == (code, 1)
    assert (error.span.column, error.span.length) == (column, length)


def test_the_mark_that_ldirectord_would_take_is_named():
    (error,) = read("virtual=10.0.0.1\n").errors
    assert error.help == "write 10.0.0.1:PORT; ldirectord takes this for firewall mark 10"


def test_port_zero_with_persistence():
    assert one(section("persistent=60", head="virtual=192.0.2.1:0")).key.port == 0


@pytest.mark.parametrize(
    ("head", "protocol", "good"),
    [
        ("virtual=192.0.2.1:80", "udp", True),
        ("virtual=192.0.2.1:53", "tcp", True),
        ("virtual=192.0.2.1:80", "fwm", False),
        ("virtual=7", "fwm", True),
        ("virtual=7", "tcp", False),
    ],
)
def test_protocol(head, protocol, good):
    loaded = read(section(f"protocol={protocol}", "checktype=on", head=head))
    assert [d.code for d in loaded.errors] == ([] if good else ["LB208"])


@pytest.mark.parametrize(
    ("second", "duplicate"),
    [
        ("virtual=192.0.2.10:80", True),
        ("virtual=vip.example.org:http", True),
        ("virtual=192.0.2.10:81", False),
        ("virtual=192.0.2.10:80\n    protocol=udp", False),
    ],
)
def test_duplicate_virtual(second, duplicate):
    text = section(head="virtual=192.0.2.10:80") + section("checktype=on", head=second)
    assert ("LB403" in codes(read(text))) is duplicate


def test_marks_of_two_families_are_two_services():
    text = section("checktype=on", head="virtual=5") + section("checktype=on", head="virtual6=5")
    assert read(text).errors == ()
    assert codes(read(text + section("checktype=on", head="virtual=5"))) == ["LB403"]


# --------------------------------------------------------------------------- real


def row(server):
    return (
        server.address,
        server.port,
        server.forwarding.name.lower(),
        server.weight,
        server.lower,
        server.upper,
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("10.0.0.1:80 gate", ("10.0.0.1", 80, "route", 1, 0, 0)),
        ("10.0.0.1 masq", ("10.0.0.1", 0, "masq", 1, 0, 0)),
        ("10.0.0.1:http ipip 7", ("10.0.0.1", 80, "tunnel", 7, 0, 0)),
        ("10.0.0.1:80 gate 0", ("10.0.0.1", 80, "route", 0, 0, 0)),
        ("10.0.0.1:80 gate 0012", ("10.0.0.1", 80, "route", 12, 0, 0)),
        ("10.0.0.1:80 gate 2147483647", ("10.0.0.1", 80, "route", 2147483647, 0, 0)),
        ("10.0.0.1:80\tgate\t3", ("10.0.0.1", 80, "route", 3, 0, 0)),
        ("web1.example.org:80 gate", ("192.0.2.101", 80, "route", 1, 0, 0)),
        ("10.0.0.1:80 gate l:2 u:5", ("10.0.0.1", 80, "route", 1, 2, 5)),
        ("10.0.0.1:80 gate 3 u:5", ("10.0.0.1", 80, "route", 3, 0, 5)),
        ("10.0.0.1:80 gate l:2 u:5 3", ("10.0.0.1", 80, "route", 3, 2, 5)),
        ("10.0.0.1:80 gate l:0 u:0", ("10.0.0.1", 80, "route", 1, 0, 0)),
        ('10.0.0.1:80 gate 3 "/a", "b" l:2 u:5', ("10.0.0.1", 80, "route", 3, 2, 5)),
        ('10.0.0.1:80 gate "GET 200", "x"', ("10.0.0.1", 80, "route", 1, 0, 0)),
    ],
)
def test_real(line, expected):
    (server,) = one(section(real=f"real={line}")).real
    assert row(server) == expected


@pytest.mark.parametrize(
    ("line", "code", "column", "length"),
    [
        ("10.0.0.1:80", "LB204", 10, 11),
        ("10.0.0.1:80 gatex", "LB204", 22, 5),
        ("10.0.0.1:80 GATE", "LB204", 22, 4),
        ("10.0.0.1:80 gate,masq", "LB204", 22, 9),
        ("10.0.0.1:80 gate -1", "LB204", 27, 2),
        ("10.0.0.1:80 gate 3 4", "LB204", 29, 1),
        ("10.0.0.1:80 gate 3abc", "LB204", 27, 4),
        ("10.0.0.1:80 gate junk", "LB204", 27, 4),
        ("10.0.0.1:80 gate l:x", "LB204", 27, 3),
        ("10.0.0.1:80 gate l:1 l:2", "LB204", 31, 3),
        ('10.0.0.1:80 gate "a"', "LB204", 27, 3),
        ("10.0.0.1:80 gate 2147483648", "LB107", 27, 10),
        ("10.0.0.1:80 gate l:5", "LB409", 27, 3),
        ("10.0.0.1:80 gate l:5 u:4", "LB409", 27, 3),
        ("10.0.0.1::80 gate", "LB204", 10, 12),
        ("10.0.0.1: gate", "LB204", 10, 9),
        ("2001:db8::1 gate", "LB204", 10, 11),
        ("[2001:db8::1]:80 gate", "LB203", 10, 13),
        ("10.0.0.1:nosuch gate", "LB402", 19, 6),
        ("10.0.0.1:65536 gate", "LB402", 19, 5),
        ("10.2:80 gate", "LB415", 10, 4),
        ("nowhere.example.org gate", "LB401", 10, 19),
        ("10.0.0.4->10.0.0.2:80 gate", "LB205", 20, 8),
        ("10.0.0.0->10.9.0.0:80 gate", "LB205", 20, 8),
        ("", "LB204", 5, 4),
    ],
)
def test_real_refused(line, code, column, length):
    (error,) = read(section(real=f"real={line}")).errors
    assert (error.code, error.span.line) == (code, 2)
    assert (error.span.column, error.span.length) == (column, length)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("10.0.0.1->10.0.0.1:80 masq", ["10.0.0.1"]),
        ("10.0.0.254->10.0.1.1:80 masq", ["10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1"]),
        ("10.0.0.1 -> 10.0.0.2:80 masq", ["10.0.0.1", "10.0.0.2"]),
        ("59.154.201.255->59.154.202.0:80 masq", ["59.154.201.255", "59.154.202.0"]),
        (
            "web1.example.org->web2.example.org:80 masq",
            ["192.0.2.101", "192.0.2.102", "192.0.2.103"],
        ),
    ],
)
def test_ranges(line, expected):
    service = one(section(real=f"real={line} 4"))
    assert [server.address for server in service.real] == expected
    assert {server.weight for server in service.real} == {4}


def test_ipv6_servers():
    head = "virtual6=[2001:db8::9]:80"
    service = one(section(head=head, real="real6=[2001:DB8::0:7]:80 gate"))
    assert service.real[0].name == "[2001:db8::7]:80"
    service = one(section(head=head, real="real6=web1.example.org:80 gate"))
    assert service.real[0].address == "2001:db8::101"
    assert codes(read(section(head=head, real="real6=2001:db8::7 gate"))) == ["LB204"]
    assert codes(read(section(head=head, real="real6=[::1]->[::2]:80 gate"))) == ["LB205"]


def test_families_are_not_mixed():
    assert codes(read(section(real="real6=[::1]:80 gate"))) == ["LB203"]
    head = "virtual6=[2001:db8::9]:80"
    assert codes(read(section(head=head, real="real=10.0.0.1:80 gate"))) == ["LB203"]
    assert codes(read(section("fallback=127.0.0.1:80", head=head))) == ["LB203"]


def test_request_and_receive_of_one_server():
    service = one(
        section(
            'real=10.0.0.2:80 masq "/own", "fine"',
            'real=10.0.0.3:80 masq "other" "x"',
            'real=10.0.0.4:80 masq "",""',
            'request="/all"',
            'receive="OK"',
        )
    )
    checkers = [server.checks[0].checker for server in service.real]
    assert [(c.path, c.body_regex) for c in checkers] == [
        ("/all", "OK"),
        ("/own", "fine"),
        ("/other", "x"),
        ("/", None),
    ]


def test_thresholds_in_the_order_that_ldirectord_misreads():
    loaded = read(section(real="real=10.0.0.1:80 gate u:5 l:2"))
    assert codes(loaded) == ["LB207"]
    assert row(loaded.config.virtual[0].real[0])[4:] == (2, 5)


def test_a_server_listed_twice_counts_once():
    loaded = read(section("real=10.0.0.1:80 masq 9", "real=10.0.0.1:81 masq"))
    assert codes(loaded) == ["LB404"]
    assert [s.name for s in loaded.config.virtual[0].real] == ["10.0.0.1:80", "10.0.0.1:81"]
    assert loaded.config.virtual[0].real[0].weight == 1


def test_gate_ports():
    loaded = read(section(real="real=10.0.0.1:8080 gate"))
    assert codes(loaded) == ["LB406"]
    service = loaded.config.virtual[0]
    assert service.destination_key(service.real[0]) == ("10.0.0.1", 80)
    assert service.real[0].checks[0].target.port == 8080
    many = [f"real=10.0.0.{n}:8080 gate" for n in range(2, 9)]
    assert codes(read(section(*many, real="real=10.0.0.1:8080 gate"))) == ["LB406"]
    assert codes(read(section("real=10.0.0.1:81 gate", real="real=10.0.0.1 gate"))) == [
        "LB405",
        "LB406",
    ]
    assert codes(read(section(real="real=10.0.0.1:8080 gate", head="virtual=5"))) == []


# --------------------------------------------------------------------------- fallback


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1", 80, Forwarding.ROUTE)),
        ("127.0.0.1:80", ("127.0.0.1", 80, Forwarding.ROUTE)),
        ("127.0.0.1:webcache masq", ("127.0.0.1", 8080, Forwarding.MASQ)),
        ("web1.example.org ipip", ("192.0.2.101", 80, Forwarding.TUNNEL)),
    ],
)
def test_fallback(value, expected):
    for text in (section(f"fallback={value}"), f"fallback={value}\n{section()}"):
        found = one(text).fallback
        assert (found.address, found.port, found.forwarding) == expected


def test_fallback_of_the_section_wins_and_families_are_kept_apart():
    text = (
        "fallback=127.0.0.1\nfallback6=[::1]\n"
        + section("fallback=127.0.0.2")
        + section(head="virtual6=[2001:db8::9]:80")
        + section(head="virtual=192.0.2.2:81")
    )
    first, second, third = read(text).config.virtual
    assert (first.fallback.name, second.fallback.name) == ("127.0.0.2:80", "[::1]:80")
    assert third.fallback.name == "127.0.0.1:81"


def test_the_global_fallback_works_for_firewall_marks():
    service = one("fallback=127.0.0.1 masq\n" + section("checktype=on", head="virtual=5"))
    assert service.fallback.name == "127.0.0.1:0"


def test_a_fallback_port_without_effect():
    assert codes(read(section("fallback=127.0.0.1:8080"))) == ["LB218"]
    assert codes(read(section("fallback=127.0.0.1:8080 masq"))) == []


def test_a_parked_server_holds_the_fallback_off():
    loaded = read(section("fallback=127.0.0.1", real="real=10.0.0.1:80 masq 0"))
    assert codes(loaded) == ["LB413"]


def test_a_fallback_alone_serves():
    loaded = read(section("fallback=127.0.0.1:80", real=""))
    assert codes(loaded) == ["LB219"]
    (server,) = loaded.config.virtual[0].real
    assert (server.name, server.checks, server.assumed) == ("127.0.0.1:80", (), HealthState.UP)


def test_each_name_is_asked_once():
    resolver = FakeResolver()
    text = "".join(
        section(real="real=web1.example.org:http masq", head=f"virtual=192.0.2.{n}:80")
        for n in range(1, 5)
    )
    assert read(text, resolver=resolver).errors == ()
    assert resolver.asked == ["web1.example.org", "http"]
