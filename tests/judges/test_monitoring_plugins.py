"""lbhealth's verdicts beside those of the monitoring plug-ins of Nagios, on the same servers."""

import concurrent.futures
import os
import shutil
import subprocess

import pytest

from lbhealth.checkers.dns import Dns
from lbhealth.checkers.ftp import Ftp
from lbhealth.checkers.http import Http, Https
from lbhealth.checkers.imap import Imap, Imaps
from lbhealth.checkers.ldap import Ldap, Ldaps
from lbhealth.checkers.mysql import Mysql
from lbhealth.checkers.nntp import Nntp
from lbhealth.checkers.pgsql import Pgsql
from lbhealth.checkers.pop import Pop, Pops
from lbhealth.checkers.smtp import Smtp, Submission
from lbhealth.checkers.tcp import Tcp
from tests.judges.bed import ONCE, SKIPPED, STATES, STOPPED, Question, compare, phases
from tests.judges.table import PLUGINS
from tests.servers import dovecot, kit, mariadb, postfix, postgres, slapd, vsftpd

pytestmark = pytest.mark.xdist_group("judges")

PLACES = "/usr/lib/nagios/plugins:/usr/lib/monitoring-plugins:/usr/lib64/nagios/plugins"
WORDS = {0: "OK", 1: "WARNING", 2: "CRITICAL", 3: "UNKNOWN", None: "no end"}
PATIENCE = {STOPPED: 3}
"""Seconds after which a plug-in is ended; elsewhere 15, for a busy host."""


def plugin(name, *words, port="-p", timeout="-t", needs=None):
    """A judge's part of a question: the command for a server and a port."""

    def command(server, number, state):
        limit = "1" if state == STOPPED else "10"
        resolved = [word(server) if callable(word) else word for word in words]
        where = ["-H", "127.0.0.1", port, str(number)]
        return [name, *where, *([timeout, limit] if timeout else []), *resolved], needs

    return command


def question(protocol, ask, server, port, checker, judge, states=ONCE, **others):
    """With settings that are the same for every server."""
    return Question(protocol, ask, server, port, lambda _: checker, judge, states, **others)


def http(ask, path, *words, checker=None, **others):
    judge = plugin("check_http", "-u", path, *words)
    return question("http", ask, "nginx", lambda s: s.http, checker or Http(path), judge, **others)


def https(ask, *words, port=lambda s: s.https, states=ONCE, **settings):
    judge = plugin("check_http", "-S", "--sni", "-u", "/ok", *words)
    return question("https", ask, "nginx", port, Https("/ok", **settings), judge, states)


def smtp(ask, port, checker, *words, states=ONCE):
    judge = plugin("check_smtp", *words)
    return question("smtp", ask, "postfix", lambda s: s.ports[port], checker, judge, states)


def mail(protocol, port, name, checker):
    port = f"{port}"
    find = lambda s: getattr(s, port)  # noqa: E731
    return question(protocol, "greeting", "dovecot", find, checker, plugin(name), STATES)


def ldap(ask, checker, *words, server="slapd", states=ONCE):
    judge = plugin("check_ldap", "-3", *words)
    return question("ldap", ask, server, lambda s: s.ldap, checker, judge, states)


def mysql(ask, checker, *words, name="check_mysql", states=ONCE):
    judge = plugin(name, *words, port="-P", timeout=None)
    return question("mysql", ask, "mariadb", lambda s: s.port, checker, judge, states)


def pgsql(ask, checker, *words, states=ONCE):
    judge = plugin("check_pgsql", "-d", postgres.DATABASE, "-l", postgres.LOGIN, *words, port="-P")
    return question("pgsql", ask, "postgres", lambda s: s.port, checker, judge, states)


def dns(ask, checker, name, *words, states=ONCE):
    judge = plugin("check_dig", "-l", name, "-A", "+tries=1", *words, needs="dig")
    find = lambda s: s.port  # noqa: E731
    return question("dns", ask, "knot", find, checker, judge, states, transport="udp")


WATCH = {"login": mariadb.LOGIN, "password": mariadb.PASSWORD}
SHOP = {**WATCH, "database": mariadb.DATABASE}
BASE = {**WATCH, "database": postgres.DATABASE}
MYSQL_USER = ("-u", mariadb.LOGIN, "-p", mariadb.PASSWORD)
BIND = ("-D", slapd.LOGIN, "-P", slapd.PASSWORD)
MAIL_USER = ("-A", "LOGIN", "-U", postfix.LOGIN, "-P")
ROW = "select id from item"

