"""One table from errors to verdicts."""

import asyncio
import errno
import ssl

import pytest

from lbhealth.checkers.outcome import connect_failure, excerpt, failure_from, printable, timed_out
from lbhealth.errors import CheckError, CheckFailed
from lbhealth.model import Status

OURS = "EADDRNOTAVAIL EMFILE ENFILE ENOBUFS ENOMEM EACCES EPERM ENETUNREACH EAFNOSUPPORT EXDEV"


@pytest.mark.parametrize("name", OURS.split())
def test_our_side_is_an_error(name):
    code = getattr(errno, name)
    assert isinstance(connect_failure(code), CheckError)
    assert isinstance(failure_from(OSError(code, "x")), CheckError)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("ECONNREFUSED", Status.L4CON),
        ("ECONNRESET", Status.L4CON),
        ("EHOSTUNREACH", Status.L4CON),
        ("ETIMEDOUT", Status.L4TOUT),
    ],
)
def test_their_side_is_a_failure(name, status):
    failure = connect_failure(getattr(errno, name))
    assert isinstance(failure, CheckFailed)
    assert failure.status is status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionResetError(errno.ECONNRESET, "x"), Status.L7RSP),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), Status.L4CON),
        (TimeoutError(), Status.L7TOUT),
        (asyncio.IncompleteReadError(b"", 1), Status.L7RSP),
        (asyncio.LimitOverrunError("x", 1), Status.L7RSP),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x"), Status.L6RSP),
        (ssl.SSLEOFError(8, "x"), Status.L6RSP),
        (ConnectionError("lost"), Status.L7RSP),
    ],
)
def test_exceptions(error, status):
    failure = failure_from(error)
    assert isinstance(failure, CheckFailed)
    assert failure.status is status


def test_unknown_exceptions_are_ours_and_named():
    assert failure_from(ZeroDivisionError("x\n")).detail == "ZeroDivisionError: x\\n"
    assert failure_from(KeyError()).detail == "KeyError"
    known = CheckFailed(Status.L7STS, "x")
    assert failure_from(known) is known


def test_texts():
    assert timed_out(Status.L4TOUT, 2.0).detail == "timed out after 2 s waiting for the connection"
    assert excerpt(b"a\n\xff") == '"a\\n\\xff"'
    assert printable("x" * 300) == "x" * 197 + "..."
    assert printable("\x1b\u2028\ud800").isprintable()
