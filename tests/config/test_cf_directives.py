"""Every directive: the values that ldirectord takes, and those that it refuses."""

import pytest

from lbhealth.config.cf.options import SCHEDULERS
from lbhealth.config.cf.settings import GLOBAL, VIRTUAL
from lbhealth.config.ldirectord import read_ldirectord
from lbhealth.model import OnDown, Persistence
from tests.config.fakes import FakeRegistry, FakeResolver, codes, one, read, section

YES_NO = ("yes", "no"), ("Yes", "true", "1", "", "yes no", '"yes"')

GLOBAL_VALUES = {
    "autoreload": YES_NO,
    "callback": (('"/bin/x"', '"/bin/x" more'), ("/bin/x", '""', '"', "")),
    "checkcount": (("1", "3"), ("0", "", "x")),
    "checkinterval": (("1", "10", "1.5", "5s", "5 # every five"), ("0", "", "x", "9" * 30)),
    "checktimeout": (("1", "-3"), ("0", "", "x")),
    "cleanstop": YES_NO,
    "emailalert": (("a@b.c", '"a@b.c"', "a@b.c, d@e.f"), ("", '""')),
    "emailalertfreq": (("0", "60"), ("", "x")),
    "emailalertfrom": (("a@b.c",), ("",)),
    "emailalertstatus": (
        ("all", "none", "starting,running", "stopping, reloading", ""),
        ("sometimes", "none,running", "all,foo"),
    ),
    "execute": (("/etc/ha.d/other.cf", ""), ()),
    "failurecount": (("1", "5"), ("0", "")),
    "fallback": (
        ("127.0.0.1:80", "127.0.0.1", "127.0.0.1:80 masq", "web1.example.org:http ipip", ""),
        ("127.0.0.1:80 nat", "127.0.0.1:80 gate 5", "nowhere.example.org", "[::1]:80", "10.1:80"),
    ),
    "fallback6": (("[::1]:80", "[::1] masq"), ("127.0.0.1:80", "::1", "[::1]:x", "[::1]80")),
    "fallbackcommand": (("/bin/x start", '"/bin/x"'), ("",)),
    "fork": YES_NO,
    "logfile": (('"/var/log/x"', '"local0"'), ("/var/log/x", "local0", '""')),
    "maintenancedir": (("/etc/maintenance",), ("",)),
    "negotiatetimeout": (("1", "30"), ("0", "")),
    "quiescent": YES_NO,
    "readdquiescent": YES_NO,
    "smtp": (("mail.example.org",), ("", "@")),
    "supervised": YES_NO,
}

VIRTUAL_VALUES = {
    "checkcommand": (('"/bin/x"', "/bin/x", "/bin/x y"), ("",)),
    "checkcount": (("1",), ("0",)),
    "checkinterval": (("1",), ("0", "x")),
    "checkport": (("1", "65535"), ("0", "65536", "http", "")),
    "checktimeout": (("1",), ("0", "-0")),
    "checktype": (
        (
            *("connect", "negotiate", "ping", "on", "off", "external", "external-perl", "5", "0"),
            *("ping2", "connect please", '"connect"'),
        ),
        ("Connect", "pingx", "", "up", "9" * 20),
    ),
    "cleanstop": YES_NO,
    "comment": (("any text", ""), ()),
    "database": (('"db"',), ("db", '""')),
    "emailalert": (("a@b.c",), ("",)),
    "emailalertfreq": (("0",), ("",)),
    "emailalertstatus": (("all",), ("foo",)),
    "failurecount": (("2",), ("0",)),
    "fallback": (("127.0.0.1:80",), ("127.0.0.1:80 x",)),
    "fallback6": ((), ("[::1]:80",)),
    "fallbackcommand": (("/bin/x", '"/bin/x"'), ("",)),
    "feedback": (("none", "agent", "http"), ("yes", "", "agent x")),
    "feedbackinterval": (("10",), ("0", "x")),
    "feedbackport": (("3333",), ("0", "65536")),
    "httpmethod": (("GET", "get", "HEAD", "Head", '"GET"'), ("POST", "")),
    "load": (('"x"',), ("x",)),
    "login": (('"u"', '"u" x'), ("u", '""')),
    "monitorfile": (("/x", '"/x"'), ("",)),
    "negotiatetimeout": (("1",), ("0",)),
    "netmask": (
        ("255.255.255.0", "255.255.255.255", "0.0.0.0"),
        ("24", "255.255.255", "255.0.255.0", "999.0.0.0", "255.255.255.0 x", ""),
    ),
    "ops": YES_NO,
    "passwd": (('"p"', '"p"q"'), ("p", '""', '"p')),
    "persistent": (("1", "600", "10m"), ("0", "", "x", "2678401")),
    "protocol": (("tcp", "udp"), ("fwm", "TCP", "tcpx", "sctp", "")),
    "quiescent": YES_NO,
    "real": (("10.0.0.9:80 gate",), ("10.0.0.9:80",)),
    "real6": ((), ("[::1]:80 gate",)),
    "receive": (('"OK"', '"a"b"'), ("OK", '""', '"(unclosed"')),
    "request": (('"/x"', '"x"', '"/x" y'), ("/x", '""', "'/x'")),
    "schedflags": (("flag-1", "flag-1,flag-2"), ("sh-port", "flag-4", "")),
    "scheduler": ((*SCHEDULERS, "wrr please"), ("Wrr", "wrrr", "", "wlc2")),
    "secret": (('"s"',), ("s", '""')),
    "service": (
        (
            *("ftp", "http", "https", "http_proxy", "imap", "imaps", "ldap", "ldaps", "nntp"),
            *("none", "pop", "pops", "radius", "sip", "smtp", "submission", "simpletcp"),
            *("telnet", '"http"'),
        ),
        ("httpx", "HTTP", "", "oracle", "dns", "mysql", "pgsql"),
    ),
    "servicename": (("my shop", ""), ()),
    "smtp": (("mail",), ("",)),
    "virtualhost": (("www.example.org", '"www.example.org"', "www:81", "", '""'), ("a b",)),
}


