"""What checks share that hold a dialogue of lines: settings, and the way to the server."""

from __future__ import annotations

import asyncio
import socket

from lbhealth.checkers.outcome import failure_from
from lbhealth.checkers.sockets import open_socket, sockaddr
from lbhealth.errors import SettingError
from lbhealth.model import CheckContext, Status, Target, host_port

__all__ = ["TLS_MODES", "check_line", "check_tls", "connect", "tls_name"]

TLS_MODES = ("none", "implicit", "starttls")
"""No TLS; TLS from the first byte; TLS after a command in plain text."""


def check_line(field: str, value: str) -> None:
    """A word of a command: nothing in it may end the line or start another."""
    for place, character in enumerate(value):
        if ord(character) < 0x20 or ord(character) == 0x7F:
            raise SettingError(field, "control characters are not allowed", place)
        if "\ud800" <= character <= "\udfff":
            raise SettingError(field, "not a character of UTF-8", place)


def check_tls(tls: str, verify: bool, ca_file: str | None) -> None:
    """The three fields that say whether there is TLS and what its certificate must be."""
    if tls not in TLS_MODES:
        raise SettingError("tls", f"must be {', '.join(TLS_MODES[:-1])} or {TLS_MODES[-1]}")
    if verify and tls == "none":
        raise SettingError("verify", "has no effect without tls")
    if ca_file is not None and not verify:
        raise SettingError("ca_file", "has no effect without verify")
    if ca_file is not None and (not ca_file or "\0" in ca_file):
        raise SettingError("ca_file", "not a file name")


def tls_name(target: Target) -> str:
    """The name that the certificate must be for: the server name, else the address."""
    return target.server_name or target.address.partition("%")[0]


async def connect(target: Target, ctx: CheckContext, port: int | None = None) -> socket.socket:
    """A socket connected to the target, at its own or another port; the caller closes it.

    Raises CheckFailed or CheckError; leaves nothing open when it is cancelled.
    """
    port = target.port if port is None else port
    ctx.note("*", f"connecting to {host_port(target.address, port)}")
    try:
        sock = open_socket(target)
        try:
            address = sockaddr(target.address, port)
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise failure_from(error, Status.L4TOUT) from error
    ctx.note("*", "connected")
    return sock
