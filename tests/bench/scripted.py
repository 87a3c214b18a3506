"""Peers that answer one protocol correctly and at once.  Started by `protocols.py`.

    scripted.py PROTOCOL CERTIFICATE     prints {"port": ..., "silent": ...}, ends when stdin does

`port` answers on every address of the loopback, `silent` takes what comes and never says a word.
CERTIFICATE is a PEM file with key and chain, for the protocols inside TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lbhealth.testing import ScriptedServer
from tests.checkers import test_ldap, test_mysql, test_pgsql, test_radius
from tests.checkers.scripts import conversation

ANYWHERE = "0.0.0.0"
DATAGRAMS = frozenset({"dns", "sip", "radius"})
SECRET = "shared one"
FILE = b"OK healthy\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\n" + FILE

IP_PKTINFO = 8  # linux/in.h
PKTINFO = struct.Struct("=I4s4s")
SIP_COPIED = re.compile(rb"(?mi)^(?:Via|From|To|Call-ID|CSeq):[^\r\n]*\r\n")

LINES: dict[str, tuple[bytes, dict[bytes, bytes | None]]] = {
    "imap": (
        b"* OK [CAPABILITY IMAP4rev1] ready\r\n",
        {b"a3 LOGIN": b"a3 OK logged in\r\n", b"a9": b"* BYE\r\na9 OK\r\n"},
    ),
    "pop": (
        b"+OK ready <1896.697170952@example.org>\r\n",
        {b"APOP": b"+OK logged in\r\n", b"QUIT": b"+OK\r\n"},
    ),
    "smtp": (
        b"220 mail.example.org ESMTP\r\n",
        {
            b"EHLO": b"250-mail.example.org\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
            b"QUIT": b"221 bye\r\n",
        },
    ),
    "nntp": (
        b"200 ready\r\n",
        {b"MODE": b"200 ready\r\n", b"GROUP": b"211 3 1 3 a.b\r\n", b"QUIT": b"205 bye\r\n"},
    ),
    "redis": (b"", {b"PING": b"+PONG\r\n", b"QUIT": b"+OK\r\n", b"*": b"", b"$": b""}),
    "simpletcp": (b"", {b"ping": b"pong\n"}),
    "telnet": (b"\xff\xfd\x18\xff\xfb\x01Welcome\r\nlogin: ", {b"": b""}),
}
"""The greeting, and what follows on a line that begins so."""

MESSAGES: dict[str, tuple[bytes, ...]] = {
    "ldap": (b"", test_ldap.BOUND, test_ldap.FOUND),
    "mysql": (test_mysql.HELLO, test_mysql.OK),
    "pgsql": (b"", test_pgsql.READY),
    "https": (b"", PAGE),
}
"""The greeting, and the answers to one message after the other."""


def ftp(data_port: int) -> tuple[bytes, dict[bytes, bytes | None]]:
    """As in LINES; the file itself comes from a listener that sends it to everyone."""
    return b"220 ready\r\n", {
        b"USER": b"331 password please\r\n",
        b"PASS": b"230 logged in\r\n",
        b"TYPE": b"200 binary\r\n",
        b"EPSV": b"229 Entering Extended Passive Mode (|||%d|)\r\n" % data_port,
        b"RETR": b"150 here it comes\r\n226 that was it\r\n",
        b"QUIT": b"221 bye\r\n",
    }


def dns(query: bytes) -> bytes:
    """One A record for whatever is asked."""
    end = query.index(b"\0", 12) + 5
    header = query[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0)
    record = struct.pack("!3HIH", 0xC00C, 1, 1, 60, 4) + bytes((192, 0, 2, 1))
    return header + query[12:end] + record


def sip(request: bytes) -> bytes:
    """200 to any request."""
    copied = b"".join(SIP_COPIED.findall(request))
    return b"SIP/2.0 200 OK\r\n" + copied + b"Content-Length: 0\r\n\r\n"


def radius(request: bytes) -> bytes:
    """Access-Accept."""
    return test_radius.respond(request, 2, secret=SECRET.encode())


def answer_datagrams(answer: Callable[[bytes], bytes]) -> int:
    """Answer from the address that was asked; return the port."""
    sock = datagram_socket()
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)

    def readable() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, extra, _, sender = sock.recvmsg(65535, 64)
                _, own, _ = PKTINFO.unpack(extra[0][2])
                source = (socket.IPPROTO_IP, IP_PKTINFO, PKTINFO.pack(0, own, bytes(4)))
                sock.sendmsg([answer(data)], [source], 0, sender)

    asyncio.get_running_loop().add_reader(sock, readable)
    return sock.getsockname()[1]


def datagram_socket() -> socket.socket:
    """A socket on a free port."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind((ANYWHERE, 0))
    sock.setblocking(False)
    return sock


def messages(greeting: bytes, *replies: bytes, tls: ssl.SSLContext | None) -> ScriptedServer:
    """Greet, answer each message, and hang up at the farewell, as servers of these do."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        for reply in replies:
            if not await reader.read(65536):
                return
            writer.write(reply)
        await reader.read(65536)

    return ScriptedServer(behave, host=ANYWHERE, tls=tls)


async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Keep the connection, even one whose client has said its last word."""
    await asyncio.Event().wait()


async def server(name: str, certificate: str, stack: contextlib.AsyncExitStack) -> ScriptedServer:
    """What speaks a protocol over TCP."""
    if name == "ftp":
        data = await stack.enter_async_context(ScriptedServer.close_early(FILE, host=ANYWHERE))
        return conversation(*ftp(data.port), host=ANYWHERE)
    if name in LINES:
        return conversation(*LINES[name], host=ANYWHERE)
    context = None
    if name == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    return messages(*MESSAGES[name], tls=context)


def unless_reset(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell of a fault, but not of a check that drops its connection."""
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)


async def serve(name: str, certificate: str) -> None:
    """Answer until stdin ends."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(unless_reset)
    async with contextlib.AsyncExitStack() as stack:
        if name in DATAGRAMS:
            port = answer_datagrams({"dns": dns, "sip": sip, "radius": radius}[name])
            mute = datagram_socket()
            silent = mute.getsockname()[1]
        else:
            speaking = await server(name, certificate, stack)
            port = (await stack.enter_async_context(speaking)).port
            mute = ScriptedServer(stay_silent, host=ANYWHERE)
            silent = (await stack.enter_async_context(mute)).port
        print(json.dumps({"port": port, "silent": silent}), flush=True)
        over = asyncio.Event()
        loop.add_reader(0, lambda: os.read(0, 1) or over.set())
        await over.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2]))
