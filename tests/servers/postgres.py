"""Real PostgreSQL servers in private directories, on free ports, as an unprivileged user."""

import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from lbhealth.model import Target
from tests.servers import kit, unprivileged

LOGIN, PASSWORD, DATABASE = "watch", "sésame; s3cret", "postgres"


@dataclass(frozen=True)
class Postgres:
    port: int
    process: subprocess.Popen[bytes]

    def target(self, address="127.0.0.1", server_name=None):
        if ":" in address and not kit.has_v6():
            pytest.skip("this host has no IPv6 loopback")
        return Target(address, self.port, server_name=server_name)


def program(name):
    """Debian keeps the programs of each version in a directory of their own."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name, path=os.pathsep.join(map(str, versions)))
    return found or kit.find_program(name)


@contextlib.contextmanager
def serving(certificate: Path | None):
    """A server whose login is by SCRAM; with TLS when there is a certificate and key (PEM)."""
    owner = unprivileged.account("postgres")
    with unprivileged.directory(owner) as directory, started(directory, owner, certificate) as it:
        yield it


@contextlib.contextmanager
def started(directory, owner, certificate):
    who = {}
    if os.geteuid() == 0:
        who = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    secret = directory / "password"
    secret.write_text(PASSWORD + "\n")
    unprivileged.give(secret, owner, 0o600)
    options = ["-A", "scram-sha-256", "--pwfile", secret, "-N", "-E", "UTF8", "--no-locale"]
    subprocess.run(
        [program("initdb"), "-D", directory / "data", "-U", LOGIN, *options],
        check=True,
        capture_output=True,
        timeout=60,
        cwd=directory,
        **who,
    )
    port = kit.free_port()
    settings = ["fsync=off", "shared_buffers=16MB", "max_connections=10"]
    settings += ["superuser_reserved_connections=0"]
    addresses = "127.0.0.1,::1" if kit.has_v6() else "127.0.0.1"
    settings += [f"listen_addresses={addresses}", "unix_socket_directories="]
    if certificate:
        pem = directory / "server.pem"  # it wants a key that is its own and nobody else's
        shutil.copy(certificate, pem)
        unprivileged.give(pem, owner, 0o600)
        settings += ["ssl=on", f"ssl_cert_file={pem}", f"ssl_key_file={pem}"]
    command = [program("postgres"), "-D", directory / "data", "-p", str(port)]
    for setting in settings:
        command += ["-c", setting]
    log = directory / "log"
    ready = lambda: b"ready to accept connections" in log.read_bytes()  # noqa: E731
    with kit.running(command, ready, log=log, cwd=directory, **who) as process:
        try:
            yield Postgres(port, process)
        finally:
            # Each backend is a session of its own; the server ends them all at SIGINT.
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


@pytest.fixture(scope="session")
def postgres(certificates):
    """With TLS on offer."""
    with serving(certificates.good) as server:
        yield server


@pytest.fixture(scope="session")
def plain_postgres():
    """Without TLS."""
    with serving(None) as server:
        yield server


@pytest.fixture(scope="session")
def expired_postgres(certificates):
    """With a certificate that has expired."""
    with serving(certificates.expired) as server:
        yield server
