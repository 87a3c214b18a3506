"""lbhealth's verdicts beside those of HAProxy's own checks, on the same servers."""

import contextlib
import csv
import socket
import time

import dns.message
import pytest
from lbhealth_redis.checker import Redis

from lbhealth.checkers.dns import Dns
from lbhealth.checkers.ftp import Ftp
from lbhealth.checkers.http import Http, Https
from lbhealth.checkers.imap import Imap, Imaps
from lbhealth.checkers.ldap import Ldap, Ldaps
from lbhealth.checkers.mysql import Mysql
from lbhealth.checkers.nntp import Nntp
from lbhealth.checkers.pgsql import Pgsql
from lbhealth.checkers.pop import Pop, Pops
from lbhealth.checkers.smtp import Smtp
from lbhealth.checkers.tcp import Tcp
from tests.judges.bed import ONCE, RUNNING, STATES, STOPPED, Question, compare, phases
from tests.judges.table import HAPROXY
from tests.servers import dovecot, kit, mariadb, postgres, slapd, vsftpd

pytestmark = pytest.mark.xdist_group("judges")


TLS = "check-ssl verify none"


def lines(*words, server="check"):
    """A judge's part of a question: lines of its backend, and options of its server."""
    return lambda _: (words, server)


def send(data):
    return f"tcp-check send-binary {data.hex()}"


def expect(regex):
    return rf"tcp-check expect rstring {regex.replace(' ', chr(92) + ' ')}"


def dialogue(*steps, server="check"):
    """Bytes are sent, texts are expressions that must match the answers."""
    words = [send(step) if isinstance(step, bytes) else expect(step) for step in steps]
    return lines("option tcp-check", *words, server=server)


def httpchk(path, *more, server="check"):
    return lines("option httpchk", f"http-check send meth GET uri {path}", *more, server=server)


def verified(ca_file):
    return ((), f"check check-ssl verify required ca-file {ca_file}")


def http(ask, path, checker=None, *more, state=RUNNING, **others):
    checker = checker or (lambda s: Http(path))
    judge = httpchk(path, *more)
    return Question("http", ask, "nginx", lambda s: s.http, checker, judge, (state,), **others)


def question_of(name):
    query = dns.message.make_query(name, "A", id=0x1234).to_wire()
    return len(query).to_bytes(2) + query


def lookup(name):
    # Length (2 bytes), id, flags: an answer with the code NOERROR.
    good = "tcp-check expect rbinary ^....12348.[08]0"
    return lines("option tcp-check", send(question_of(name)), good)


def mysql(ask, login, words, states=ONCE, server="mariadb", **others):
    judge = lines(words, server=others.pop("options", "check"))
    port = lambda s: s.port  # noqa: E731
    return Question("mysql", ask, server, port, lambda s: Mysql(**login), judge, states, **others)


WATCH = {"login": mariadb.LOGIN, "password": mariadb.PASSWORD}
IMAP_LOGIN = b'a LOGIN hc "se\\"cr\\\\et 1"\r\n'

