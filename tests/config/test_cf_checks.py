"""checktype, service, ports and time-outs into checks."""

import pytest

from lbhealth.config.cf.services import SERVICE_OF_PORT
from lbhealth.model import HealthState
from tests.config.fakes import FakeRegistry, Http, Https, Ping, Tcp, codes, one, read, section


def check(*lines, **kwargs):
    (server, *_) = one(section(*lines, **kwargs)).real
    (found,) = server.checks
    return found


@pytest.mark.parametrize(
    ("lines", "connect", "negotiate"),
    [
        ("", 5, 30),
        ("C3", 3, 3),
        ("N4", 4, 4),
        ("C3 N4", 3, 4),
        ("c2", 2, 2),
        ("n2", 2, 2),
        ("c2 C3 N4", 2, 2),
        ("n2 C3 N4", 2, 2),
        ("c1 n2 C3 N4", 1, 2),
    ],
)
def test_effective_timeouts(lines, connect, negotiate):
    keys = {"c": "checktimeout", "n": "negotiatetimeout"}
    words = [f"{keys[w[0].lower()]}={w[1:]}" for w in lines.split()]
    shared = [w for w, old in zip(words, lines.split(), strict=True) if old[0].isupper()]
    own = [w for w, old in zip(words, lines.split(), strict=True) if old[0].islower()]
    head = "".join(f"{w}\n" for w in shared)
    by_connect = one(head + section("checktype=connect", *own))
    by_request = one(head + section("checktype=negotiate", *own))
    assert by_connect.real[0].checks[0].schedule.timeout == connect
    assert by_request.real[0].checks[0].schedule.timeout == negotiate


@pytest.mark.parametrize(
    ("lines", "checker"),
    [
        (["checktype=connect"], Tcp()),
        (["checktype=connect", "protocol=udp"], Ping()),
        (["checktype=ping"], Ping(1)),
        (["checktype=ping", "checkcount=3"], Ping(3)),
        ([], Http("/")),
        (["service=http", 'request="x.html"'], Http("/x.html")),
        (['request="/a b"', 'receive="x|y"'], Http("/a%20b", body_regex="x|y")),
        (["httpmethod=head"], Http("/", "HEAD")),
        (["virtualhost=www.example.org"], Http("/", host="www.example.org")),
        (["service=https"], Https("/")),
        (["service=none", "checktype=3"], Tcp()),
        (["service=none", "checktype=3", "protocol=udp"], Ping()),
    ],
)
def test_checkers(lines, checker):
    assert check(*lines).checker == checker


def test_ping_waits_for_every_attempt():
    found = check("checktype=ping", "checkcount=3", "checktimeout=2")
    assert found.schedule.timeout == 6
    assert found.target.port == 0


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        (["checktype=on"], HealthState.UP),
        (["checktype=off"], HealthState.DOWN),
        (["service=none"], HealthState.UP),
        (["service=none", "checktype=0"], HealthState.UP),
    ],
)
def test_servers_without_checks(lines, state):
    (server,) = one(section(*lines)).real
    assert (server.checks, server.assumed) == ((), state)


@pytest.mark.parametrize(("value", "connects"), [("5", 5), ("0", None), ("ping2", 2)])
def test_combined(value, connects):
    found = check(f"checktype={value}", "checktimeout=2", "negotiatetimeout=9")
    assert found.checker == Http("/")
    assert found.schedule.timeout == 9
    if connects is None:
        assert found.hybrid is None
    else:
        assert (found.hybrid.connects, found.hybrid.connect) == (connects, Tcp())
        assert found.hybrid.timeout == 2


@pytest.mark.parametrize(
    ("lines", "real", "port"),
    [
        ([], "10.0.0.1:8080 masq", 8080),
        (["checkport=99"], "10.0.0.1:8080 masq", 99),
        ([], "10.0.0.1 masq", 80),
        (["service=https"], "10.0.0.1 masq", 443),
        (["checktype=connect", "service=imap"], "10.0.0.1 masq", 143),
    ],
)
def test_check_port(lines, real, port):
    assert check(*lines, real=f"real={real}").target.port == port


def test_without_any_port_there_is_nothing_to_check():
    text = section("checktype=connect", head="virtual=5", real="real=10.0.0.1 gate")
    (error,) = read(text).errors
    assert (error.code, error.help) == (
        "LB215",
        'add "checkport=PORT" to the section, or a port to the server',
    )
    fine = section("checktype=connect", "checkport=80", head="virtual=5", real="real=10.0.0.1 gate")
    assert read(fine).errors == ()


@pytest.mark.parametrize(("port", "service"), sorted(SERVICE_OF_PORT.items()))
def test_service_follows_from_the_virtual_port(port, service):
    loaded = read(section(head=f"virtual=192.0.2.1:{port}", real=f"real=10.0.0.1:{port} masq"))
    if service in ("http", "https"):
        assert loaded.config.virtual[0].real[0].checks[0].checker.kind == service
        return
    code = {"dns": "LB212", "mysql": "LB211", "pgsql": "LB211", "oracle": "LB210"}
    assert code.get(service, "LB281") in codes(loaded)


def test_a_mark_has_no_service():
    assert one(section(head="virtual=5")).real[0].checks == ()


