"""Every error and warning of the TOML form, at its exact place.

The texts mark the expected place with «»; what is between them is what the caret stands under.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from lbhealth.checkers.http import Http, Https
from lbhealth.checkers.ping import Ping
from lbhealth.checkers.tcp import Tcp
from lbhealth.config import Span, render
from lbhealth.config.codes import CODES
from lbhealth.errors import PluginLoadError, SettingError
from lbhealth.model import Passed, Status, TransportProtocol
from tests.config.fakes import FakeRegistry, read


@dataclass(frozen=True, slots=True)
class Login:
    """A checker as a plug-in may have it."""

    kind: ClassVar[str] = "login"

    user: str
    password: str = ""
    protocol: TransportProtocol = TransportProtocol.TCP
    port_or_name: int | str = 0
    factor: float = 1.0
    answer: str = field(default="", metadata={"secret": True})

    def __post_init__(self):
        if self.password.startswith("bad"):
            raise SettingError("password", f"{self.password} will not do", 0)
        if self.factor < 0:
            raise ValueError(f"{self.answer} and {self.factor}")

    async def check(self, target, ctx):
        return Passed(Status.L7OK)


class Broken(FakeRegistry):
    def checker(self, kind):
        if kind == "broken":
            raise PluginLoadError("plug-in 'broken' of x 1.0 cannot be loaded: no module y")
        return super().checker(kind)


REGISTRY = Broken(Tcp, Ping, Http, Https, Login)
HEAD = '[[virtual]]\nlisten = "192.0.2.10:80"\n'
REAL = 'real = [{ address = "10.0.0.1:80" }]\n'


def parse(text):
    return read(text, "test.toml", REGISTRY)


def marked(text):
    """The text without marks, and the span that they enclose."""
    start = text.index("«")
    line = text.count("\n", 0, start) + 1
    column = start - text.rfind("\n", 0, start)
    return text.replace("«", "").replace("»", ""), Span(line, column, text.index("»") - start - 1)


def expect(text, code, words="", help=""):
    plain, span = marked(text)
    loaded = parse(plain)
    found = [d for d in loaded.diagnostics if d.code == code]
    assert found, f"{code} is missing:\n{render(loaded.diagnostics)}"
    assert found[0].span == span, render(found)
    assert words in found[0].message, found[0].message
    assert help in found[0].help, found[0].help
    assert found[0].source == plain.split("\n")[span.line - 1]
    assert len(loaded.diagnostics) == 1, render(loaded.diagnostics)
    assert code in CODES


def virtual(keys, code, words="", help="", real=REAL):
    expect(f"{HEAD}{keys}\n{real}", code, words, help)


def server(keys, code, words="", help=""):
    expect(f'{HEAD}real = [{{ address = "10.0.0.1:80", {keys} }}]\n', code, words, help)


def check(keys, code, words="", help=""):
    expect(f"{HEAD}{REAL}check = {{ {keys} }}\n", code, words, help)


# --------------------------------------------------------------------------- syntax


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1 «2»", "unexpected text after the value"),
        ("a = 1\n«a» = 2", "the key is given twice"),
        ("[a]\n«[a]»\n", "the table [a] is declared twice"),
        ("[[a]]\n«[a]»\n", "the table [a] is declared twice"),
        ("«!»", "neither"),
        ("a = «[»", "a value is expected"),
        ("a «b» = 1", "a key is followed by ="),
        ('a = "x«»\n', "the text is not closed"),
        ("a = 1\nb = '«\udc80»'", "not UTF-8"),
        ("a = «9»" + "9" * 5000, "too long"),
        ("a = «[»" + "[" * 5000, "too deeply"),
    ],
)
def test_syntax(text, words):
    plain, span = marked(text)
    loaded = parse(plain)
    (found,) = loaded.diagnostics
    assert loaded.config is None
    assert found.code == "LB301"
    assert words in found.message
    assert (found.span.line, found.span.column) == (span.line, span.column)


def test_a_forgotten_quote_gets_a_hint():
    (found,) = parse("[director]\nresync = 5s\n").diagnostics
    assert "quotes" in found.help


# --------------------------------------------------------------------------- structure


def test_top_level():
    expect("«virtuals» = 1", "LB302", '"virtuals"', "virtual")
    expect("[«directr»]\nresync = 1", "LB302", help='did you mean "director"?')
    expect('«[virtual]»\nlisten = "192.0.2.10:80"\n', "LB304", help="[[virtual]]")
    expect("virtual = «5»", "LB304", "virtual must be a list, not a whole number")
    expect("virtual = [«5»]", "LB304", "a table, not a whole number")
    expect("director = «true»", "LB304", "director must be a table, not true or false")


def test_other_tables():
    expect('[director]\nclean_stop = «"no"»', "LB304", "director.clean_stop must be true or false")
    expect('[director]\nresync = «"50ms"»', "LB305", "100ms to 1d")
    for value in ('«"/var/agentx/master"»', '«"tcp:127.0.0.1"»', "«705»"):
        found = parse(f"[snmp]\nagentx = {value.strip('«»')}").errors
        assert [(d.span.line, d.span.column) for d in found] == [(2, 10)]
    expect("[director]\n«cleanstop» = true", "LB302", help='"clean_stop"')


def test_feedback_errors():
    text = HEAD + REAL + '[virtual.«feedback»]\ntype = "agnt"\nport = 0\n'
    plain, span = marked(text)
    loaded = parse(plain)
    assert [(d.code, d.span.line) for d in loaded.errors] == [("LB305", 5), ("LB305", 6)]
    assert loaded.errors[0].help == 'did you mean "agent"?'
    assert [d.span for d in loaded.warnings] == [span]


@pytest.mark.parametrize(
    ("keys", "code", "words", "help"),
    [
        ('«sheduler» = "rr"', "LB302", 'unknown key "sheduler"', "scheduler"),
        ("«quiescent» = true", "LB302", "", 'on_down = "quiesce"'),
        ('«checktype» = "connect"', "LB302", "", "check = { type = … }"),
        ('scheduler = «"wlx"»', "LB104", 'unknown scheduler "wlx"', 'did you mean "wlc"?'),
        ("scheduler = «5»", "LB304", "scheduler must be text in quotes, not a whole number", ""),
        ('flags = [«"sh-prot"»]', "LB408", "unknown flag", "sh-port"),
        ('flags = [«"sh-port"»]', "LB408", "belongs to the scheduler sh, not wrr", ""),
        ('flags = «"flag-1"»', "LB304", "flags must be a list, not text", "[ … ]"),
        ("name = «1.5»", "LB304", "name must be text in quotes, not a number", ""),
        ("name = «2020-01-01»", "LB304", "not a date or time", ""),
        ('forwarding = «"nat"»', "LB305", '"masq", "route" or "tunnel", not "nat"', ""),
        ('on_down = «"quisce"»', "LB305", "", 'did you mean "quiesce"?'),
        ('min_up = «"101%"»', "LB305", '"0%" to "100%"', ""),
        ('min_up = «"50"»', "LB305", "", ""),
        ("min_up = «50»", "LB304", "percent", '"50%"'),
        ("one_packet = «true»", "LB421", "UDP", ""),
        ("persistence = «{}»", "LB303", '"timeout" is missing', ""),
        ("persistence = { timeout = «300» }", "LB306", "needs a unit", '"300s"'),
        ('persistence = { timeout = «"1.5s"» }', "LB305", "whole seconds", ""),
        ('persistence = { timeout = «"32d"» }', "LB305", "1s to 31d", ""),
        ('persistence = { timeout = "5m", netmask = «"255.0.255.0"» }', "LB411", "ones", ""),
        ('persistence = { timeout = "5m", netmask = «33» }', "LB411", "1 to 32", ""),
        ('persistence = { timeout = "5m", netmask = «"x"» }', "LB411", "no netmask", ""),
        (
            'persistence = { timeout = "5m", netmask = «true» }',
            "LB304",
            "text in quotes or a whole number, not true or false",
            "",
        ),
        ('persistence = { timeout = "5m", engine = «"sip"» }', "LB421", "UDP", ""),
        ('persistence = { timeout = "5m", engine = «"x"» }', "LB305", 'must be "sip"', ""),
        ('fallback = «"127.0.0.1:80"»', "LB304", "fallback must be a table, not text", ""),
        ("fallback = «{}»", "LB303", '"address" is missing', ""),
        ('fallback = { address = «"nowhere.example:80"» }', "LB401", "no IPv4 address", ""),
        ('fallback = { address = "127.0.0.1:80", «wieght» = 1 }', "LB302", "", ""),
        ("check = «5»", "LB304", "check must be a table or a list of tables", ""),
        ("check = «[]»", "LB304", "empty list", 'type = "on"'),
        ("check = [«5»]", "LB304", "a check must be a table", ""),
        ("check = «{}»", "LB303", '"type" is missing', ""),
        (
            'check = [{ type = "tcp" }, { type = «"off"» }]',
            "LB307",
            "makes no sense among other checks",
            "",
        ),
        ('family = «"inet"»', "LB307", "family belongs to fwmark", ""),
        ("fwmark = «5»", "LB307", "not both", ""),
    ],
)
def test_virtual_keys(keys, code, words, help):
    virtual(keys, code, words, help)


@pytest.mark.parametrize(
    ("listen", "code", "words"),
    [
        ('"192.0.2.10:80/«tpc»"', "LB415", "tcp, udp or sctp"),
        ('"«192.0.2.300»:80"', "LB415", "no IPv4 address"),
        ('"[«2001:db8::x»]:80"', "LB415", "no IPv6 address"),
        ('«"2001:db8::1:80"»', "LB415", "brackets"),
        ('«"192.0.2.10"»', "LB415", "no port"),
        ('"192.0.2.10«:»"', "LB415", "no port after"),
        ('"192.0.2.10:80«/»"', "LB415", "no protocol after"),
        ('«"a b:80"»', "LB415", "no address"),
        ('"192.0.2.10:«65536»"', "LB402", "0 to 65535"),
        ('"192.0.2.10:«htp»"', "LB402", "unknown service name"),
        ('«"nowhere.example:80"»', "LB401", "no IPv6 address"),
        ('«"192.0.2.10:0"»', "LB412", "needs persistence"),
        ("«80»", "LB304", "text"),
    ],
)
def test_listen(listen, code, words):
    expect(f'[[virtual]]\nlisten = {listen}\nreal = [{{ address = "10.0.0.1:80" }}]', code, words)


def test_no_listen():
    expect(f"«[[virtual]]»\n{REAL}", "LB303", "no listen or fwmark", 'listen = "192.0.2.10:80/tcp"')


@pytest.mark.parametrize(
    ("keys", "code", "words", "help"),
    [
        ("weight = «70000»", "LB305", "0 to 65535, not 70000", ""),
        ("weight = «0x" + "f" * 5000 + "»", "LB305", "a number that large", ""),
        ("weight = «-1»", "LB305", "", ""),
        ('weight = «"1"»', "LB304", "weight must be a whole number, not text", ""),
        ("weight = «true»", "LB304", "a whole number, not true or false", ""),
        ("«wieght» = 1", "LB302", "", 'did you mean "weight"?'),
        ("«gate» = true", "LB302", "", 'forwarding = "route"'),
        ('tunnel = «{ type = "ipip" }»', "LB417", "forwarding is", 'forwarding = "tunnel"'),
        ('forwarding = "tunnel", tunnel = «{ type = "gue" }»', "LB303", "GUE needs a port", ""),
        ('forwarding = "tunnel", tunnel = { port = «5» }', "LB417", "only GUE has a port", ""),
        ('forwarding = "tunnel", tunnel = { checksum = «"remote"» }', "LB417", "checksum", ""),
        ("max_connections = 5, min_connections = «6»", "LB409", "above", ""),
        ("min_connections = «6»", "LB310", "no effect", ""),
    ],
)
def test_server_keys(keys, code, words, help):
    server(keys, code, words, help)


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ('"10.0.0.1:80«/tcp»"', "LB415", "stands in listen"),
        ('"10.0.0.1:«99999»"', "LB402", "0 to 65535"),
        ('«"10.0.0.1:0"»', "LB412", "port 0"),
        ('«"web9.example.org:80"»', "LB401", "no IPv4 address"),
        ('"«10.0.0»:80"', "LB415", "no IPv4 address"),
        ('«"[2001:db8::1]:80"»', "LB416", "mix IPv4 and IPv6"),
        ('«"fe80::1%eth0"»', "LB415", "brackets"),
        ('«""»', "LB415", "no address"),
    ],
)
def test_server_addresses(address, code, words):
    expect(f'{HEAD}check = {{ type = "on" }}\nreal = [{{ address = {address} }}]', code, words)


def test_servers():
    virtual("", "LB303", '"address" is missing', real="real = [«{ weight = 1 }»]")
    virtual("", "LB304", "a table", real="real = [«5»]")
    expect(f'{HEAD}«[virtual.real]»\naddress = "10.0.0.1"', "LB304", help="[[virtual.real]]")


# --------------------------------------------------------------------------- checks


@pytest.mark.parametrize(
    ("keys", "code", "words", "help"),
    [
        ('type = «"htttp"»', "LB308", 'unknown check type "htttp"', 'did you mean "http"?'),
        ('type = «"connect"»', "LB308", "", 'did you mean "tcp"?'),
        ('type = «"negotiate"»', "LB308", "", "name the protocol"),
        ('type = «"qqqqq"»', "LB308", "", "known: http"),
        ('type = «"smtp"»', "LB414", "not available in this version", ""),
        ('type = «"external"»', "LB414", "not available in this version", ""),
        ('type = «"broken"»', "LB414", "cannot be loaded: no module y", ""),
        ("type = «5»", "LB304", "type must be text", ""),
        ('type = "tcp", timeout = «0»', "LB305", "1ms to 1d", ""),
        ('type = "tcp", timeout = «2»', "LB306", "timeout needs a unit", '"2s"'),
        ('type = "tcp", timeout = «"2 s"»', "LB306", 'no duration: "2 s"', "ms, s, m, h, d"),
        ('type = "tcp", timeout = «[]»', "LB304", "a duration, not a list", ""),
        ('type = "tcp", timeout = «inf»', "LB306", "needs a unit", ""),
        ('type = "tcp", timeout = «"6s"»', "LB418", "longer than the interval", '"5s"'),
        ('type = "http", interval = «"1s"»', "LB418", "time-out of 5s", '"1s"'),
        ('type = "tcp", interval = «"10ms"»', "LB305", "50ms to 1d", ""),
        ('type = "tcp", interval = «"2d"»', "LB305", "50ms to 1d", ""),
        ('type = "tcp", fast_interval = «"6s"»', "LB305", "longer than the interval of 5s", ""),
        ('type = "tcp", rise = «0»', "LB305", "1 to 100", ""),
        ('type = "tcp", fall = «101»', "LB305", "1 to 100", ""),
        ('type = "tcp", port = «0»', "LB305", "1 to 65535", ""),
        ('type = "tcp", mark = «-1»', "LB305", "0 to 4294967295", ""),
        ('type = "tcp", via = «"mark"»', "LB309", "not available yet", ""),
        ('type = "tcp", via = «"drect"»', "LB305", "", 'did you mean "direct"?'),
        ('type = "tcp", via = «1»', "LB304", "must be text", ""),
        ('type = "tcp", source = «"eth0"»', "LB415", "no IP address", ""),
        ('type = "tcp", source = «"2001:db8::1"»', "LB416", "IPv4 and IPv6", ""),
        ('type = "tcp", «path» = "/"', "LB302", 'unknown key "path" of the check type tcp', ""),
        ('type = "tcp", expect = { «status» = [200] }', "LB302", '"status"', ""),
        ('type = "http", «pth» = "/"', "LB302", "", 'did you mean "path"?'),
        ('type = "http", path = «5»', "LB304", "path must be text in quotes", ""),
        ('type = "http", path = "/a« »b"', "LB410", "path: ", ""),
        ('type = "http", redirects = «101»', "LB410", "redirects: must be 0 to 100", ""),
        ('type = "http", expect = «[200]»', "LB304", "expect must be a table", ""),
        ('type = "http", expect = { status = «200» }', "LB304", "a list, not a whole number", ""),
        ('type = "http", expect = { status = [«true»] }', "LB304", "text in quotes, not true", ""),
        ('type = "http", expect = { status = «[99]» }', "LB410", "'99' is not a status", ""),
        ('type = "http", expect = { body_regex = "x«(»" }', "LB410", "regular expression", ""),
        ('type = "http", body = "x", expect = { «body» = "y" }', "LB307", "", ""),
        ('type = «"on"», port = 80, path = "/"', "LB310", "port, path not used", ""),
        ("type = \"login\", user = 'u', port_or_name = «true»", "LB304", "", ""),
        ("type = \"login\", user = 'u', protocol = «'x'»", "LB305", "'tcp', 'udp' or 'sctp'", ""),
        ("type = \"login\", user = 'u', factor = «'x'»", "LB304", "a number", ""),
    ],
)
def test_check_keys(keys, code, words, help):
    check(keys, code, words, help)


def test_missing_settings():
    expect(f'{HEAD}{REAL}check = «{{ type = "login" }}»', "LB303", '"user" is missing')
    hybrid = '«{ type = "hybrid", negotiate = { type = "http" } }»'
    expect(f"{HEAD}{REAL}check = {hybrid}", "LB303", '"connects" is missing')


def test_headers():
    """They may hold credentials, so that their values are never shown."""
    for headers in ('«"X: y"»', "«{ X-A = 5 }»", '«{ "bad name" = "x" }»'):
        plain, span = marked(f'{HEAD}{REAL}check = {{ type = "http", headers = {headers} }}')
        (found,) = parse(plain).diagnostics
        assert found.span == span
        assert found.source.endswith(f"headers = {'*' * span.length} }}")


def test_hybrid():
    hybrid = 'type = "hybrid", connects = 5'
    check(f'{hybrid}, negotiate = {{ type = «"on"» }}', "LB308")
    check(f'{hybrid}, negotiate = {{ type = "http", «interval» = "1s" }}', "LB302")
    check(f'{hybrid}, negotiate = {{ type = "http", timeout = «"x"» }}', "LB306")
    check(f'{hybrid}, «expect» = {{}}, negotiate = {{ type = "http" }}', "LB302")
    check(f"{hybrid}, negotiate = «5»", "LB304")
    check('type = "hybrid", connects = «0», negotiate = { type = "http" }', "LB305")


def test_no_port_to_check():
    expect('[[virtual]]\nfwmark = 1\nreal = [{ address = «"10.0.0.1"» }]', "LB423", "no port")


# --------------------------------------------------------------------------- meaning


def test_duplicate_services():
    text = HEAD + REAL + '[[virtual]]\nlisten = «"192.0.2.10:http/tcp"»\n' + REAL
    expect(text, "LB403", "tcp:192.0.2.10:80 is defined twice, first in line 2")
    fwmark = '[[virtual]]\nfwmark = {}\nreal = [{{ address = "10.0.0.1:80" }}]\n'
    expect(fwmark.format("1") + fwmark.format("«1»"), "LB403", "fwm:1 is defined twice")


def test_tcp_and_udp_are_two_services():
    udp = '[[virtual]]\nlisten = "192.0.2.10:80/udp"\ncheck = { type = "ping" }\n'
    assert not parse(HEAD + REAL + udp + REAL).diagnostics


def test_duplicate_names():
    other = '[[virtual]]\nlisten = "192.0.2.11:80"\n'
    expect(f'{HEAD}name = "a"\n{REAL}{other}name = «"a"»\n{REAL}', "LB424", "line 3")


def test_duplicate_servers():
    real = 'real = [{ address = "10.0.0.1:80" }, { address = «"10.0.0.1"» }]'
    virtual("", "LB404", "10.0.0.1:80 is listed twice, first in line 4", real=real)


def test_servers_that_share_a_row():
    real = """real = [
      { address = "10.0.0.1:80" },
      { address = "10.0.0.1:81" },
    ]"""
    found = parse(HEAD + real).diagnostics
    assert [d.code for d in found] == ["LB405", "LB406"]
    assert "same kernel row 10.0.0.1:80" in found[0].message


def test_ports_that_are_not_translated():
    real = 'real = [{ address = «"10.0.0.1:8080"» }]'
    virtual("", "LB406", "clients reach port 80: port 8080 is used for the check only", real=real)
    virtual('fallback = { address = «"127.0.0.1:8080"» }', "LB406", "not 8080")


def test_fallback_among_the_servers():
    virtual('fallback = { address = «"10.0.0.1:80"» }', "LB419", "one of the real servers")


@pytest.mark.parametrize("scheduler", ["sh", "mh", "dh"])
def test_schedulers_that_refuse_clients_at_weight_0(scheduler):
    virtual(f'scheduler = «"{scheduler}"»', "LB407", "removed instead of quiesced", "remove")
    assert not parse(f'{HEAD}scheduler = "{scheduler}"\non_down = "remove"\n{REAL}').diagnostics


def test_a_tcp_check_of_a_udp_service():
    text = f'[[virtual]]\nlisten = «"192.0.2.10:80/udp"»\n{REAL}'
    expect(text, "LB420", "says nothing about its UDP port")


def test_a_service_without_servers():
    expect('«[[virtual]]»\nlisten = "192.0.2.10:80"', "LB422")


# --------------------------------------------------------------------------- many at once


def test_one_run_finds_everything():
    text = """\