QUESTIONS = [
    Question(
        *("tcp", "connect", "nginx", lambda s: s.http, lambda s: Tcp()),
        judge=lines(),
    ),
    Question(
        *("http", "GET /ok", "nginx", lambda s: s.http, lambda s: Http("/ok")),
        judge=httpchk("/ok"),
    ),
    http("answer 503", "/503"),
    http("answer 404", "/nothing"),
    http("answer 204", "/204"),
    http("redirect to /ok on the same server", "/relative"),
    http("redirect to another server", "/elsewhere"),
    http("redirect in a circle", "/loop"),
    http("header at one byte a second", "/slow", patience=1.0),
    http(
        "503 where 503 is expected",
        "/503",
        lambda s: Http("/503", status=("503",)),
        "http-check expect status 503",
    ),
    http(
        "body with the text",
        "/ok",
        lambda s: Http("/ok", body="healthy"),
        "http-check expect string healthy",
    ),
    http(
        "body without the text",
        "/ok",
        lambda s: Http("/ok", body="absent"),
        "http-check expect string absent",
    ),
    http(
        "503 with the expected text",
        "/503",
        lambda s: Http("/503", body="maintenance"),
        "http-check expect string maintenance",
    ),
    http(
        "text after 3 MB of body",
        "/big",
        lambda s: Http("/big", body="END-OF-BIG"),
        "http-check expect string END-OF-BIG",
    ),
    Question(
        *("http", "TLS port asked without TLS", "nginx", lambda s: s.https),
        checker=lambda s: Http("/ok"),
        judge=httpchk("/ok"),
        states=ONCE,
    ),
    Question(
        *("https", "GET /ok", "nginx", lambda s: s.https, lambda s: Https("/ok")),
        judge=httpchk("/ok", server=f"check {TLS}"),
    ),
    Question(
        *("https", "certificate of a known authority", "nginx", lambda s: s.https),
        checker=lambda s: Https("/ok", verify=True, ca_file=s.ca_file),
        judge=lambda s: (("option httpchk GET /ok",), verified(s.ca_file)[1]),
        states=ONCE,
    ),
    Question(
        *("https", "certificate for another name", "nginx", lambda s: s.https),
        checker=lambda s: Https("/ok", verify=True, ca_file=s.ca_file),
        judge=lambda s: (("option httpchk GET /ok",), verified(s.ca_file)[1]),
        states=ONCE,
        target={"server_name": "other.example.org"},
    ),
    Question(
        *("https", "certificate for another name, with verifyhost", "nginx", lambda s: s.https),
        checker=lambda s: Https("/ok", verify=True, ca_file=s.ca_file),
        judge=lambda s: (
            ("option httpchk GET /ok",),
            f"{verified(s.ca_file)[1]} verifyhost other.example.org",
        ),
        states=ONCE,
        target={"server_name": "other.example.org"},
    ),
    Question(
        *("https", "expired certificate, verified", "nginx", lambda s: s.expired),
        checker=lambda s: Https("/ok", verify=True, ca_file=s.ca_file),
        judge=lambda s: (("option httpchk GET /ok",), verified(s.ca_file)[1]),
        states=ONCE,
    ),
    Question(
        *("https", "expired certificate, not verified", "nginx", lambda s: s.expired),
        checker=lambda s: Https("/ok"),
        judge=httpchk("/ok", server=f"check {TLS}"),
        states=ONCE,
    ),
    Question(
        *("https", "TLS on a port without it", "nginx", lambda s: s.http),
        checker=lambda s: Https("/ok"),
        judge=httpchk("/ok", server=f"check {TLS}"),
        states=ONCE,
    ),
    Question(
        *("smtp", "greeting and EHLO", "postfix", lambda s: s.ports["smtp"], lambda s: Smtp()),
        judge=lines("option smtpchk EHLO mail.example.org"),
    ),
    Question(
        *("smtp", "greeting 554", "postfix", lambda s: s.ports["reject"], lambda s: Smtp()),
        judge=lines("option smtpchk EHLO mail.example.org"),
        states=ONCE,
    ),
    Question(
        *("smtp", "refused name in EHLO", "postfix", lambda s: s.ports["helo"]),
        checker=lambda s: Smtp(helo="localhost"),
        judge=lines("option smtpchk EHLO localhost"),
        states=ONCE,
    ),
    Question(
        *("smtp", "wrong password", "postfix", lambda s: s.ports["open_auth"]),
        checker=lambda s: Smtp(login="health", password="wrong"),
        judge=lines("option smtpchk EHLO mail.example.org"),
        states=ONCE,
    ),
    Question(
        *("imap", "greeting", "dovecot", lambda s: s.imap, lambda s: Imap()),
        judge=dialogue(r"^\* OK"),
    ),
    Question(
        *("imap", "login", "dovecot", lambda s: s.imap),
        checker=lambda s: Imap(login=dovecot.USER, password=dovecot.PASSWORD),
        judge=dialogue(r"^\* OK", IMAP_LOGIN, "a OK"),
        states=ONCE,
    ),
    Question(
        *("imap", "wrong password", "dovecot", lambda s: s.imap),
        checker=lambda s: Imap(login=dovecot.USER, password="wrong"),
        judge=dialogue(r"^\* OK", b"a LOGIN hc wrong\r\n", "a OK"),
        states=ONCE,
    ),
    Question(
        *("imaps", "greeting", "dovecot", lambda s: s.imaps, lambda s: Imaps()),
        judge=dialogue(r"^\* OK", server=f"check {TLS}"),
    ),
    Question(
        *("pop", "greeting", "dovecot", lambda s: s.pop3, lambda s: Pop()),
        judge=dialogue(r"^\+OK"),
    ),
    Question(
        *("pop", "wrong password", "dovecot", lambda s: s.pop3),
        checker=lambda s: Pop(login=dovecot.USER, password="wrong"),
        judge=dialogue(r"^\+OK", b"USER hc\r\n", r"\+OK", b"PASS wrong\r\n", r"\+OK"),
        states=ONCE,
    ),
    Question(
        *("pops", "greeting", "dovecot", lambda s: s.pop3s, lambda s: Pops()),
        judge=dialogue(r"^\+OK", server=f"check {TLS}"),
    ),
    Question(
        *("ftp", "greeting; lbhealth also logs in", "vsftpd", lambda s: s.ports["plain"]),
        checker=lambda s: Ftp(),
        judge=dialogue("^220"),
    ),
    Question(
        *("ftp", "wrong password", "vsftpd", lambda s: s.ports["plain"]),
        checker=lambda s: Ftp(login=vsftpd.LOGIN, password="wrong"),
        judge=dialogue("220 Be good", b"USER health\r\n", "331", b"PASS wrong\r\n", "230"),
        states=ONCE,
    ),
    Question(
        *("nntp", "greeting", "inn", lambda s: s.port, lambda s: Nntp()),
        judge=dialogue("^20[01]"),
    ),
    Question(
        *("ldap", "anonymous bind", "slapd", lambda s: s.ldap, lambda s: Ldap()),
        judge=lines("option ldap-check"),
    ),
    Question(
        *("ldap", "anonymous bind refused", "closed_slapd", lambda s: s.ldap, lambda s: Ldap()),
        judge=lines("option ldap-check"),
        states=ONCE,
    ),
    Question(
        *("ldap", "wrong password", "slapd", lambda s: s.ldap),
        checker=lambda s: Ldap(login=slapd.LOGIN, password="wrong"),
        judge=lines("option ldap-check"),
        states=ONCE,
    ),
    Question(
        *("ldap", "missing entry", "slapd", lambda s: s.ldap, lambda s: Ldap(request="dc=else")),
        judge=lines("option ldap-check"),
        states=ONCE,
    ),
    Question(
        *("ldaps", "anonymous bind", "slapd", lambda s: s.ldaps, lambda s: Ldaps()),
        judge=lines("option ldap-check", server=f"check {TLS}"),
    ),
    mysql("greeting", {}, "option mysql-check", STATES),
    mysql("account without a password", {"login": "open"}, "option mysql-check user open"),
    mysql("right password", WATCH, f"option mysql-check user {mariadb.LOGIN}"),
    mysql(
        "wrong password",
        {"login": mariadb.LOGIN, "password": "no"},
        f"option mysql-check user {mariadb.LOGIN}",
    ),
    mysql(
        "greetings only, max_connect_errors 1",
        *({}, "option mysql-check"),
        server="wary_mariadb",
        options="check source 127.0.0.31",
        target={"source": "127.0.0.32"},
    ),
    Question(
        *("pgsql", "server asks for a password", "postgres", lambda s: s.port, lambda s: Pgsql()),
        judge=lines(f"option pgsql-check user {postgres.LOGIN}"),
    ),
    Question(
        *("pgsql", "wrong password", "postgres", lambda s: s.port),
        checker=lambda s: Pgsql(login=postgres.LOGIN, password="no"),
        judge=lines(f"option pgsql-check user {postgres.LOGIN}"),
        states=ONCE,
    ),
    Question(
        *("redis", "PING", "redis", lambda s: s.port, lambda s: Redis()),
        judge=lines("option redis-check"),
    ),
    Question(
        *("redis", "PING where a password is wanted", "locked_redis", lambda s: s.port),
        checker=lambda s: Redis(),
        judge=lines("option redis-check"),
        states=ONCE,
    ),
    Question(
        *("redis", "right password", "locked_redis", lambda s: s.port),
        checker=lambda s: Redis(password="sesame"),
        judge=dialogue(b"AUTH sesame\r\n", r"^\+OK", b"PING\r\n", r"^\+PONG"),
        states=ONCE,
    ),
    Question(
        *("redis", "wrong password", "locked_redis", lambda s: s.port),
        checker=lambda s: Redis(password="wrong"),
        judge=dialogue(b"AUTH wrong\r\n", r"^\+OK", b"PING\r\n", r"^\+PONG"),
        states=ONCE,
    ),
    Question(
        *("dns", "A record, over TCP", "knot", lambda s: s.port),
        checker=lambda s: Dns("www.example.org"),
        judge=lookup("www.example.org"),
    ),
    Question(
        *("dns", "zone that does not load (SERVFAIL)", "knot", lambda s: s.port),
        checker=lambda s: Dns("www.broken.test"),
        judge=lookup("www.broken.test"),
        states=ONCE,
    ),
    Question(
        *("dns", "name without an A record (no data)", "knot", lambda s: s.port),
        checker=lambda s: Dns("example.org"),
        judge=lookup("example.org"),
        states=ONCE,
    ),
]

