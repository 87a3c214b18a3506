"""A real nginx in a private directory, on free ports, for one test session."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from lbhealth.model import Target
from tests.servers.kit import free_port, has_v6

BIG = 3 * 1024 * 1024
"""Bytes of the large body; its last line is END-OF-BIG."""

CONFIG = """
daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
    server {{
        listen 127.0.0.1:{http};
        {v6}listen [::1]:{http};
        {locations}
    }}
    server {{
        listen 127.0.0.1:{https} ssl;
        {v6}listen [::1]:{https} ssl;
        ssl_certificate {dir}/server.pem; ssl_certificate_key {dir}/server.pem;
        {locations}
    }}
    server {{
        listen 127.0.0.1:{expired} ssl;
        ssl_certificate {dir}/expired.pem; ssl_certificate_key {dir}/expired.pem;
        {locations}
    }}
}}
"""

LOCATIONS = """
        root {dir}/www;
        location = /ok { return 200 "OK healthy\\n"; }
        location = /echo { return 200 "host=$http_host sni=$ssl_server_name end\\n"; }
        location = /503 { return 503 "down for maintenance\\n"; }
        location = /204 { return 204; }
        location = /relative { absolute_redirect off; return 302 /ok; }
        location = /absolute { return 301 $scheme://$server_addr_port/ok; }
        location = /elsewhere { return 302 http://192.0.2.1/ok; }
        location = /loop { absolute_redirect off; return 302 /loop; }
        location = /big { alias {dir}/www/big; }
        location = /chunked { ssi on; ssi_types text/plain; alias {dir}/www/chunked; }
        location = /slow { limit_rate 1; alias {dir}/www/slow; }
        location = /method { return 200 "method=$request_method\\n"; }
"""


@dataclass(frozen=True)
class Nginx:
    http: int
    https: int
    expired: int
    ca_file: str
    v6: bool

    def target(self, port, address="127.0.0.1", server_name=None):
        if ":" in address and not self.v6:
            pytest.skip("this host has no IPv6 loopback")
        return Target(address, port, server_name=server_name)


@pytest.fixture(scope="session")
def nginx(tmp_path_factory):
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    directory = tmp_path_factory.mktemp("nginx")
    write_files(directory)
    for _ in range(5):  # somebody else may take a port between its choice and its use
        instance = start(program, directory)
        if instance:
            break
    else:
        pytest.fail(f"nginx does not start: {(directory / 'error.log').read_text()[-2000:]}")
    process, server = instance
    yield server
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def write_files(directory):
    www = directory / "www"
    www.mkdir()
    (www / "big").write_bytes(b"x" * (BIG - 11) + b"END-OF-BIG\n")
    (www / "chunked").write_text('before <!--#echo var="uri" --> after\n')
    (www / "slow").write_bytes(b"slow " * 2000)
    ca = trustme.CA()
    ca.cert_pem.write_to_path(directory / "ca.pem")
    names = ("www.example.org", "127.0.0.1", "::1")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for file, cert in (
        ("server.pem", ca.issue_cert(*names)),
        ("expired.pem", ca.issue_cert(*names, not_after=yesterday)),
    ):
        cert.private_key_and_cert_chain_pem.write_to_path(directory / file)


def start(program, directory):
    v6 = has_v6()
    ports = [free_port() for _ in range(3)]
    names = dict(zip(("http", "https", "expired"), ports, strict=True))
    locations = LOCATIONS.replace("{dir}", str(directory))
    locations = locations.replace("$server_addr_port", "$server_addr:$server_port")
    text = CONFIG.format(dir=directory, v6="" if v6 else "#", locations=locations, **names)
    config = directory / "nginx.conf"
    config.write_text(text)
    process = subprocess.Popen(
        [program, "-p", directory, "-e", directory / "error.log", "-c", config],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(OSError):
            for port in ports:
                socket.create_connection(("127.0.0.1", port), 1).close()
            return process, Nginx(*ports, ca_file=str(directory / "ca.pem"), v6=v6)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    return None