[director]
resync = 10
[[virtual]]
listen = "192.0.2.10:80/tpc"
sheduler = "wrr"
check = { type = "http", pth = 1, expect = { status = [9], body_regex = "a(" }, rise = 0 }
real = [
  { address = "10.0.0.1:80", weight = 70000 },
  { address = "10.0.0.300:80" },
]
[[virtual]]
listen = "192.0.2.10:80"
real = [{ address = "10.0.0.1:80", check = { type = "tpc" } }, { address = "10.0.0.1" }]
"""
    found = [(d.code, d.span.line) for d in parse(text).diagnostics]
    assert found == [
        ("LB306", 2),
        ("LB415", 4),
        ("LB302", 5),
        ("LB302", 6),
        ("LB410", 6),
        ("LB410", 6),
        ("LB305", 6),
        ("LB305", 8),
        ("LB415", 9),
        ("LB308", 13),
        ("LB404", 13),
    ]


def test_rendered():
    text = """\
[[virtual]]
listen = "192.0.2.10:80/tpc"
scheduler = "wlx"
real = [
  { address = "10.0.0.1:80", wieght = 5 },
  { weight = 1 },
]
"""
    assert (
        render(parse(text).diagnostics)
        == """\
error[LB415]: the protocol must be tcp, udp or sctp, not "tpc"
  --> test.toml:2:25
  |