QUESTIONS = [
    question(
        *("tcp", "connect", "nginx", lambda s: s.http, Tcp()),
        *(plugin("check_tcp"), STATES),
    ),
    http("GET /ok", "/ok", states=STATES),
    http("answer 503", "/503"),
    http("answer 404", "/nothing"),
    http("answer 204", "/204"),
    http("redirect to /ok, followed", "/relative", "-f", "follow"),
    http("redirect to another server, not followed", "/elsewhere"),
    http("redirect in a circle, followed", "/loop", "-f", "follow"),
    http("header at one byte a second", "/slow", "-t", "1", patience=1.0),
    http("503 where 503 is expected", "/503", "-e", "503", checker=Http("/503", status=("503",))),
    http("body with the text", "/ok", "-s", "healthy", checker=Http("/ok", body="healthy")),
    http("body without the text", "/ok", "-s", "absent", checker=Http("/ok", body="absent")),
    http(
        *("503 with the expected text", "/503", "-s", "maintenance"),
        checker=Http("/503", body="maintenance"),
    ),
    http(
        *("text after 3 MB of body", "/big", "-s", "END-OF-BIG"),
        checker=Http("/big", body="END-OF-BIG"),
    ),
    https("GET /ok", states=STATES),
    https("expired certificate, not verified", port=lambda s: s.expired),
    Question(
        *("https", "expired certificate, verified", "nginx", lambda s: s.expired),
        checker=lambda s: Https("/ok", verify=True, ca_file=s.ca_file),
        judge=plugin("check_http", "-S", "--sni", "-C", "1"),
        states=ONCE,
    ),
    https("certificate of an unknown authority, verified", "-C", "0", verify=True),
    https("TLS on a port without it", port=lambda s: s.http),
    smtp("greeting and EHLO", "smtp", Smtp(), states=STATES),
    smtp("greeting 554", "reject", Smtp()),
    smtp("STARTTLS", "smtp", Smtp(tls="starttls"), "-S"),
    smtp("STARTTLS where there is none", "no_tls", Smtp(tls="starttls"), "-S"),
    smtp(
        *("right password", "open_auth"),
        Submission(login=postfix.LOGIN, password=postfix.PASSWORD),
        *(*MAIL_USER, postfix.PASSWORD),
    ),
    smtp(
        *("wrong password", "open_auth"),
        Submission(login=postfix.LOGIN, password="wrong"),
        *(*MAIL_USER, "wrong"),
    ),
    mail("imap", "imap", "check_imap", Imap()),
    question(
        *("imap", "wrong password", "dovecot", lambda s: s.imap),
        Imap(login=dovecot.USER, password="wrong"),
        plugin("check_imap", "-E", "-s", r"a LOGIN hc wrong\r\n", "-e", "a OK"),
    ),
    mail("imaps", "imaps", "check_simap", Imaps()),
    mail("pop", "pop3", "check_pop", Pop()),
    mail("pops", "pop3s", "check_spop", Pops()),
    question(
        *("ftp", "greeting; lbhealth also logs in", "vsftpd", lambda s: s.ports["plain"], Ftp()),
        *(plugin("check_ftp"), STATES),
    ),
    question(
        *("ftp", "wrong password", "vsftpd", lambda s: s.ports["plain"]),
        *(Ftp(login=vsftpd.LOGIN, password="wrong"), plugin("check_ftp")),
    ),
    question(
        *("nntp", "greeting", "inn", lambda s: s.port, Nntp()),
        *(plugin("check_nntp"), STATES),
    ),
    ldap("entry, read anonymously", Ldap(request=slapd.BASE), "-b", slapd.BASE, states=STATES),
    ldap(
        *("entry, read with a password", Ldap(slapd.LOGIN, slapd.PASSWORD, slapd.LOGIN)),
        *("-b", slapd.LOGIN, *BIND),
    ),
    ldap(
        *("wrong password", Ldap(slapd.LOGIN, "no", slapd.BASE)),
        *("-b", slapd.BASE, "-D", slapd.LOGIN, "-P", "no"),
    ),
    ldap("missing entry", Ldap(request="dc=else"), "-b", "dc=else"),
    ldap(
        *("anonymous bind refused", Ldap(request=slapd.BASE), "-b", slapd.BASE),
        server="closed_slapd",
    ),
    question(
        *("ldaps", "entry, not verified", "slapd", lambda s: s.ldaps, Ldaps(request=slapd.BASE)),
        *(plugin("check_ldap", "-S", "-3", "-b", slapd.BASE), STATES),
    ),
    mysql("login", Mysql(**WATCH), *MYSQL_USER, states=STATES),
    mysql("wrong password", Mysql(mariadb.LOGIN, "no"), "-u", mariadb.LOGIN, "-p", "no"),
    mysql(
        *("greeting; the plug-in is refused, which it ignores", Mysql(), "-n"),
        *("-u", "nobody", "-p", "no"),
    ),
    mysql("missing database", Mysql(**WATCH, database="else"), *MYSQL_USER, "-d", "else"),
    mysql(
        *("query with a row", Mysql(**SHOP, request=ROW)),
        *(*MYSQL_USER, "-d", mariadb.DATABASE, "-q", ROW),
        name="check_mysql_query",
    ),
    mysql(
        *("query without a row", Mysql(**SHOP, request=f"{ROW} where 0")),
        *(*MYSQL_USER, "-d", mariadb.DATABASE, "-q", f"{ROW} where 0"),
        name="check_mysql_query",
    ),
    pgsql("login", Pgsql(**BASE), "-p", postgres.PASSWORD, states=STATES),
    pgsql("wrong password", Pgsql(postgres.LOGIN, "no", postgres.DATABASE), "-p", "no"),
    pgsql(
        *("query with a row", Pgsql(**BASE, request="select 7")),
        *("-p", postgres.PASSWORD, "-q", "select 7"),
    ),
    pgsql(
        *("query without a row", Pgsql(**BASE, request="select 7 where false")),
        *("-p", postgres.PASSWORD, "-q", "select 7 where false"),
    ),
    pgsql(
        *("query that fails", Pgsql(**BASE, request="selct")),
        *("-p", postgres.PASSWORD, "-q", "selct"),
    ),
    dns("A record", Dns("www.example.org"), "www.example.org", states=STATES),
    dns(
        *("A record with the address", Dns("www.example.org", receive=r"^192\.0\.2\.10$")),
        *("www.example.org", "-a", "192.0.2.10"),
    ),
    dns(
        *("A record with another address", Dns("www.example.org", receive=r"^192\.0\.2\.99$")),
        *("www.example.org", "-a", "192.0.2.99"),
    ),
    dns("name without an A record (no data)", Dns("example.org"), "example.org"),
    dns("missing name (NXDOMAIN)", Dns("nothing.example.org"), "nothing.example.org"),
    dns("zone that does not load (SERVFAIL)", Dns("www.broken.test"), "www.broken.test"),
    dns("foreign zone (REFUSED)", Dns("www.example.net"), "www.example.net"),
]