def rows(table, which):
    return [(key, value) for key, values in table.items() for value in values[which]]


def test_the_tables_here_are_complete():
    assert set(GLOBAL_VALUES) == set(GLOBAL)
    assert set(VIRTUAL_VALUES) == set(VIRTUAL)


@pytest.mark.parametrize(("key", "value"), rows(GLOBAL_VALUES, 0))
def test_global_value_is_taken(key, value):
    loaded = read(f"{key}={value}\n{section()}")
    assert loaded.errors == ()


@pytest.mark.parametrize(("key", "value"), rows(GLOBAL_VALUES, 1))
def test_global_value_is_refused_at_its_place(key, value):
    loaded = read(f"# first\n{key} = {value}\n{section()}")
    (error,) = loaded.errors
    assert error.span.line == 2
    assert loaded.config is None


@pytest.mark.parametrize(("key", "value"), rows(VIRTUAL_VALUES, 0))
def test_virtual_value_is_taken(key, value):
    loaded = read(section(f"{key}={value}"))
    assert loaded.errors == ()


@pytest.mark.parametrize(("key", "value"), rows(VIRTUAL_VALUES, 1))
def test_virtual_value_is_refused_at_its_place(key, value):
    loaded = read(section(f"{key} = {value}"))
    (error,) = loaded.errors
    assert error.span.line == 3
    assert loaded.config is None


@pytest.mark.parametrize("key", sorted(set(GLOBAL) | set(VIRTUAL)))
def test_a_directive_without_equals_sign(key):
    at_margin, inside = read(key), read(section(key))
    if key == "supervised":
        assert codes(at_margin) == ["LB220"]
    else:
        assert [d.code for d in at_margin.errors] == ["LB106" if key in GLOBAL else "LB103"]
    assert [d.code for d in inside.errors] == ["LB106" if key in VIRTUAL else "LB102"]


@pytest.mark.parametrize("key", sorted(set(VIRTUAL) - set(GLOBAL)))
def test_virtual_directives_are_refused_at_the_margin(key):
    loaded = read(f"{section()}{key}=x\n    scheduler=rr\n")
    assert [d.code for d in loaded.errors] == ["LB103"]


@pytest.mark.parametrize(
    ("text", "code", "help"),
    [
        ("quiescant=yes", "LB101", 'did you mean "quiescent"?'),
        ("Quiescent=yes", "LB101", 'did you mean "quiescent"?'),
        ("xyzzy", "LB101", ""),
        ("=5", "LB101", ""),
        ("timeout=3", "LB105", 'write "checktimeout" or "negotiatetimeout"'),
        ("connecttimeout=3", "LB105", 'write "checktimeout"'),
    ],
)
def test_unknown_words(text, code, help):
    (error,) = read(text).errors
    assert (error.code, error.help) == (code, help)


def test_a_later_line_replaces_an_earlier_one():
    loaded = read("quiescent=no\nquiescent=yes\n" + section("checktype=3", "checktype=connect"))
    (service,) = loaded.config.virtual
    assert service.on_down is OnDown.QUIESCE
    assert service.real[0].checks[0].hybrid is None
    assert codes(loaded) == ["LB116", "LB116"]


def test_globals_count_for_sections_above_them():
    service = one(section() + "quiescent=yes\nfailurecount=4\n")
    assert service.on_down is OnDown.QUIESCE
    assert service.real[0].checks[0].schedule.fall == 4


