"""Reading a configuration for a command: findings to stderr, errors to the exit code.

A running director has its files read by a child process (`python -m lbhealth.cli.files PATH NICE`):
name servers that do not answer and the memory of parsers are no business of the process that
checks.  The child sends the configuration in small pickled pieces, which are taken in slices.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from dataclasses import replace

from lbhealth.cli.output import talk
from lbhealth.config import Loaded, load, render
from lbhealth.model import Config, RealServer, VirtualService
from lbhealth.plugins import Registry

__all__ = ["load_in_child", "read", "show_findings"]

_PIECE = 100
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


async def load_in_child(path: str, nice: int = 0) -> Loaded:
    """Read a file in a child process; raises OSError when it cannot be read.

    With `nice` (0..19) the child yields to this process where they share a processor.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lbhealth.cli.files",
        path,
        str(nice),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        async with asyncio.timeout(_PATIENCE):
            loaded = await _receive(child.stdout)
            complaint = (await child.stderr.read()).decode(errors="replace").strip()
            status = await child.wait()
    except BaseException:
        if child.returncode is None:
            child.kill()
            await child.wait()
        raise
    if loaded is None:
        raise OSError(complaint.splitlines()[-1] if complaint else f"the reader ended: {status}")
    return loaded


async def _receive(stream: asyncio.StreamReader) -> Loaded | None:
    """Take the pieces as they come; None when the child ends before the last one."""
    loaded: Loaded | None = None
    services: list[VirtualService] = []
    servers: list[RealServer] = []
    try:
        while size := int.from_bytes(await stream.readexactly(4)):
            piece = pickle.loads(await stream.readexactly(size))  # noqa: S301 - from our own child
            match piece:
                case Loaded():
                    loaded = piece
                case VirtualService():
                    services.append(replace(piece, real=tuple(servers)))
                    servers = []
                case tuple():
                    servers.extend(piece)
            # Data that is there already does not make the stream wait.
            await asyncio.sleep(0)
    except asyncio.IncompleteReadError:
        return None
    if loaded is None or loaded.config is None:
        return loaded
    return replace(loaded, config=replace(loaded.config, virtual=tuple(services)))


def _send(loaded: Loaded) -> None:
    """Write a configuration: the frame, then servers and service in turn, then a zero.

    Each piece is pickled by itself behind its length in four bytes.
    """
    config = loaded.config
    _write(replace(loaded, config=replace(config, virtual=()) if config else None))
    for service in config.virtual if isinstance(config, Config) else ():
        for start in range(0, len(service.real), _PIECE):
            _write(service.real[start : start + _PIECE])
        _write(replace(service, real=()))
    sys.stdout.buffer.write(bytes(4))
    sys.stdout.flush()


def _write(piece: object) -> None:
    data = pickle.dumps(piece, protocol=5)
    sys.stdout.buffer.write(len(data).to_bytes(4) + data)


if __name__ == "__main__":
    os.nice(int(sys.argv[2]))
    try:
        _send(read(sys.argv[1]))
    except OSError as error:
        sys.exit(f"{error.strerror or error}")
