"""From an error of the operating system or of TLS to a verdict and a text for operators.

One table for every prober, so that the same fault has the same verdict whichever way a check
ran.  The rule: whatever *this* host lacks (ports, descriptors, memory, permission, a route) is
`CheckError` and never takes a server out; whatever the *server* or the path to it did is
`CheckFailed`.  What nobody foresaw is `CheckError` too, and names the exception.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl

from lbhealth.errors import CheckError, CheckFailed
from lbhealth.model import Status

__all__ = [
    "connect_failure",
    "errno_failure",
    "excerpt",
    "failure_from",
    "printable",
    "timed_out",
    "tls_reason",
]


_BROKEN_AT = {
    Status.L4TOUT: Status.L4CON,
    Status.L6TOUT: Status.L6RSP,
    Status.L7TOUT: Status.L7RSP,
}

_WAITED_FOR = {
    Status.L4TOUT: "the connection",
    Status.L6TOUT: "the TLS handshake",
    Status.L7TOUT: "the response",
    Status.PROCTOUT: "the script",
}

_OURS = {
    errno.EADDRNOTAVAIL: "no free local port or the source address is not on this host",
    errno.EADDRINUSE: "the local address is in use",
    errno.EMFILE: "too many open files: raise LimitNOFILE",
    errno.ENFILE: "too many open files in the whole system: raise fs.file-max",
    errno.ENOBUFS: "no buffer space in the kernel",
    errno.ENOMEM: "out of memory",
    errno.EACCES: "permission denied by the local system or firewall",
    errno.EPERM: "not permitted by the local system or firewall",
    errno.ENETUNREACH: "no route to the network from this host",
    errno.ENETDOWN: "the local network interface is down",
    errno.EAFNOSUPPORT: "this host does not speak that address family",
    errno.EINVAL: "the kernel refuses the address",
}

_THEIRS = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to host",
    errno.EHOSTDOWN: "host is down",
    errno.ENOPROTOOPT: "protocol unreachable",
}

_BROKEN = {
    errno.ECONNRESET: "connection reset by the server",
    errno.ECONNABORTED: "connection aborted",
    errno.EPIPE: "connection closed by the server",
    errno.ENETRESET: "connection reset by the network",
}

_TLS_REASONS = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS (wrong version number)",
    "PACKET_LENGTH_TOO_LONG": "the server does not speak TLS (packet length too long)",
    "RECORD_LAYER_FAILURE": "the server does not speak TLS (bad record)",
    "UNSUPPORTED_PROTOCOL": "no TLS version in common",
    "TLSV1_ALERT_PROTOCOL_VERSION": "no TLS version in common",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server refuses the TLS handshake (no cipher in common)",
    "TLSV1_UNRECOGNIZED_NAME": "the server knows no certificate for the TLS server name",
    "UNEXPECTED_EOF_WHILE_READING": "the server closed the connection inside the TLS handshake",
    "DH_KEY_TOO_SMALL": "the server's Diffie-Hellman key is too small",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server wants a client certificate",
}

# X509_V_ERR_* of OpenSSL (x509_vfy.h)
_CERTIFICATE_REASONS = {
    9: "certificate not yet valid",
    10: "certificate expired",
    18: "certificate is self-signed",
    19: "certificate chain ends in an unknown, self-signed authority",
    20: "certificate is from an unknown authority",
    21: "certificate is from an unknown authority",
    23: "certificate revoked",
    26: "certificate is not meant for a server",
}
_NAME_MISMATCH = frozenset({62, 64})


def errno_failure(code: int, phase: Status = Status.L4TOUT) -> CheckFailed | CheckError:
    """The verdict on an errno that a system call gave.

    `phase` is how far the check had come, as in `CheckContext.phase`.
    """
    if code in _OURS:
        return CheckError(_OURS[code])
    if code in _THEIRS:
        return CheckFailed(Status.L4CON, _THEIRS[code])
    if code in _BROKEN:
        return CheckFailed(_BROKEN_AT.get(phase, Status.L7RSP), _BROKEN[code])
    if code == errno.ETIMEDOUT:
        return CheckFailed(phase, "the kernel gave the connection up: timed out")
    return CheckError(f"{os.strerror(code)} ({errno.errorcode.get(code, code)})")


def connect_failure(code: int) -> CheckFailed | CheckError:
    """The verdict on SO_ERROR, or on the result of connect_ex, of a TCP connect."""
    return errno_failure(code, Status.L4TOUT)


def timed_out(phase: Status, timeout: float) -> CheckFailed:
    """The verdict on a check that was not done after `timeout` seconds, for want of `phase`."""
    what = _WAITED_FOR.get(phase, "the end of the check")
    return CheckFailed(phase, f"timed out after {timeout:g} s waiting for {what}")


def failure_from(error: BaseException, phase: Status = Status.L7TOUT) -> CheckFailed | CheckError:
    """The verdict on any exception that ended a check; `phase` as in `errno_failure`."""
    if isinstance(error, CheckFailed | CheckError):
        return error
    broken = _BROKEN_AT.get(phase, Status.L7RSP)
    if isinstance(error, ssl.SSLError):
        return CheckFailed(Status.L6RSP, tls_reason(error))
    if isinstance(error, asyncio.IncompleteReadError):
        return CheckFailed(broken, "the server closed the connection early")
    if isinstance(error, asyncio.LimitOverrunError):
        return CheckFailed(broken, "the server sent an endless line")
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return errno_failure(error.errno, phase)
    if isinstance(error, TimeoutError):  # asyncio's has no errno, the kernel's has ETIMEDOUT
        return CheckFailed(phase, f"timed out waiting for {_WAITED_FOR.get(phase, 'the server')}")
    if isinstance(error, ConnectionError):
        return CheckFailed(broken, "the server closed the connection")
    text = printable(str(error))
    return CheckError(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def tls_reason(error: ssl.SSLError) -> str:
    """Why a TLS handshake failed, in an operator's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code in _NAME_MISMATCH:
            return f"certificate does not match the name: {printable(error.verify_message)}"
        return _CERTIFICATE_REASONS.get(code, f"certificate: {printable(error.verify_message)}")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _TLS_REASONS["UNEXPECTED_EOF_WHILE_READING"]
    reason = getattr(error, "reason", None) or ""  # lacking when not made by OpenSSL
    if reason in _TLS_REASONS:
        return _TLS_REASONS[reason]
    return f"TLS: {printable(reason.lower().replace('_', ' ') or str(error))}"


def printable(text: str, limit: int = 200) -> str:
    """`text` on one line, control characters escaped, cut to `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in cut
    )


def excerpt(data: bytes, limit: int = 60) -> str:
    """The beginning of what a server sent, quoted and fit for one line of a log."""
    return '"' + printable(data[: limit + 1].decode("utf-8", "backslashreplace"), limit) + '"'
