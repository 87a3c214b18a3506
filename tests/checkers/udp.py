"""A UDP server on the loopback that says what a test wants it to."""

import asyncio
import contextlib
import socket

from lbhealth.model import Target, TransportProtocol


class UdpServer(asyncio.DatagramProtocol):
    """`script(number, data)` gives the datagrams that answer the `number`th one (0, 1, ...)."""

    def __init__(self, script, address):
        self.script = script
        self.address = address
        self.received = []
        self.sender = None

    def connection_made(self, transport):
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data, sender):
        self.sender = sender
        self.received.append(data)
        for answer in self.script(len(self.received) - 1, data):
            self.transport.sendto(answer, sender)

    def target(self, **more):
        return Target(self.address, self.port, TransportProtocol.UDP, **more)


@contextlib.asynccontextmanager
async def udp_server(script=lambda number, data: [], address="127.0.0.1"):
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: UdpServer(script, address), local_addr=(address, 0)
    )
    try:
        yield server
    finally:
        transport.abort()
        await asyncio.sleep(0)


@contextlib.contextmanager
def closed_port():
    """A port that nobody else can take and that refuses datagrams: it hears another peer."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        sock.connect(("127.0.0.1", 9))
        yield Target("127.0.0.1", port, TransportProtocol.UDP)
