"""A real Dovecot (IMAP and POP3) in a private directory, on free ports, for one test session."""

import contextlib
import os
import pwd
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from lbhealth.model import Target
from tests.servers import kit

USER = "hc"
PASSWORD = 'se"cr\\et 1'
UMLAUT = "pässwort"
SERVICES = ("imap", "imaps", "pop3", "pop3s")
EXPIRED, WRONG_NAME = "127.0.0.2", "127.0.0.3"

CONFIG = """
protocols = imap pop3
base_dir = {dir}/run
state_dir = {dir}/run
log_path = {dir}/dovecot.log
listen = {listen}
ssl = yes
ssl_cert = <{certs.good_cert}
ssl_key = <{certs.good_key}
disable_plaintext_auth = {strict}
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
mail_max_userip_connections = {connections}
first_valid_uid = 1
mail_location = maildir:{dir}/mail/%u
passdb {{
  driver = passwd-file
  args = {dir}/passwd
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={dir}/mail/%u
}}
service imap-login {{
  service_count = 0
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  service_count = 0
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
service stats {{
  chroot =
}}
service anvil {{
  # No waiting time for an address from which a wrong password came.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
local 127.0.0.2 {{
  ssl_cert = <{certs.expired}
  ssl_key = <{certs.expired}
}}
local 127.0.0.3 {{
  ssl_cert = <{certs.wrong_name}
  ssl_key = <{certs.wrong_name}
}}
"""


@dataclass(frozen=True)
class Dovecot:
    """The ports; at the addresses EXPIRED and WRONG_NAME the certificate is bad."""

    imap: int
    imaps: int
    pop3: int
    pop3s: int
    process: subprocess.Popen[bytes]

    def target(self, service, address="127.0.0.1", **settings):
        if ":" in address and not kit.has_v6():
            pytest.skip("this host has no IPv6 loopback")
        return Target(address, getattr(self, service), **settings)


@contextlib.contextmanager
def instance(certificates, *, strict=False):
    program = kit.find_program("dovecot")
    if os.geteuid() != 0:
        pytest.skip("dovecot must be started by root")
    # Not below pytest's own directory, which other users may not enter.
    with tempfile.TemporaryDirectory(prefix="lbhealth-dovecot-", ignore_cleanup_errors=True) as d:
        Path(d).chmod(0o755)
        with serve(program, Path(d), certificates, strict) as server:
            yield server


@contextlib.contextmanager
def serve(program, directory, certificates, strict):
    nobody = pwd.getpwnam("nobody")
    (directory / "mail").mkdir()
    os.chown(directory / "mail", nobody.pw_uid, nobody.pw_gid)
    users = f"{USER}:{{PLAIN}}{PASSWORD}::::::\numlaut:{{PLAIN}}{UMLAUT}::::::\n"
    (directory / "passwd").write_text(users)
    ports = {service: kit.free_port() for service in SERVICES}
    config = directory / "dovecot.conf"
    text = CONFIG.format(
        dir=directory,
        listen=", ".join(["127.0.0.1", EXPIRED, WRONG_NAME] + ["::1"] * kit.has_v6()),
        certs=certificates,
        strict="yes" if strict else "no",
        mechanisms="plain login apop" if strict else "plain login",
        connections=1 if strict else 500,
        **ports,
    )
    config.write_text(text)

    def ready():
        return all(map(kit.accepts, ports.values()))

    log = directory / "dovecot.log"
    with kit.running([program, "-F", "-c", config], ready, log=log) as process:
        yield Dovecot(**ports, process=process)


@pytest.fixture(scope="session")
def dovecot(certificates):
    """Takes passwords over plain connections, and knows no APOP."""
    with instance(certificates) as server:
        yield server


@pytest.fixture(scope="session")
def strict_dovecot(certificates):
    """Knows APOP, takes no passwords over plain connections from afar, one session a user."""
    with instance(certificates, strict=True) as server:
        yield server