CONFIG = """
global
    stats socket {dir}/admin level admin
    nbthread 1
defaults
    mode tcp
    timeout connect 1s
    timeout client 1s
    timeout server 1s
    timeout check 900ms
    default-server inter 300ms fall 1 rise 1
frontend unused
    bind unix@{dir}/unused
"""


class Haproxy:
    """Its words about each server, by its administrators' socket."""

    def __init__(self, path, names):
        self.path, self.names = str(path), names

    def words(self):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(self.path)
            sock.sendall(b"show stat\n")
            text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        rows = csv.DictReader(text.lstrip("# ").strip().splitlines())
        return {
            self.names[row["pxname"]]: (
                f"{row['status']} {row['check_status'].removeprefix('* ')}",
                row["last_chk"],
            )
            for row in rows
            if row["svname"] == "real"
        }

    def settled(self, wanted):
        """Its words after several rounds of checks: as soon as they are those of the table."""
        time.sleep(2)
        give_up = time.monotonic() + 6
        while True:
            words = self.words()
            same = all(words[key][0] == said for key, said in wanted.items() if key in words)
            if same or time.monotonic() > give_up:
                return words
            time.sleep(0.1)


@contextlib.contextmanager
def started(bed, directory):
    program = kit.find_program("haproxy")
    text, names = CONFIG.format(dir=directory), {}
    for question in bed.askable(QUESTIONS):
        words, options = question.judge(bed.found[question.server])
        for state in question.states:
            if state == STOPPED:
                continue  # the good one's server, later
            name = f"b{len(names)}"
            names[name] = (question.protocol, question.ask, state)
            port = bed.port(question, state)
            body = [*words, f"server real 127.0.0.1:{port} {options}"]
            text += f"backend {name}\n" + "".join(f"    {line}\n" for line in body)
    config = directory / "haproxy.cfg"
    config.write_text(text)
    log, admin = directory / "log", directory / "admin"
    with kit.running([program, "-db", "-f", config], admin.exists, log=log, seconds=10):
        yield Haproxy(admin, names)


@pytest.fixture(scope="module")
def results(bed, tmp_path_factory):
    """(lbhealth's words, HAProxy's words) on every question in every state."""
    awake, still = phases(bed.askable(QUESTIONS))
    wanted = {row.key: row.theirs for row in HAPROXY}
    with started(bed, tmp_path_factory.mktemp("haproxy")) as haproxy:
        theirs = haproxy.settled(wanted)
        ours = bed.verdicts(awake)
        with bed.stopped():
            stopped = {
                (*key[:2], RUNNING): said for key, said in wanted.items() if key[2] == STOPPED
            }
            for key, words in haproxy.settled(stopped).items():
                if key[2] == RUNNING:
                    theirs[*key[:2], STOPPED] = words
            ours |= bed.verdicts(still)
    return ours, theirs


def test_every_question_is_in_the_table():
    asked = [key for question in QUESTIONS for key in question.cases()]
    assert [row.key for row in HAPROXY] == asked


@pytest.mark.parametrize("row", HAPROXY, ids=str)
def test_haproxy(row, bed, results):
    compare(row, bed, QUESTIONS, *results)