def test_defaults():
    service = one(section())
    schedule = service.real[0].checks[0].schedule
    assert (service.scheduler, service.flags, service.persistence) == ("wrr", (), None)
    assert service.on_down is OnDown.REMOVE
    assert service.readd_quiescent is False
    assert service.clean_stop is True
    assert service.parked_holds_fallback is True
    assert (schedule.interval, schedule.fast_interval, schedule.timeout) == (10, 10, 30)
    assert (schedule.rise, schedule.fall) == (1, 1)
    director = read(section()).config.director
    assert (director.clean_stop, director.prune) == (True, True)


def test_section_wins_over_file():
    head = "quiescent=no\ncleanstop=yes\ncheckinterval=9\nreaddquiescent=yes\n"
    service = one(head + section("quiescent=yes", "cleanstop=no", "checkinterval=2"))
    assert service.on_down is OnDown.QUIESCE
    assert service.clean_stop is False
    assert service.readd_quiescent is True
    assert service.real[0].checks[0].schedule.interval == 2


def test_director_takes_the_global_cleanstop():
    loaded = read("cleanstop=no\n" + section("cleanstop=yes"))
    assert loaded.config.director.clean_stop is False
    assert loaded.config.virtual[0].clean_stop is True


def test_persistence():
    service = one(section("persistent=600", "netmask=255.255.255.0"))
    assert service.persistence == Persistence(600, 24)
    service = one(section("persistent=60", "netmask=64", head="virtual6=[2001:db8::9]:80"))
    assert service.persistence == Persistence(60, 64)
    assert codes(read(section("netmask=255.0.0.0"))) == ["LB218"]


@pytest.mark.parametrize("value", ["0", "129", "x", "255.255.255.0"])
def test_ipv6_netmask_is_a_prefix(value):
    text = section("persistent=60", f"netmask={value}", head="virtual6=[2001:db8::9]:80")
    assert codes(read(text)) == ["LB411"]


def test_scheduler_flags():
    service = one(section("scheduler=sh", "schedflags=sh-fallback,sh-port,sh-port"))
    assert service.flags == ("sh-fallback", "sh-port")
    (error,) = read(section("scheduler=mh", "schedflags=mh-port,mh-falback")).errors
    assert (error.code, error.span.column, error.span.length) == ("LB408", 24, 10)
    assert error.help == 'did you mean "mh-fallback"?'


def test_an_unknown_scheduler_is_one_error():
    (error,) = read(section("scheduler=shh", "schedflags=sh-port")).errors
    assert (error.code, error.help) == ("LB104", 'did you mean "sh"?')


@pytest.mark.parametrize(
    ("scheduler", "flags", "warned"),
    [
        ("sh", "", True),
        ("sh", "sh-fallback", False),
        ("sh", "flag-1", False),
        ("mh", "mh-port", True),
        ("dh", "", True),
        ("wrr", "", False),
    ],
)
def test_schedulers_that_refuse_at_weight_zero(scheduler, flags, warned):
    lines = [f"scheduler={scheduler}", *([f"schedflags={flags}"] if flags else [])]
    assert codes(read(section(*lines))) == (["LB407"] if warned else [])


def test_one_packet_is_for_udp():
    udp = one(section("ops=yes", "protocol=udp", "checktype=connect"))
    assert udp.one_packet is True
    loaded = read(section("ops=yes"))
    assert loaded.config.virtual[0].one_packet is False
    assert codes(loaded) == ["LB218"]


def test_what_has_no_effect_yet_is_listed_once():
    loaded = read(
        'emailalert=a@b.c\nmaintenancedir=/m\nfork=yes\nautoreload=yes\nlogfile="local0"\n'
        + section("monitorfile=/x", "emailalert=d@e.f")
    )
    (warning,) = loaded.diagnostics
    assert (warning.code, warning.span.line) == ("LB280", 1)
    assert "emailalert (line 1, 9), maintenancedir (line 2), monitorfile (line 8)" in (
        warning.message
    )


def test_extensions_are_listed_once():
    loaded = read(section("feedback=agent", "feedbackport=3333", "service=telnet"))
    assert codes(loaded) == ["LB280", "LB290", "LB281"]
    assert "feedback (line 3), feedbackport (line 4), service=telnet (line 5)" in (
        loaded.diagnostics[1].message
    )


def test_the_command_gets_the_globals_it_needs():
    text = 'logfile="/var/log/x"\nfork=yes\nsupervised\nexecute=a.cf\n'
    reading = read_ldirectord(text, "x.cf", FakeRegistry(), FakeResolver())
    assert reading.globals.word("logfile") == "/var/log/x"
    assert reading.globals.flags == {"fork": True, "supervised": True}
