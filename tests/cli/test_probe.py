"""`lbhealth probe`: from options to a check of each service."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from lbhealth.checkers.dns import Dns
from lbhealth.checkers.external import External
from lbhealth.checkers.ftp import Ftp
from lbhealth.checkers.http import Http, Https
from lbhealth.checkers.imap import Imap, Imaps
from lbhealth.checkers.ldap import Ldap, Ldaps
from lbhealth.checkers.mysql import Mysql
from lbhealth.checkers.nntp import Nntp
from lbhealth.checkers.pop import Pops
from lbhealth.checkers.radius import Radius
from lbhealth.checkers.simpletcp import SimpleTcp
from lbhealth.checkers.sip import Sip
from lbhealth.checkers.smtp import Smtp
from lbhealth.checkers.tcp import Tcp
from lbhealth.cli import probe as module
from lbhealth.model import CheckResult, Status, Target, Verdict

CALLS = {
    "connect 192.0.2.1:7": (Tcp(), Target("192.0.2.1", 7)),
    "http 192.0.2.1 --request /x --receive OK --virtualhost www.example.org": (
        Http(path="/x", body_regex="OK", host="www.example.org"),
        Target("192.0.2.1", 80, server_name="www.example.org"),
    ),
    "http 192.0.2.1 --tls": (Https(), Target("192.0.2.1", 443)),
    "https 192.0.2.1 --method head": (Https(method="HEAD"), Target("192.0.2.1", 443)),
    "ftp 192.0.2.1 --login a --password b": (
        Ftp(login="a", password="b"),
        Target("192.0.2.1", 21),
    ),
    "imap 192.0.2.1 --login a --password b": (
        Imap(login="a", password="b"),
        Target("192.0.2.1", 143),
    ),
    "imap 192.0.2.1 --tls": (Imaps(), Target("192.0.2.1", 993)),
    "pops 192.0.2.1 --tls": (Pops(), Target("192.0.2.1", 995)),
    "ldap 192.0.2.1": (Ldap(), Target("192.0.2.1", 389)),
    "ldaps 192.0.2.1 --request dc=b --verify --virtualhost ldap.example.org": (
        Ldaps(request="dc=b", verify=True),
        Target("192.0.2.1", 636, server_name="ldap.example.org"),
    ),
    "smtp [2001:db8::1] --tls": (Smtp(tls="implicit"), Target("2001:db8::1", 465)),
    "nntp 192.0.2.1 --request local.test": (Nntp(group="local.test"), Target("192.0.2.1", 119)),
    "dns 192.0.2.1 --request a.example": (
        Dns(request="a.example"),
        Target("192.0.2.1", 53, "udp"),
    ),
    "dns 192.0.2.1 --request a.example --protocol tcp": (
        Dns(request="a.example"),
        Target("192.0.2.1", 53, "tcp"),
    ),
    "sip 192.0.2.1 --login a@b --protocol tcp": (
        Sip(login="a@b"),
        Target("192.0.2.1", 5060, "tcp"),
    ),
    "radius 192.0.2.1 --secret s": (Radius(secret="s"), Target("192.0.2.1", 1812, "udp")),
    "mysql 192.0.2.1 --login a --database d --tls": (
        Mysql(login="a", database="d", tls="starttls"),
        Target("192.0.2.1", 3306),
    ),
    "simpletcp 192.0.2.1:7 --receive PONG --protocol udp": (
        SimpleTcp(receive="PONG"),
        Target("192.0.2.1", 7, "udp"),
    ),
    "external 192.0.2.1:80 --request /bin/true": (
        External("/bin/true"),
        Target("192.0.2.1", 80),
    ),
}

WRONG = {
    "smtp 192.0.2.1 --request x": "smtp takes no --request",
    "external 192.0.2.1:80": "external needs --request",
    "radius 192.0.2.1": "secret",
    "http 192.0.2.1 --protocol udp": "http does not speak udp",
    "simpletcp 192.0.2.1": "no usual port",
    "impa 192.0.2.1": "did you mean 'imap'",
    "http 192.0.2.1 --receive (": "body_regex",
}


@pytest.fixture
def asked(monkeypatch):
    """The checks that the command would run; each passes."""
    calls = []

    async def run_check(checker, target, timeout, trace):
        calls.append((checker, target))
        trace(">", b"\x1b[2Jhello")
        return CheckResult(Verdict.PASS, Status.L7OK, "fine", 0.0, 0.001)

    monkeypatch.setattr(module, "run_check", run_check)
    return calls


def call(words, *more):
    return CliRunner().invoke(module.probe, [*words.split(), *more], standalone_mode=False)


@pytest.mark.parametrize("words", CALLS)
def test_options_become_the_settings_of_the_check(asked, words):
    result = call(words)
    assert result.exception is None
    assert asked == [CALLS[words]]


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_call_says_what_is_wrong(asked, words):
    result = call(words)
    assert WRONG[words] in str(result.exception.format_message())
    assert asked == []


def test_the_dialogue_comes_with_its_times_and_cannot_write_to_the_terminal(asked):
    result = call("connect 192.0.2.1:7", "-v")
    assert "ms > \\x1b[2Jhello" in result.stderr
    assert "PASS L7OK fine" in result.stdout


def test_json_is_one_object(asked):
    found = json.loads(call("connect 192.0.2.1:7", "--json").stdout)
    assert set(found) == {"verdict", "status", "detail", "duration", "dialogue"}
    assert found["dialogue"][0]["direction"] == ">"
