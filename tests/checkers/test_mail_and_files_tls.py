"""What the libraries of SMTP and FTP get wrong, and the checks may not: TLS and sockets."""

import asyncio
import os
import ssl

import pytest
import trustme

from lbhealth.checkers.ftp import Ftp
from lbhealth.checkers.smtp import Smtp
from lbhealth.model import Target
from lbhealth.testing import ScriptedServer


async def silence(reader, writer):
    while await reader.read(4096):
        pass


@pytest.fixture(scope="module")
def context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("checker", [Smtp(tls="implicit"), Ftp(tls="implicit")])
async def test_silence_after_the_handshake_leaves_no_socket(probe, context, checker):
    async with ScriptedServer(silence, tls=context) as server:
        await probe(checker, server.target(), 0.3)
        await asyncio.sleep(0.05)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            got = await probe(checker, server.target(), 0.3)
            assert got[:2] == ("FAIL", "L7TOUT"), got
        await asyncio.sleep(0.05)
        assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("checker", [Smtp(), Ftp()])
async def test_the_source_is_used(probe, checker):
    peers = []

    async def note(_, writer):
        peers.append(writer.get_extra_info("peername")[0])

    async with ScriptedServer(note) as server:
        await probe(checker, Target("127.0.0.1", server.port, source="127.0.0.5"))
    assert peers == ["127.0.0.5"]


@pytest.mark.parametrize("checker", [Smtp(tls="implicit"), Ftp(tls="implicit")])
async def test_an_unreadable_ca_file_is_our_error(probe, checker):
    checker = type(checker)(tls="implicit", verify=True, ca_file="/nonexistent/ca.pem")
    async with ScriptedServer.accept_then_silence() as server:
        assert (await probe(checker, server.target()))[0] == "ERROR"