def find(name):
    """The path of a plug-in; they are in no PATH."""
    return shutil.which(name, path=PLACES) or kit.find_program(name)


def run(command, patience):
    """(what its exit status means, all that it printed)"""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "LDAPTLS_REQCERT": "never"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=patience,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return WORDS[None], "ended by the test"
    text = (done.stdout + done.stderr).decode(errors="replace")
    return WORDS.get(done.returncode, f"status {done.returncode}"), text.strip()


def judged(bed, pairs):
    commands, patience, words = {}, {}, {}
    for asked, state in pairs:
        key = (asked.protocol, asked.ask, state)
        command, needs = asked.judge(bed.found[asked.server], bed.port(asked, state), state)
        try:
            path = find(command[0])
            if needs:
                kit.find_program(needs)
        except pytest.skip.Exception as reason:
            words[key] = (SKIPPED, str(reason))
        else:
            commands[key] = [path, *command[1:]]
            patience[key] = PATIENCE.get(state, 15)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        got = pool.map(run, commands.values(), patience.values())
        return words | dict(zip(commands, got, strict=True))


@pytest.fixture(scope="module")
def results(bed):
    """(lbhealth's words, the plug-in's words) on every question in every state."""
    awake, still = phases(bed.askable(QUESTIONS))
    theirs, ours = judged(bed, awake), bed.verdicts(awake)
    with bed.stopped():
        theirs |= judged(bed, still)
        ours |= bed.verdicts(still)
    return ours, theirs


def test_every_question_is_in_the_table():
    asked = [key for question in QUESTIONS for key in question.cases()]
    assert [row.key for row in PLUGINS] == asked


@pytest.mark.parametrize("row", PLUGINS, ids=str)
def test_plugin(row, bed, results):
    compare(row, bed, QUESTIONS, *results)