2 | listen = "192.0.2.10:80/tpc"
  |                         ^^^
  = help: did you mean "tcp"?
error[LB302]: unknown key "wieght"
  --> test.toml:5:30
  |
5 |   { address = "10.0.0.1:80", wieght = 5 },
  |                              ^^^^^^
  = help: did you mean "weight"?
error[LB303]: the key "address" is missing
  --> test.toml:6:3
  |
6 |   { weight = 1 },
  |   ^^^^^^^^^^^^^^"""
    )


# --------------------------------------------------------------------------- secrets

SECRET = "hunter2-bad"


@pytest.mark.parametrize(
    "keys",
    [
        f'type = "login", user = "u", password = "bad{SECRET}"',
        f'type = "login", user = "u", password = "{SECRET}", rise = 0',
        f'type = "login", user = "u", pasword = "{SECRET}"',
        f'type = "login", user = "u", answer = "{SECRET}", factor = -1',
        f'type = "login", user = "u", password = ["{SECRET}"]',
        f'type = "login", user = "u", password = """{SECRET}"""  , rise = 0',
        f'type = "http", headers = {{ Authorization = "{SECRET}" }}, rise = 0',
        f'type = "http", headers = {{ Authorization = "{SECRET} " }}',
        f'type = "login", user = "u", password = "{SECRET}", x = ',
        f'type = "login", user = "u", password = "{SECRET}',
        f'type = "login", user = "u", secret = """\n{SECRET}\n',
    ],
)
def test_secrets_are_never_shown(keys):
    found = parse(f"{HEAD}{REAL}check = {{ {keys} }}\n").diagnostics
    assert found
    for diagnostic in found:
        assert SECRET not in str(diagnostic)
        assert SECRET not in diagnostic.source
        assert SECRET not in diagnostic.help
    assert any("***" in d.source for d in found) or "\n" in keys


def test_a_mask_keeps_the_columns():
    plain = f'{HEAD}{REAL}check = {{ type = "login", user = "u", password = "geheim", rise = 0 }}'
    (found,) = parse(plain).diagnostics
    assert found.source == 'check = { type = "login", user = "u", password = ********, rise = 0 }'
