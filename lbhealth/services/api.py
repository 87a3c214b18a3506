"""The HTTP API of a running director, on a unix socket by default.

Whoever may open the unix socket may do all; over TCP everything is read-only until there are
users to tell apart.  Long answers are written in slices, so that no check waits for a reader.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import web

from lbhealth import __version__
from lbhealth.engine import Director
from lbhealth.engine.slices import sliced
from lbhealth.errors import ConfigError, ControlError, LbhealthError, UnknownServer
from lbhealth.model import AdminState
from lbhealth.services.address import Address, TcpAddress, UnixAddress
from lbhealth.services.documents import (
    SCHEMA,
    director_document,
    server_document,
    service_document,
)

__all__ = ["Api"]

_BODY = 64 * 1024
_FLUSH = 32 * 1024
_FAR = 1e11
"""Seconds since the epoch that nobody means: some three thousand years."""


class Api:
    """Serves one director.  `reload(force)` is the application's, and may raise ConfigError."""

    def __init__(
        self, director: Director, reload: Callable[[bool], Awaitable[Mapping[str, object]]]
    ) -> None:
        self._director = director
        self._reload = reload
        self._runner: web.AppRunner | None = None
        self._path: Path | None = None

    async def start(self, address: Address) -> str:
        """Listen; return the address in use.

        A stale unix socket is replaced.  Raises OSError when the address cannot be had, with
        EADDRINUSE when a live program listens there.
        """
        writable = isinstance(address, UnixAddress)
        app = web.Application(client_max_size=_BODY, middlewares=[_errors])
        app.add_routes([web.get("/v1/status", self._status), web.get("/healthz", self._healthz)])
        app.add_routes([web.get("/readyz", self._readyz)])
        if writable:
            app.add_routes(
                [web.post("/v1/admin", self._admin), web.post("/v1/reload", self._on_reload)]
            )
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=0.2
        )
        await self._runner.setup()
        if isinstance(address, UnixAddress):
            sock = _unix_socket(address.path)
            self._path = address.path
        else:
            sock = await _tcp_socket(address)
        await web.SockSite(self._runner, sock).start()
        if isinstance(address, TcpAddress):
            return str(TcpAddress(*sock.getsockname()[:2]))
        return str(address)

    async def aclose(self) -> None:
        """Stop listening and remove the socket."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        head = {"schema": SCHEMA, "version": __version__}
        head |= director_document(self._director.header())
        text = json.dumps(head)[:-1] + ', "services": ['
        comma = ""
        for service, servers in self._director.walk():
            text += comma + json.dumps(service_document(service))[:-1] + ', "real": ['
            between = ""
            async for server in sliced(servers):
                text += between + json.dumps(server_document(server))
                between = ","
                if len(text) > _FLUSH:
                    await response.write(text.encode())
                    text = ""
            text += "]}"
            comma = ","
            await asyncio.sleep(0)
        await response.write((text + "]}\n").encode())
        await response.write_eof()
        return response

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        if self._director.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not every server has a verdict yet\n")

    async def _admin(self, request: web.Request) -> web.Response:
        body = await _body(request)
        try:
            state = AdminState(_text(body, "state"))
        except ValueError:
            raise ControlError("state must be online, drain or halt") from None
        count = self._director.set_admin(
            _text(body, "server"),
            state,
            reason=_text(body, "reason", ""),
            actor=_text(body, "actor", ""),
            until=_moment(body, "until"),
        )
        return web.json_response({"schema": SCHEMA, "state": str(state), "changed": count})

    async def _on_reload(self, request: web.Request) -> web.Response:
        body = await _body(request)
        force = body.get("force", False)
        if not isinstance(force, bool):
            raise ControlError("force must be true or false")
        return web.json_response({"schema": SCHEMA, **await self._reload(force)})


async def _body(request: web.Request) -> Mapping[str, object]:
    try:
        body = await request.json() if request.can_read_body else {}
    except (ValueError, LookupError, RecursionError) as error:  # text, charset, depth
        raise ControlError(f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise ControlError("the body must be a JSON object")
    return body


def _text(body: Mapping[str, object], key: str, default: str | None = None) -> str:
    value = body.get(key, default)
    if not isinstance(value, str) or len(value) > 1000:
        raise ControlError(f"{key} must be a text of at most 1000 characters")
    return value


def _moment(body: Mapping[str, object], key: str) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _FAR:
        return float(value)
    raise ControlError(f"{key} must be a number of seconds since the epoch")


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn errors into problem documents (RFC 9457)."""
    try:
        return await handler(request)
    except UnknownServer as error:
        return _problem(404, str(error))
    except ConfigError as error:
        from lbhealth.config import Diagnostic, as_json

        found = [as_json(d) for d in error.diagnostics if isinstance(d, Diagnostic)]
        return _problem(422, "the configuration has errors; the old one stays", diagnostics=found)
    except LbhealthError as error:
        return _problem(400, str(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        problem = _problem(error.status, error.reason)
        if "Allow" in error.headers:
            problem.headers["Allow"] = error.headers["Allow"]
        return problem


def _problem(status: int, detail: str, **more: object) -> web.Response:
    body = {"schema": SCHEMA, "status": status, "detail": detail, **more}
    return web.json_response(body, status=status, content_type="application/problem+json")


def _unix_socket(path: Path) -> socket.socket:
    """Bind a unix socket with mode 0660, replacing one that nobody listens on."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_socket() and not _is_live(path):
            path.unlink()
        mask = os.umask(0o117)
        try:
            sock.bind(str(path))
        finally:
            os.umask(mask)
        sock.listen(128)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "another program listens there" if path.is_socket() else "there is a file"
        raise OSError(error.errno, f"cannot listen on {path}: {why}") from None
    return sock


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return True
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True


async def _tcp_socket(address: TcpAddress) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    family, kind, _, _, where = found[0]
    sock = socket.socket(family, kind)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(128)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