# --------------------------------------------------------------------------- http


@pytest.mark.parametrize(
    ("request_", "host", "path", "warned"),
    [
        ("/x", None, "/x", False),
        ("http://10.0.0.1/x", "10.0.0.1", "/x", False),
        ("http://10.0.0.1:80/x", "10.0.0.1", "/x", False),
        ("http://10.0.0.1", "10.0.0.1", "/", False),
        ("http://10.0.0.1:81/x", "10.0.0.1", "/x", True),
        ("http://www.example.org/x?y=1", "www.example.org", "/x?y=1", True),
        ("/http://www.example.org/x", "www.example.org", "/x", True),
        ("https://www.example.org/x", None, "/https://www.example.org/x", False),
    ],
)
def test_a_url_as_request(request_, host, path, warned):
    loaded = read(section(f'request="{request_}"'))
    checker = loaded.config.virtual[0].real[0].checks[0].checker
    assert (checker.host, checker.path) == (host, path)
    assert codes(loaded) == (["LB217"] if warned else [])


def test_virtualhost_wins_over_the_url():
    found = check('request="http://10.0.0.1/x"', "virtualhost=www.example.org")
    assert found.checker.host == "www.example.org"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("www.example.org", "www.example.org"),
        ("www.example.org:8443", "www.example.org"),
        ("192.0.2.7", None),
        ("192.0.2.7:443", None),
        ("[2001:db8::1]", None),
        ("", None),
    ],
)
def test_tls_server_name(host, name):
    found = check("service=https", f"virtualhost={host}")
    assert found.target.server_name == name
    assert found.checker.verify is False
    assert check(f"virtualhost={host}").target.server_name is None


def test_a_bad_pattern_is_found_at_its_character():
    (error,) = read(section('receive="ab(cd"')).errors
    assert (error.code, error.span.line, error.span.length) == ("LB410", 3, 1)
    assert 14 < error.span.column <= 19


def test_a_bad_pattern_on_a_real_line():
    (error,) = read(section(real='real=10.0.0.1:80 masq "/x", "[z"')).errors
    assert (error.code, error.span.line) == ("LB410", 2)
    assert error.span.column >= 34


def test_head_cannot_match():
    assert codes(read(section("httpmethod=HEAD", 'receive="x"'))) == ["LB216"]


# --------------------------------------------------------------------------- other services


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["service=ftp"], ["LB281"]),
        (["service=dns", 'receive="x"'], ["LB281"]),
        (["service=dns"], ["LB212"]),
        (["service=mysql"], ["LB211"]),
        (["service=mysql", 'login="x"'], ["LB211"]),
        (["service=pgsql", 'login="x"', 'request="select 1"'], ["LB281"]),
        (["service=oracle"], ["LB210"]),
        (["service=oracle", "checktype=connect"], []),
        (["service=pop"], ["LB213", "LB281"]),
        (["service=imaps"], ["LB213", "LB281"]),
        (["service=imap", 'login="x"', 'passwd="y"'], ["LB281"]),
        (["checktype=external"], ["LB214", "LB281"]),
        (["checktype=external-perl", "checkcommand=/x"], ["LB281"]),
        (["service=dns", "checktype=on"], []),
    ],
)
def test_services_of_later_versions(lines, expected):
    assert sorted(codes(read(section(*lines)))) == expected


@pytest.mark.parametrize(("protocol", "checker"), [("tcp", Tcp()), ("udp", Ping())])
def test_meanwhile_a_simpler_check_judges(protocol, checker):
    found = check("service=sip", f"protocol={protocol}", "checktimeout=2", "negotiatetimeout=9")
    assert found.checker == checker
    assert found.schedule.timeout == 2


def test_a_request_on_the_real_line_is_enough_for_sql():
    text = section('login="x"', "service=mysql", real='real=10.0.0.1:80 masq "select 1", "x"')
    # The section itself has no server without a request of its own.
    assert read(text).errors == ()


def test_a_missing_checker_is_an_error_where_no_other_can_judge():
    loaded = read(section("checktype=ping"), registry=FakeRegistry(Tcp))
    assert codes(loaded) == ["LB414"]
    loaded = read(section(), registry=FakeRegistry(Tcp))
    assert codes(loaded) == ["LB281"]


def test_checkcount_without_ping():
    assert codes(read(section("checkcount=2"))) == ["LB218"]


# --------------------------------------------------------------------------- sharing


def test_equal_values_are_one_object():
    text = "".join(
        section("real=10.0.0.2:80 masq", 'receive="OK"', head=f"virtual=192.0.2.{n}:80")
        for n in range(1, 4)
    )
    services = read(text).config.virtual
    first = services[0].real
    assert first[0].checks[0].checker is first[1].checks[0].checker
    for service in services[1:]:
        for mine, theirs in zip(service.real, first, strict=True):
            assert mine.checks is theirs.checks


def test_different_timing_is_a_different_check():
    text = section() + section("failurecount=3", head="virtual=192.0.2.2:80")
    one_, two = read(text).config.virtual
    assert one_.real[0].checks[0].checker is two.real[0].checks[0].checker
    assert one_.real[0].checks[0] != two.real[0].checks[0]
