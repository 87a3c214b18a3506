"""The real servers, each started once for both judges."""

import contextlib
import tempfile
from pathlib import Path

import pytest

from tests.judges.bed import Bed, Server
from tests.servers import kit
from tests.servers.dovecot import dovecot
from tests.servers.inn import inn
from tests.servers.kit import certificates
from tests.servers.knot import knot_server
from tests.servers.mariadb import mariadb, mariadb_files, wary_mariadb
from tests.servers.nginx import nginx
from tests.servers.postfix import postfix
from tests.servers.postgres import postgres
from tests.servers.slapd import serving, slapd
from tests.servers.vsftpd import vsftpd

__all__ = [
    "certificates",
    "dovecot",
    "inn",
    "knot_server",
    "mariadb",
    "mariadb_files",
    "nginx",
    "postfix",
    "postgres",
    "slapd",
    "vsftpd",
    "wary_mariadb",
]

SERVERS = (
    *("nginx", "postfix", "dovecot", "vsftpd", "inn", "slapd", "closed_slapd", "mariadb"),
    *("wary_mariadb", "postgres", "knot", "redis", "locked_redis"),
)


@contextlib.contextmanager
def serving_redis(directory, *options):
    port = kit.free_port()
    command = [kit.find_program("redis-server"), "--port", port, "--bind", "127.0.0.1"]
    command += ["--dir", directory, "--save", "", "--appendonly", "no", *options]
    with kit.running(command, lambda: kit.accepts(port), log=directory / "log") as process:
        yield Server(port, process)


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    with serving_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def locked_redis(tmp_path_factory):
    """One that wants a password."""
    directory = tmp_path_factory.mktemp("locked-redis")
    with serving_redis(directory, "--requirepass", "sesame") as server:
        yield server


@pytest.fixture(scope="session")
def closed_slapd(tmp_path_factory, certificates):
    """One that refuses anonymous binds."""
    directory = tmp_path_factory.mktemp("closed-slapd")
    with serving(directory, certificates, extra="disallow bind_anon\nrequire authc") as server:
        yield server


@pytest.fixture(scope="session")
def bed(request):
    """All servers; those that cannot be had are named with the reason."""
    found, missing = {}, {}
    with (
        tempfile.TemporaryDirectory(prefix="lbhealth-judges-", ignore_cleanup_errors=True) as place,
        pytest.MonkeyPatch.context() as patch,
    ):
        # A starting MariaDB removes all temporary tables there, those of others included.
        Path(place).chmod(0o1777)
        patch.setenv("TMPDIR", place)
        for name in SERVERS:
            try:
                found[name] = request.getfixturevalue(name)
            except pytest.skip.Exception as reason:
                missing[name] = str(reason)
        patch.undo()
        yield Bed(found, missing)
