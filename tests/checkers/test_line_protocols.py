"""IMAP, POP3, NNTP: the dialogues against every answer a server may give."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbhealth.checkers.dialogue import Dialogue, Quit, Send, StartTls
from lbhealth.checkers.imap import Imap, Imaps
from lbhealth.checkers.nntp import Nntp
from lbhealth.checkers.pop import Pop, Pops
from lbhealth.errors import CheckFailed, SettingError
from lbhealth.testing import CheckerContract, ScriptedServer

LOGIN = {"login": "hc", "password": "sesame"}
STAMP = b"<1896.697170952@dbc.mtview.ca.us>"


class TestImapContract(CheckerContract):
    def checker(self):
        return Imap(**LOGIN)


class TestImapsContract(CheckerContract):
    def checker(self):
        return Imaps()


class TestPopContract(CheckerContract):
    def checker(self):
        return Pop(tls="starttls")


class TestPopsContract(CheckerContract):
    def checker(self):
        return Pops(**LOGIN)


class TestNntpContract(CheckerContract):
    def checker(self):
        return Nntp(**LOGIN, group="a.b")


def hold(checker, answers, size=1000):
    """Walk through a script; (what was sent, its word), or the failure."""
    dialogue = Dialogue(checker.script())
    sent = []

    def note(actions):
        for action in actions:
            match action:
                case Send(data) | Quit(data):
                    sent.append(data)
                case StartTls():
                    sent.append("TLS")

    try:
        note(dialogue.start())
        for answer in answers:
            for start in range(0, len(answer), size):
                note(dialogue.feed(answer[start : start + size]))
    except CheckFailed as failure:
        return str(failure.status), failure.detail
    if dialogue.result is None:
        return str(dialogue.eof().status), dialogue.eof().detail
    return sent, dialogue.result


OK, CAPABLE = b"* OK hi\r\n", b"* CAPABILITY IMAP4rev1\r\na2 OK\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("checker", "answers", "sent", "word"),
    [
        (Imap(), [b"* ok\r\n"], [b"a9 LOGOUT\r\n"], "ready"),
        (
            Imap(**LOGIN),
            [OK, CAPABLE, b"* CAPABILITY X\r\na3 OK [X] in\r\n"],
            [b"a2 CAPABILITY\r\n", b'a3 LOGIN "hc" "sesame"\r\n', b"a9 LOGOUT\r\n"],
            "logged in",
        ),
        (
            Imap(login='a"b', password="c\\d"),
            [b"* OK [CAPABILITY IMAP4] x\r\n", b"a3 OK\r\n"],
            [b'a3 LOGIN "a\\"b" "c\\\\d"\r\n', b"a9 LOGOUT\r\n"],
            "logged in",
        ),
        (
            Imap(login="ä", password="ö" * 2),
            [b"* OK [CAPABILITY IMAP4] x\r\n", b"+ go\r\n", b"+ go\r\n", b"a3 OK\r\n"],
            [
                b"a3 LOGIN {2}\r\n",
                "ä {4}\r\n".encode(),
                "öö\r\n".encode(),
                b"a9 LOGOUT\r\n",
            ],
            "logged in",
        ),
        (
            Imap(**LOGIN, tls="starttls"),
            [b"* OK [CAPABILITY LOGINDISABLED] x\r\n", b"a1 OK\r\n", CAPABLE, b"a3 OK\r\n"],
            [
                b"a1 STARTTLS\r\n",
                "TLS",
                b"a2 CAPABILITY\r\n",
                b'a3 LOGIN "hc" "sesame"\r\n',
                b"a9 LOGOUT\r\n",
            ],
            "logged in",
        ),
        (
            Imap(**LOGIN),
            [b"* PREAUTH hi\r\n"],
            [b"a9 LOGOUT\r\n"],
            "ready, authenticated by the connection itself",
        ),
        (Pop(), [b"+OK\r\n"], [b"QUIT\r\n"], "ready"),
        (
            Pop(**LOGIN, tls="starttls"),
            [b"+OK x\r\n", b"+OK\r\n", b"+OK\r\n", b"+OK\r\n"],
            [b"STLS\r\n", "TLS", b"USER hc\r\n", b"PASS sesame\r\n", b"QUIT\r\n"],
            "logged in",
        ),
        (
            Pop(login="mrose", password="tanstaaf"),  # the example of RFC 1939, 7
            [b"+OK POP3 server ready " + STAMP + b"\r\n", b"+OK\r\n"],
            [b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n", b"QUIT\r\n"],
            "logged in",
        ),
        (Nntp(), [b"201 no posting\r\n"], [b"QUIT\r\n"], "ready, posting prohibited"),
        (
            Nntp(**LOGIN, group="a.b", tls="starttls"),
            [
                b"200 x\r\n",
                b"500 what\r\n",
                b"382 go\r\n",
                b"381 more\r\n",
                b"281 in\r\n",
                b"211 0 0 0 a.b\r\n",
            ],
            [
                b"MODE READER\r\n",
                b"STARTTLS\r\n",
                "TLS",
                b"AUTHINFO USER hc\r\n",
                b"AUTHINFO PASS sesame\r\n",
                b"GROUP a.b\r\n",
                b"QUIT\r\n",
            ],
            "ready, logged in, group a.b",
        ),
    ],
)
def test_good(checker, answers, sent, word, size):
    assert hold(checker, answers, size) == (sent, word)


@pytest.mark.parametrize(
    ("checker", "answers", "status", "text"),
    [
        (Imap(), [b"* BYE too many\r\n"], "L7STS", 'busy or closing: "* BYE too many"'),
        (Imap(), [b"+OK\r\n"], "L7RSP", 'no IMAP greeting: "+OK"'),
        (Imap(), [], "L7RSP", "closed the connection instead of the greeting"),
        (Imap(tls="starttls"), [b"* PREAUTH\r\n"], "L7STS", "rules STARTTLS out"),
        (Imap(tls="starttls"), [OK, b"a1 NO no\r\n"], "L7STS", "STARTTLS refused"),
        (Imap(tls="starttls"), [OK, b"a1 BAD no\r\n"], "L7RSP", "bad answer to STARTTLS"),
        (Imap(tls="starttls"), [OK, b"a1 OK\r\na2 OK injected\r\n"], "L7RSP", "consent and TLS"),
        (
            Imap(**LOGIN),
            [OK, b"* CAPABILITY IMAP4rev1 LoginDisabled\r\na2 OK\r\n"],
            "L7STS",
            "LOGINDISABLED",
        ),
        (Imap(**LOGIN), [OK, CAPABLE, b"a3 NO sesame?\r\n"], "L7STS", 'refused: "a3 NO ***?"'),
        (Imap(**LOGIN), [OK, CAPABLE, b"* BYE bye\r\n"], "L7STS", "closing"),
        (Imap(**LOGIN), [OK, CAPABLE, b"garbage\r\n"], "L7RSP", "no IMAP answer"),
        (Imap(**LOGIN), [OK, CAPABLE], "L7RSP", "instead of the answer to LOGIN"),
        (Imap(login="ä"), [OK, CAPABLE, b"a3 NO no\r\n"], "L7STS", "LOGIN refused"),
        (Pop(), [b"-ERR too many\r\n"], "L7STS", "busy or closing"),
        (Pop(), [b"+OKAY\r\n"], "L7RSP", "no POP3 greeting"),
        (Pop(tls="starttls"), [b"+OK\r\n", b"-ERR no\r\n"], "L7STS", "STLS refused"),
        (Pop(tls="starttls"), [b"+OK\r\n", b"+OK\r\n+OK\r\n"], "L7RSP", "consent and TLS"),
        (Pop(**LOGIN), [b"+OK\r\n", b"+OK\r\n", b"-ERR [AUTH] no\r\n"], "L7STS", "PASS refused"),
        (Pop(**LOGIN), [b"+OK\r\n", b"+OK\r\n", b"-ERR [IN-USE] no\r\n"], "L7STS", "is busy"),
        (Pop(**LOGIN), [b"+OK\r\n", b"what\r\n"], "L7RSP", "bad answer to USER"),
        (Nntp(), [b"400 full\r\n"], "L7STS", 'not available: "400 full"'),
        (Nntp(), [b"502 not you\r\n"], "L7STS", "not available"),
        (Nntp(), [b"2000 x\r\n"], "L7RSP", "no NNTP greeting"),
        (Nntp(), [b"281 x\r\n"], "L7RSP", "no good greeting"),
        (Nntp(**LOGIN), [b"200 x\r\n", b"200 x\r\n", b"483 tls\r\n"], "L7STS", "login refused"),
        (
            Nntp(**LOGIN),
            [b"200 x\r\n", b"200 x\r\n", b"381 x\r\n", b"481 sesame\r\n"],
            "L7STS",
            'login refused: "481 ***"',
        ),
        (Nntp(group="a"), [b"200 x\r\n", b"200 x\r\n", b"411 x\r\n"], "L7RSP", "no such group"),
        (Nntp(group="a"), [b"200 x\r\n", b"200 x\r\n", b"480 x\r\n"], "L7STS", "GROUP refused"),
        (Nntp(group="a"), [b"200 x\r\n", b"400 bye\r\n"], "L7STS", "not available"),
        (Nntp(tls="starttls"), [b"200 x\r\n", b"200 x\r\n", b"580 x\r\n"], "L7STS", "STARTTLS"),
    ],
)
def test_bad(checker, answers, status, text):
    got = hold(checker, answers)
    assert got[0] == status, got
    assert text in got[1]


WORDS = st.sampled_from(
    [
        *(b"* OK", b"a1 OK", b"a2 OK", b"a3 NO", b"+ ", b"[CAPABILITY ", b"* CAPABILITY", b"* BYE"),
        *(b"+OK", b"-ERR", STAMP, b"200 ", b"381", b"\r\n", b"\n", b"\xff\x00", b" "),
    ]
)


@given(st.lists(WORDS | st.binary(max_size=8)), st.integers(1, 9))
def test_no_answer_raises_anything_else(words, size):
    data = b"".join(words)
    for checker in (Imap(**LOGIN), Imap(tls="starttls"), Pop(**LOGIN), Nntp(**LOGIN, group="a")):
        whole, cut = hold(checker, [data]), hold(checker, [data], size)
        assert whole[1].isprintable()
        if isinstance(whole[0], list) or "consent" not in whole[1] + cut[1]:
            assert whole == cut


@pytest.mark.parametrize(
    ("kind", "settings", "field"),
    [
        (Imap, {"login": "a\r\nb"}, "login"),
        (Pop, {"login": "a", "password": "a\nb"}, "password"),
        (Imap, {"password": "x"}, "password"),
        (Pop, {"tls": "yes"}, "tls"),
        (Pop, {"login": " a"}, "login"),
        (Imap, {"verify": True}, "verify"),
        (Imaps, {"ca_file": "/x"}, "ca_file"),
        (Nntp, {"group": "a b"}, "group"),
        (Nntp, {"group": "a.*"}, "group"),
    ],
)
def test_settings(kind, settings, field):
    with pytest.raises(SettingError) as caught:
        kind(**settings)
    assert caught.value.field == field


@pytest.mark.parametrize("kind", [Imap, Imaps, Pop, Pops, Nntp])
def test_the_password_is_not_in_the_repr(kind):
    assert "sesame" not in repr(kind(**LOGIN))
    assert kind.kind == kind.__name__.lower()


async def test_slow_greeting(probe):
    async with ScriptedServer.slow_drip(b"200 x\r\n", every=0.01) as server:
        assert await probe(Nntp(), server.target()) == ("PASS", "L7OK", "ready")


def test_apop_is_md5():
    digest = hashlib.md5(STAMP + b"tanstaaf", usedforsecurity=False).hexdigest()
    assert digest == "c4c9334bac560ecc979e58001b3e22fb"
