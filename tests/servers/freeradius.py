"""A real FreeRADIUS server: one account, Status-Server, a challenge."""

import contextlib
import os
import socket
import subprocess
from dataclasses import dataclass

import pytest

from lbhealth.checkers.radius_packet import Code, encode_request
from lbhealth.model import Target, TransportProtocol
from tests.servers.kit import find_program, free_port, has_v6, running

SECRET = "testing123"

CONFIG = """
prefix = /usr
logdir = {dir}
raddbdir = {dir}
run_dir = {dir}
libdir = /usr/lib/freeradius
pidfile = {dir}/pid
max_request_time = 5
cleanup_delay = 0
hostname_lookups = no
log {{
  destination = files
  file = {dir}/radius.log
}}
security {{
  max_attributes = 200
  reject_delay = 0
  status_server = yes
}}
thread pool {{
  start_servers = 1
  max_servers = 4
  min_spare_servers = 1
  max_spare_servers = 4
  max_requests_per_server = 0
}}
client v4 {{
  ipaddr = 127.0.0.0/8
  secret = {secret}
  require_message_authenticator = yes
}}
client v6 {{
  ipv6addr = ::1
  secret = {secret}
  require_message_authenticator = yes
}}
modules {{
  pap {{
  }}
  files {{
    filename = {dir}/users
  }}
  always reject {{
    rcode = reject
  }}
  always ok {{
    rcode = ok
  }}
}}
server default {{
  listen {{
    type = auth
    ipaddr = 127.0.0.1
    port = {port}
  }}
  {v6}
  authorize {{
    files
    pap
    Autz-Type Status-Server {{
      ok
    }}
  }}
  authenticate {{
    Auth-Type PAP {{
      pap
    }}
  }}
}}
"""

LISTEN_V6 = """listen {{
    type = auth
    ipv6addr = ::1
    port = {port}
  }}
"""

USERS = """hc Cleartext-Password := "secret"
here Cleartext-Password := "secret", NAS-Identifier == "lbhealth", NAS-IP-Address == 127.0.0.9
bj\xf6rn Cleartext-Password := "gr\xfc\xdfe, lang genug f\xfcr zwei Bl\xf6cke"
gone Auth-Type := Reject
  Reply-Message = "account closed, your password is secret"
token Cleartext-Password := "secret", Response-Packet-Type := Access-Challenge
  Reply-Message = "now the code"
"""


@dataclass(frozen=True)
class FreeRadius:
    port: int
    process: subprocess.Popen

    def target(self, address="127.0.0.1", port=None, **more):
        if ":" in address and not has_v6():
            pytest.skip("this host has no IPv6 loopback")
        return Target(address, port or self.port, TransportProtocol.UDP, **more)


@pytest.fixture(scope="session", name="freeradius")
def freeradius_server(tmp_path_factory):
    program = find_program("freeradius")
    directory = tmp_path_factory.mktemp("freeradius")
    port = free_port()
    v6 = LISTEN_V6.format(port=port) if has_v6() else ""
    config = CONFIG.format(dir=directory, port=port, secret=SECRET, v6=v6)
    (directory / "radiusd.conf").write_text(config)
    (directory / "users").write_text(USERS)
    (directory / "dictionary").write_text("$INCLUDE /usr/share/freeradius/dictionary\n")
    command = [program, "-f", "-d", directory, "-n", "radiusd"]
    with running(command, lambda: answers(port), log=directory / "radius.log") as process:
        yield FreeRadius(port, process)


def answers(port):
    request = encode_request(Code.STATUS_SERVER, 1, os.urandom(16), [], SECRET.encode())
    with socket.socket(type=socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        sock.send(request)
        return sock.recv(4096)[0] == Code.ACCESS_ACCEPT
    return False
