"""Every service of both languages, down to the checker and the target, with the real registry."""

from __future__ import annotations

import pytest

from lbhealth.checkers.dns import Dns
from lbhealth.checkers.external import External, ExternalPerl
from lbhealth.checkers.ftp import Ftp
from lbhealth.checkers.http import Http
from lbhealth.checkers.http_proxy import HttpProxy
from lbhealth.checkers.imap import Imap, Imaps
from lbhealth.checkers.ldap import Ldap, Ldaps
from lbhealth.checkers.mysql import Mysql
from lbhealth.checkers.nntp import Nntp
from lbhealth.checkers.pgsql import Pgsql
from lbhealth.checkers.pop import Pop, Pops
from lbhealth.checkers.radius import Radius
from lbhealth.checkers.simpletcp import SimpleTcp
from lbhealth.checkers.sip import Sip
from lbhealth.checkers.smtp import Smtp, Submission
from lbhealth.checkers.telnet import Telnet
from lbhealth.config import parse
from lbhealth.plugins import Registry
from tests.config.fakes import FakeResolver

ACCOUNT = '\tlogin="probe"\n\tpasswd="s3cret"\n'

CF = {
    "ftp": (21, ACCOUNT, Ftp(login="probe", password="s3cret")),
    "ftp file": (
        21,
        '\trequest="pub/a.txt"\n\treceive="ok"\n',
        Ftp(request="pub/a.txt", receive="ok"),
    ),
    "imap": (143, ACCOUNT, Imap(login="probe", password="s3cret")),
    "imaps": (993, ACCOUNT, Imaps(login="probe", password="s3cret")),
    "pop": (110, ACCOUNT, Pop(login="probe", password="s3cret")),
    "pops": (995, "", Pops()),
    "ldap": (
        389,
        '\tlogin="cn=a,dc=b"\n\tpasswd="x"\n\trequest="dc=b"\n\treceive="dc"\n',
        Ldap(login="cn=a,dc=b", password="x", request="dc=b", receive="dc"),
    ),
    "ldap, half an account": (389, '\tlogin="cn=a"\n\trequest="dc=b"\n', Ldap(request="dc=b")),
    "ldaps": (636, '\trequest="dc=b"\n', Ldaps(request="dc=b")),
    "nntp": (119, "", Nntp()),
    "smtp": (25, "", Smtp()),
    "submission": (587, "", Submission()),
    "mysql": (
        3306,
        ACCOUNT + '\tdatabase="d"\n\trequest="SELECT 1"\n',
        Mysql(login="probe", password="s3cret", database="d", request="SELECT 1"),
    ),
    "pgsql": (
        5432,
        ACCOUNT + '\tdatabase="d"\n\trequest="SELECT 1"\n',
        Pgsql(login="probe", password="s3cret", database="d", request="SELECT 1"),
    ),
    "radius": (
        1812,
        ACCOUNT + '\tsecret="shared"\n',
        Radius(login="probe", password="s3cret", secret="shared"),
    ),
    "simpletcp": (
        7000,
        '\tservice=simpletcp\n\trequest="PING\\n"\n\treceive="PONG"\n',
        SimpleTcp(request="PING\\n", receive="PONG"),
    ),
    "telnet": (23, '\tservice=telnet\n\treceive="login:"\n', Telnet(receive="login:")),
    "http_proxy": (
        3128,
        '\trequest="http://www.example.org/"\n\treceive="ok"\n',
        HttpProxy(url="http://www.example.org/", body_regex="ok"),
    ),
    "external": (
        80,
        '\tchecktype=external\n\tcheckcommand="/usr/local/bin/check"\n',
        External("/usr/local/bin/check", virtual_address="192.0.2.1", virtual_port="80"),
    ),
    "external-perl": (
        80,
        '\tchecktype=external-perl\n\tcheckcommand="/usr/local/bin/check.pl"\n',
        ExternalPerl("/usr/local/bin/check.pl", virtual_address="192.0.2.1", virtual_port="80"),
    ),
}


def cf(text: str) -> tuple:
    loaded = parse(text, "test.cf", Registry(), FakeResolver())
    assert loaded.errors == ()
    assert "LB281" not in {found.code for found in loaded.warnings}, "every service is acted on"
    return loaded.config.virtual


@pytest.mark.parametrize("name", CF)
def test_an_ldirectord_service_has_its_checker(name: str) -> None:
    port, options, checker = CF[name]
    (service,) = cf(f"virtual=192.0.2.1:{port}\n\treal=10.0.0.1:{port} masq\n{options}")
    ((check,),) = [real.checks for real in service.real]
    assert check.checker == checker
    assert (check.target.address, check.target.port) == ("10.0.0.1", port)


