"""Targets that do more than answer.  Started by the benchmarks inside the farm's namespace.

    listeners.py killable COUNT connect|http    servers that close one by one at random moments
                                                after "go", with a line `PORT TIME` for each
    listeners.py silent                         accepts and never answers, on every address
    listeners.py recorder connect|http FILE     answers, and notes when which target was checked

Each prints "ready" once it listens and ends when its standard input does.  Times are those of
CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

KILLABLE_ADDRESS = "127.2.0.1"
KILLABLE_PORT = 9001
SILENT_PORT = 8081
RECORDER_PORT = 8082

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\nOK healthy\n"
STDIN = 0


def listener(address: str, port: int, backlog: int) -> socket.socket:
    """A non-blocking listening socket."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(backlog)
    sock.setblocking(False)
    return sock


class Server:
    """Several listeners and their clients on one epoll.

    `answer` None keeps clients without a word, b"" closes them at once, anything else is what
    they get for their first bytes.
    """

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.epoll = select.epoll()
        self.listeners: dict[int, socket.socket] = {}
        self.clients: dict[int, socket.socket] = {}
        self.on_accept: Callable[[socket.socket], None] = lambda client: None
        self.epoll.register(STDIN, select.EPOLLIN)

    def add(self, sock: socket.socket) -> None:
        """Serve one more listener."""
        self.listeners[sock.fileno()] = sock
        self.epoll.register(sock.fileno(), select.EPOLLIN)

    def close(self, sock: socket.socket) -> None:
        """Close a listener: from now on its clients are refused."""
        del self.listeners[sock.fileno()]
        sock.close()

    def serve(self, timeout: float) -> bytes:
        """Serve what is due, waiting `timeout` at most; return what came on standard input."""
        said = b""
        for fd, _ in self.epoll.poll(timeout):
            if fd == STDIN:
                said = os.read(STDIN, 64) or b"end\n"
            elif fd in self.listeners:
                self._accept(self.listeners[fd])
            elif fd in self.clients:
                self._talk(fd)
        return said

    def _accept(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for _ in range(512):
                client, _ = sock.accept()
                self.on_accept(client)
                if self.answer == b"":
                    client.close()
                    continue
                client.setblocking(False)
                self.clients[client.fileno()] = client
                self.epoll.register(client.fileno(), select.EPOLLIN)

    def _talk(self, fd: int) -> None:
        client = self.clients[fd]
        with contextlib.suppress(OSError):
            if client.recv(4096):
                if self.answer is None:
                    return
                client.send(self.answer)
        del self.clients[fd]
        client.close()


def say(text: str) -> None:
    """Print one line for the benchmark."""
    print(text, flush=True)


def killable(count: int, kind: str) -> None:
    """Serve, and after "go" close the listeners one by one."""
    server = Server(ANSWER if kind == "http" else b"")
    doomed = [listener(KILLABLE_ADDRESS, KILLABLE_PORT + i, 64) for i in range(count)]
    for sock in doomed:
        server.add(sock)
    random.shuffle(doomed)
    say("ready")
    due = float("inf")
    while True:
        now = time.monotonic()
        if doomed and now >= due:
            sock = doomed.pop()
            port = sock.getsockname()[1]
            server.close(sock)
            say(f"{port} {time.monotonic():.6f}")
            due = now + random.uniform(0.02, 0.12)
        match server.serve(max(0.0, min(0.01, due - now))):
            case b"go\n":
                due = time.monotonic()
            case b"end\n":
                return


def silent() -> None:
    """Accept and never answer."""
    server = Server(None)
    server.add(listener("0.0.0.0", SILENT_PORT, 4096))
    say("ready")
    while server.serve(1.0) != b"end\n":
        pass


def recorder(kind: str, path: Path) -> None:
    """Answer, and write who was checked when: times as doubles, then addresses as integers."""
    server = Server(ANSWER if kind == "http" else b"")
    times, addresses = array("d"), array("I")

    def note(client: socket.socket) -> None:
        times.append(time.monotonic())
        addresses.append(int.from_bytes(socket.inet_aton(client.getsockname()[0])))

    server.on_accept = note
    server.add(listener("0.0.0.0", RECORDER_PORT, 65535))
    say("ready")
    while server.serve(1.0) != b"end\n":
        pass
    with path.open("wb") as file:
        times.tofile(file)
        addresses.tofile(file)


def read_record(path: Path) -> list[tuple[float, int]]:
    """What `recorder` wrote: time and address of every check, in order of time."""
    count = path.stat().st_size // (array("d").itemsize + array("I").itemsize)
    times, addresses = array("d"), array("I")
    with path.open("rb") as file:
        times.fromfile(file, count)
        addresses.fromfile(file, count)
    return list(zip(times, addresses, strict=True))


def main(arguments: list[str]) -> None:
    """Dispatch on the first argument."""
    match arguments:
        case ["killable", count, kind]:
            killable(int(count), kind)
        case ["silent"]:
            silent()
        case ["recorder", kind, path]:
            recorder(kind, Path(path))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
