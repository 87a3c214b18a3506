"""Real MariaDB servers in private directories, on free ports, run as an unprivileged user."""

import contextlib
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from lbhealth.model import Target
from tests.servers import kit, unprivileged

LOGIN, PASSWORD, DATABASE = "watch", "sésame; s3cret", "shop"
SMALL = [
    "--innodb-buffer-pool-size=8M",
    "--innodb-log-file-size=4M",
    "--innodb-use-native-aio=0",
]
ACCOUNTS = f"""
create database if not exists {DATABASE};
create table if not exists {DATABASE}.item (id int, name varchar(20));
insert into {DATABASE}.item values (7, 'seven');
create user if not exists '{LOGIN}'@'127.0.0.1' identified by '{PASSWORD}';
create user if not exists '{LOGIN}'@'::1' identified by '{PASSWORD}';
create user if not exists 'open'@'127.0.0.%' identified by '';
grant select on {DATABASE}.* to '{LOGIN}'@'127.0.0.1', '{LOGIN}'@'::1';
"""


@dataclass(frozen=True)
class MariaDb:
    port: int
    process: subprocess.Popen[bytes]

    def target(self, address="127.0.0.1", server_name=None, source=None):
        if ":" in address and not kit.has_v6():
            pytest.skip("this host has no IPv6 loopback")
        return Target(address, self.port, server_name=server_name, source=source)


@pytest.fixture(scope="session")
def mariadb_files():
    """A data directory as it is before the first start; copied for each server."""
    install = kit.find_program("mariadb-install-db")
    owner = unprivileged.account("mysql")
    with unprivileged.directory(owner) as directory:
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", *SMALL]
        done = subprocess.run(
            [
                *(install, "--no-defaults", f"--user={owner.pw_name}"),
                *(f"--datadir={directory}/data", f"--tmpdir={directory}", *options),
            ],
            env={**os.environ, "TMPDIR": str(directory)},
            capture_output=True,
            timeout=90,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:].decode()
        yield directory / "data"


@contextlib.contextmanager
def serving(files: Path, *options, pair=None, ca=None):
    """A server with a database of its own; TLS with `pair` (certificate, key) and `ca`."""
    program, owner = kit.find_program("mariadbd"), unprivileged.account("mysql")
    with unprivileged.directory(owner) as directory:
        shutil.copytree(files, directory / "data", copy_function=shutil.copy)
        for path in (directory / "data", *(directory / "data").rglob("*")):
            unprivileged.give(path, owner, 0o700 if path.is_dir() else 0o600)
        if pair:
            for name, source in zip(("cert", "key", "ca"), (*pair, ca), strict=True):
                shutil.copy(source, directory / name)
                unprivileged.give(directory / name, owner, 0o600)
                options = (*options, f"--ssl-{name}={directory}/{name}")
        with started(program, owner, directory, options) as server:
            yield server


@contextlib.contextmanager
def started(program, owner, directory, options):
    init = directory / "init.sql"  # one statement a line
    init.write_text(ACCOUNTS)
    unprivileged.give(init, owner, 0o600)
    port = kit.free_port()
    addresses = "127.0.0.1,::1" if kit.has_v6() else "127.0.0.1"
    # A tmpdir of its own: a server that starts clears the tables of others out of a shared one.
    command = [
        *(
            program,
            "--no-defaults",
            f"--tmpdir={directory}",
            f"--user={owner.pw_name}",
            f"--datadir={directory}/data",
        ),
        *("--socket=s", f"--pid-file={directory}/pid", f"--init-file={init}"),
        *(f"--port={port}", f"--bind-address={addresses}", "--performance-schema=OFF"),
        *("--skip-log-bin", "--innodb-flush-log-at-trx-commit=0", *SMALL, *options),
    ]
    log = directory / "log"
    ready = lambda: b"ready for connections" in log.read_bytes()  # noqa: E731
    with kit.running(command, ready, log=log) as process:
        yield MariaDb(port, process)


@pytest.fixture(scope="session")
def mariadb(mariadb_files, certificates):
    """With TLS on offer, and without the host cache."""
    pair = (certificates.good_cert, certificates.good_key)
    options = ["--skip-name-resolve", "--max-connections=200"]
    with serving(mariadb_files, *options, pair=pair, ca=certificates.ca) as server:
        yield server


@pytest.fixture(scope="session")
def wary_mariadb(mariadb_files):
    """Without TLS; one interrupted handshake blocks a host; ten connections at most."""
    with serving(mariadb_files, "--max-connect-errors=1", "--max-connections=10") as server:
        yield server


@pytest.fixture(scope="session")
def expired_mariadb(mariadb_files, certificates):
    """With a certificate that has expired."""
    pair = (certificates.expired, certificates.expired)
    with serving(mariadb_files, "--skip-name-resolve", pair=pair, ca=certificates.ca) as server:
        yield server


def say(port, source, data):
    """What the server sends first to `source`, which then sends `data` and goes."""
    with socket.socket() as sock:
        sock.settimeout(5)
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", port))
        first = sock.recv(1000)
        if data and first[4:5] == b"\x0a":
            sock.sendall(data)
            with contextlib.suppress(OSError):
                first += b" -> " + sock.recv(1000)
        return first