def test_a_program_for_a_firewall_mark_needs_no_port() -> None:
    (service,) = cf("virtual=7\n\treal=10.0.0.1 masq\n\tchecktype=external\n\tcheckport=99\n")
    check = service.real[0].checks[0]
    assert check.checker == External("/bin/true", virtual_address="7")
    assert check.target.port == 0


DNS = '\treal=10.0.0.1:53 masq\n\tservice=dns\n\trequest="/www.example.org"\n\treceive="192"\n'


@pytest.mark.parametrize(
    ("head", "end", "protocol"),
    [
        ("virtual=192.0.2.1:53", "", "udp"),
        ("virtual=192.0.2.1:53", "\tprotocol=tcp\n", "tcp"),
        ("virtual=7", "", "udp"),
    ],
)
def test_the_virtual_service_says_how_dns_is_asked(head: str, end: str, protocol: str) -> None:
    (service,) = cf(f"{head}\n{DNS}{end}")
    check = service.real[0].checks[0]
    assert check.checker == Dns(request="www.example.org", receive="192")
    assert check.target.protocol == protocol


def test_a_combined_type_has_a_protocol_as_its_other_half() -> None:
    (service,) = cf(f"virtual=192.0.2.1:110\n\treal=10.0.0.1:110 masq\n\tchecktype=5\n{ACCOUNT}")
    check = service.real[0].checks[0]
    assert check.checker == Pop(login="probe", password="s3cret")
    assert (check.hybrid.connects, check.hybrid.connect.kind) == (5, "tcp")


def test_a_radius_check_without_a_secret_is_an_error_at_its_place() -> None:
    text = "virtual=192.0.2.1:1812\n\treal=10.0.0.1:1812 masq\n\tprotocol=udp\n"
    loaded = parse(text, "test.cf", Registry(), FakeResolver())
    assert "secret" in loaded.errors[0].message


TOML = {
    'type = "sip"\nlogin = "a@b"': (Sip(login="a@b"), "tcp"),
    'type = "smtp"\ntls = "starttls"\nverify = true\nserver_name = "mx.example.org"': (
        Smtp(tls="starttls", verify=True),
        "tcp",
    ),
    'type = "http"\nexpect_json = { "checks.0.ok" = true, state = "up" }': (
        Http(expect_json=(("checks.0.ok", True), ("state", "up"))),
        "tcp",
    ),
    'type = "radius"\nsecret = "x"': (Radius(secret="x"), "udp"),
    'type = "simpletcp"\nreceive = "PONG"': (SimpleTcp(receive="PONG"), "tcp"),
    'type = "external"\ncommand = "/bin/true"\nargs = ["a"]': (
        External("/bin/true", ("a",), virtual_address="192.0.2.1", virtual_port="25"),
        "tcp",
    ),
}


@pytest.mark.parametrize("check", TOML)
def test_a_toml_check_has_its_checker(check: str) -> None:
    text = (
        '[[virtual]]\nlisten = "192.0.2.1:25"\nreal = [{ address = "10.0.0.1:25" }]\n'
        f"[virtual.check]\n{check}\n"
    )
    loaded = parse(text, "test.toml", Registry(), FakeResolver())
    assert loaded.errors == ()
    made = loaded.config.virtual[0].real[0].checks[0]
    assert (made.checker, str(made.target.protocol)) == TOML[check]
    assert made.target.server_name == ("mx.example.org" if "server_name" in check else None)


def test_a_setting_that_is_wrong_is_found_before_any_check_runs() -> None:
    text = (
        '[[virtual]]\nlisten = "192.0.2.1:53/udp"\nreal = [{ address = "10.0.0.1:53" }]\n'
        'check = { type = "dns" }\n'
    )
    loaded = parse(text, "test.toml", Registry(), FakeResolver())
    assert [found.code for found in loaded.errors] == ["LB410"]


@pytest.mark.parametrize("key", ['source = "127.0.0.1"', "mark = 7"])
def test_a_program_cannot_be_given_a_source_or_mark(key: str) -> None:
    text = (
        '[[virtual]]\nlisten = "192.0.2.1:53"\nreal = [{ address = "10.0.0.1:53" }]\n'
        f'check = {{ type = "external", command = "/bin/true", {key} }}\n'
    )
    loaded = parse(text, "test.toml", Registry(), FakeResolver())
    assert [found.code for found in loaded.errors] == ["LB425"]
