"""TLS contexts for checkers, made once for each way of verifying."""

from __future__ import annotations

import functools
import os
import ssl

from lbhealth.checkers.outcome import printable
from lbhealth.errors import CheckError
from lbhealth.model import Target

__all__ = ["client_context", "tls_name"]


def client_context(
    verify: bool = False, ca_file: str | None = None, alpn: str | None = None
) -> ssl.SSLContext:
    """The context of a client that checks the server's certificate, or not.

    Without `verify` any certificate and name will do, as in ldirectord, and every cipher that
    OpenSSL allows at its configured security level (Python's own list leaves out the key
    exchange of older servers).  With it the chain must end in `ca_file` (PEM), else in the
    system's store, and the name must be the server name, or the address where there is none.
    A `ca_file` that changes on disk is read again.  `alpn` is the one protocol to offer.

    Raises CheckError when `ca_file` cannot be read.
    """
    if not verify or ca_file is None:
        return _context(verify, None, 0, alpn)
    try:
        return _context(True, ca_file, os.stat(ca_file).st_mtime_ns, alpn)
    except ssl.SSLError as error:
        raise CheckError(f"ca_file {printable(ca_file)}: no certificate in it") from error
    except OSError as error:
        raise CheckError(f"ca_file {printable(ca_file)}: {error.strerror}") from error


def tls_name(target: Target) -> str:
    """The name that the certificate must be for: the server name, else the address."""
    return target.server_name or target.address.partition("%")[0]


@functools.lru_cache(maxsize=64)
def _context(verify: bool, ca_file: str | None, changed: int, alpn: str | None) -> ssl.SSLContext:
    if verify:
        context = ssl.create_default_context(cafile=ca_file)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("DEFAULT")
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context
