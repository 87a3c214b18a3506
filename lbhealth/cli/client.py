"""Talking to a running director over its API."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lbhealth.errors import ControlError, DirectorUnreachable
from lbhealth.services.address import Address, UnixAddress, parse_address

__all__ = ["actor", "api_address", "api_option", "call"]

_PATIENCE = 30.0
"""Seconds to wait for an answer."""

api_option = click.option(
    "--api",
    metavar="unix:PATH|HOST:PORT",
    help="Where the director listens.  [default: $LBHEALTH_API, else the usual socket]",
)


def api_address(option: str | None) -> Address:
    """The address to use: the option, the environment, else the usual socket.

    Raises click.UsageError for an address that cannot be read, or when there is none.
    """
    text = option or os.environ.get("LBHEALTH_API")
    if text:
        try:
            return parse_address(text)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    if directory := os.environ.get("RUNTIME_DIRECTORY"):
        return UnixAddress(Path(directory.split(":")[0]) / "api.sock")
    if os.geteuid() == 0:
        return UnixAddress(Path("/run/lbhealth/api.sock"))
    if directory := os.environ.get("XDG_RUNTIME_DIR"):
        return UnixAddress(Path(directory) / "lbhealth" / "api.sock")
    raise click.UsageError("no usual place for the API socket: name one by --api unix:PATH")


def actor() -> str:
    """Who gives an order: the login name behind sudo, else that of the process."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def call(
    address: Address, method: str, path: str, body: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Ask the director and return its answer.

    Raises DirectorUnreachable when none answers, ControlError with the director's words when
    it refuses.
    """
    connection = _connection(address)
    try:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"} if data else {}
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        return _answer(response.status, response.read().decode())
    except (http.client.HTTPException, OSError) as error:
        raise DirectorUnreachable(
            f"no director answers at {address} ({_cause(error)}); is `lbhealth run` running, "
            "and may you open its socket?"
        ) from error
    finally:
        connection.close()


def _connection(address: Address) -> http.client.HTTPConnection:
    if isinstance(address, UnixAddress):
        return _UnixConnection(str(address.path))
    return http.client.HTTPConnection(address.host, address.port, timeout=_PATIENCE)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket; the standard library starts ten times as fast as aiohttp."""

    def __init__(self, path: str) -> None:
        super().__init__("lbhealth", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _answer(status: int, text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        raise ControlError(f"the director answered {status}: {text[:200]}") from None
    if status >= 400:
        error = ControlError(str(answer.get("detail", text)))
        error.add_note(json.dumps(answer))
        raise error
    assert isinstance(answer, dict)
    return answer


def _cause(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
