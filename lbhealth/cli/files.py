"""Reading a configuration for a command: findings to stderr, errors to the exit code.

A running director has its files read by a child process (`python -m lbhealth.cli.files PATH`):
name servers that do not answer and the memory of parsers are no business of the process that
checks.  The child sends the configuration in small pickled pieces, which are taken in slices.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lbhealth.cli.output import talk
from lbhealth.config import Loaded, load, render
from lbhealth.engine.slices import sliced
from lbhealth.model import Config, RealServer, VirtualService
from lbhealth.plugins import Registry

__all__ = ["load_in_child", "read", "show_findings"]

_PIECE = 64
"""Servers in one pickled piece: well below a millisecond to take."""

_PATIENCE = 120.0
"""Seconds that the child may take."""


def read(path: str) -> Loaded:
    """Read a file here and now; raises OSError when it cannot be read."""
    return load(path, Registry())


def show_findings(loaded: Loaded) -> None:
    """Print every finding to stderr."""
    if loaded.diagnostics:
        talk(render(loaded.diagnostics))


async def load_in_child(path: str) -> Loaded:
    """Read a file in a child process; raises OSError when it cannot be read."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lbhealth.cli.files",
        path,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            out, err = await child.communicate()
    except BaseException:
        if child.returncode is None:
            child.kill()
            await child.wait()
        raise
    if child.returncode != 0:
        lines = err.decode(errors="replace").strip().splitlines()
        raise OSError(lines[-1] if lines else f"reading {path} ended with {child.returncode}")
    return await _assemble(out)


async def _assemble(data: bytes) -> Loaded:
    unpickler = pickle.Unpickler(io.BytesIO(data))  # noqa: S301 - written by our own child

    def pieces() -> Iterator[object]:
        while (piece := unpickler.load()) is not None:
            yield piece

    loaded: Loaded | None = None
    services: list[VirtualService] = []
    servers: list[RealServer] = []
    async for piece in sliced(pieces(), look=1):
        match piece:
            case Loaded():
                loaded = piece
            case VirtualService():
                services.append(replace(piece, real=tuple(servers)))
                servers = []
            case tuple():
                servers.extend(piece)
    assert loaded is not None
    if loaded.config is None:
        return loaded
    return replace(loaded, config=replace(loaded.config, virtual=tuple(services)))


def _send(loaded: Loaded) -> None:
    """Write a configuration in pieces: the frame, then servers and service in turn, then None."""
    pickler = pickle.Pickler(sys.stdout.buffer, protocol=5)
    config = loaded.config
    pickler.dump(replace(loaded, config=replace(config, virtual=()) if config else None))
    for service in config.virtual if isinstance(config, Config) else ():
        for start in range(0, len(service.real), _PIECE):
            pickler.dump(service.real[start : start + _PIECE])
        pickler.dump(replace(service, real=()))
    pickler.dump(None)


if __name__ == "__main__":
    try:
        _send(read(str(Path(sys.argv[1]))))
    except OSError as error:
        sys.exit(str(error))
