"""A real Postfix with a queue of its own, and Dovecot to know its users; on loopback only."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from lbhealth.model import Target
from tests.servers.kit import accepts, find_program, free_port, has_v6, running

LOGIN, PASSWORD = "health", "geheim-ü 1"

MAIN = """\
compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.test
mydestination = mail.test
mynetworks = 192.0.2.0/32
inet_interfaces = {addresses}
inet_protocols = {families}
alias_maps =
local_recipient_maps =
default_transport = error
local_transport = error
smtpd_peername_lookup = no
smtpd_banner = $myhostname ESMTP ready
smtpd_error_sleep_time = 0
smtpd_helo_required = yes
smtpd_client_connection_count_limit = 0
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_chain_files = {certs.good}
smtpd_tls_security_level = may
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
maillog_file = {dir}/mail.log
maillog_file_prefixes = {dir}
"""

SERVICES = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
error unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
"""

OPTIONS = {
    "smtp": "",
    "submission": "-o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes",
    "open_auth": "-o smtpd_sasl_auth_enable=yes",
    "smtps": "-o smtpd_tls_wrappermode=yes -o smtpd_sasl_auth_enable=yes",
    "expired": "-o smtpd_tls_wrappermode=yes -o smtpd_tls_chain_files={certs.expired}",
    "wrong_name": "-o smtpd_tls_chain_files={certs.wrong_name}",
    "no_tls": "-o smtpd_tls_security_level=none",
    "reject": "-o smtpd_client_restrictions=reject -o smtpd_delay_reject=no",
    "helo": "-o smtpd_discard_ehlo_keywords=starttls "
    "-o smtpd_helo_restrictions=reject_non_fqdn_helo_hostname -o smtpd_delay_reject=no",
    "one": "-o smtpd_client_connection_count_limit=1",
}

DOVECOT = """\
protocols =
base_dir = {dir}/dovecot
state_dir = {dir}/dovecot
log_path = {dir}/dovecot.log
ssl = no
auth_mechanisms = plain login cram-md5
auth_failure_delay = 0
disable_plaintext_auth = no
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {dir}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  unix_listener {dir}/queue/private/auth {{
    mode = 0666
  }}
}}
"""


@dataclass(frozen=True)
class Postfix:
    ports: dict
    process: subprocess.Popen
    ca_file: str
    v6: bool

    def target(self, name="smtp", address="127.0.0.1", server_name=None):
        if ":" in address and not self.v6:
            pytest.skip("this host has no IPv6 loopback")
        return Target(address, self.ports[name], server_name=server_name)


@pytest.fixture(scope="session")
def postfix(certificates):
    find_program("postconf")
    find_program("dovecot")
    if os.geteuid() != 0:
        pytest.skip("postfix has to be started by root")
    # Short, for Unix sockets, and open to Postfix's own user, unlike pytest's directories.
    with tempfile.TemporaryDirectory(prefix="postfix-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o755)
        ports = {service: free_port() for service in OPTIONS}
        write_files(directory, certificates, ports)
        stack.enter_context(
            running(
                [find_program("dovecot"), "-F", "-c", directory / "dovecot.conf"],
                (directory / "queue/private/auth").exists,
                log=directory / "dovecot.out",
            )
        )
        # master itself stays in the foreground and in our session, "postfix start" does not.
        command = ["/usr/lib/postfix/sbin/master", "-d", "-c", directory / "etc"]
        process = stack.enter_context(
            running(
                command,
                lambda: all(map(accepts, ports.values())),
                log=directory / "postfix.out",
                env={**os.environ, "MAIL_CONFIG": str(directory / "etc")},
            )
        )
        yield Postfix(ports, process, str(certificates.ca), has_v6())


def write_files(directory, certificates, ports):
    v6 = has_v6()
    etc, queue = directory / "etc", directory / "queue"
    for folder in (etc, queue, directory / "data", directory / "dovecot"):
        folder.mkdir()
    shutil.chown(directory / "data", "postfix")
    for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming"):
        (queue / name).mkdir(mode=0o700)
        shutil.chown(queue / name, "postfix")
    for name, mode in (("private", 0o700), ("saved", 0o700), ("trace", 0o700)):
        (queue / name).mkdir(mode=mode)
        shutil.chown(queue / name, "postfix")
    for name, mode in (("maildrop", 0o1730), ("public", 0o2710)):
        (queue / name).mkdir()
        shutil.chown(queue / name, "postfix", "postdrop")
        (queue / name).chmod(mode)
    (queue / "pid").mkdir()
    (etc / "main.cf").write_text(
        MAIN.format(
            dir=directory,
            certs=certificates,
            addresses="127.0.0.1, [::1]" if v6 else "127.0.0.1",
            families="all" if v6 else "ipv4",
        )
    )
    lines = [SERVICES]
    for name, port in ports.items():
        options = OPTIONS[name].format(certs=certificates)
        lines += [
            f"{address}:{port} inet n - n - 100 smtpd {options}\n"
            for address in ("127.0.0.1", "[::1]")[: 1 + v6]
        ]
    (etc / "master.cf").write_text("".join(lines))
    for name in ("main.cf", "master.cf"):
        os.utime(etc / name, (0, 10**9))  # a young file makes every daemon wait and read again
    (directory / "users").write_text(f"{LOGIN}:{PASSWORD}\n")
    (directory / "users").chmod(0o644)
    (directory / "dovecot.conf").write_text(DOVECOT.format(dir=directory))
