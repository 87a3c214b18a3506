"""Real SIP servers: kamailio over UDP and TCP, and sipp with an answer of one's own."""

import contextlib
import socket
import subprocess
from dataclasses import dataclass

import pytest

from lbhealth.model import Target, TransportProtocol
from tests.servers.kit import accepts, find_program, free_port, has_v6, running

CONFIG = """#!KAMAILIO
debug=0
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
dns_try_naptr=no
disable_core_dump=yes
{listen}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/:/usr/lib/kamailio/modules/"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "maxfwd.so"
request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
  if ($rU == "busy") {{ sl_send_reply("503", "Service Unavailable"); exit; }}
  if ($rU == "secret") {{ sl_send_reply("401", "Unauthorized"); exit; }}
  if ($rU == "nobody") {{ sl_send_reply("404", "Not Found"); exit; }}
  if ($rU == "slow") {{ sl_send_reply("100", "Trying"); sl_send_reply("200", "At last"); exit; }}
  if ($rU == "trying") {{ sl_send_reply("100", "Trying"); exit; }}
  if ($rU == "drop") {{ exit; }}
  sl_send_reply("200", "OK"); exit;
}}
"""

SCENARIO = """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="options"><recv request="OPTIONS"/>
{wait}
<send><![CDATA[

SIP/2.0 {answer}
[last_Via:]
[last_From:]
[last_To:];tag=[call_number]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send></scenario>
"""

ASK = (
    "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKready;rport\r\n"
    "From: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: ready\r\n"
    "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


@dataclass(frozen=True)
class SipServer:
    port: int
    process: subprocess.Popen

    def target(self, address="127.0.0.1", protocol="udp", port=None, **more):
        if ":" in address and not has_v6():
            pytest.skip("this host has no IPv6 loopback")
        return Target(address, port or self.port, TransportProtocol(protocol), **more)


@pytest.fixture(scope="session", name="kamailio")
def kamailio_server(tmp_path_factory):
    program = find_program("kamailio")
    directory = tmp_path_factory.mktemp("kamailio")
    port = free_port()
    hosts = ["127.0.0.1", *(["[::1]"] if has_v6() else [])]
    listen = "\n".join(f"listen={p}:{h}:{port}" for p in ("udp", "tcp") for h in hosts)
    config = directory / "kamailio.cfg"
    config.write_text(CONFIG.format(listen=listen))
    command = [program, "-DD", "-E", "-m", "16", "-M", "4", "-f", config]
    command += ["-Y", directory, "-P", directory / "pid", "-w", directory]

    def ready():
        return answers(port) and accepts(port)

    with running(command, ready, log=directory / "log") as process:
        yield SipServer(port, process)


@contextlib.contextmanager
def sipp(directory, answer, wait=""):
    program = find_program("sipp")
    directory.mkdir(exist_ok=True)
    scenario = directory / "uas.xml"
    scenario.write_text(SCENARIO.format(answer=answer, wait=wait))
    port = free_port()
    command = [program, "-sf", scenario, "-i", "127.0.0.1", "-p", port, "-t", "u1"]
    command += ["-nostdin", "-skip_rlimit"]
    with running(
        command, lambda: answers(port, 1.0), log=directory / "log", cwd=directory
    ) as process:
        yield SipServer(port, process)


def answers(port, within=0.2):
    with socket.socket(type=socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.settimeout(within)
        sock.connect(("127.0.0.1", port))
        sock.send(ASK.encode())
        return sock.recv(4096).startswith(b"SIP/2.0 ")
    return False
