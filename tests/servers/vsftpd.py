"""A real vsftpd: guests, a user with a password, TLS of every kind; on loopback only."""

import glob
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from lbhealth.model import Target
from tests.servers.kit import accepts, find_program, free_port, has_v6, running

CONTENT = b"state: ready\n"
BIG = 3 * 1024 * 1024
"""Bytes of the large file; its last line is END-OF-BIG."""

LOGIN, PASSWORD = "health", "secret"
_PASSWORDS = "health:$1$lbhealth$rhG2SoUs8QQ6wOhhUrtQ/1\n"

CONFIG = """\
listen={v4}
listen_ipv6={v6}
{listen}
listen_port={port}
background=NO
anonymous_enable=YES
local_enable=YES
guest_enable=YES
guest_username=ftp
ftp_username=ftp
virtual_use_local_privs=NO
anon_world_readable_only=NO
chroot_local_user=YES
anon_root={dir}/pub
local_root={dir}/pub
pam_service_name=vsftpd
secure_chroot_dir={dir}/empty
nopriv_user=nobody
seccomp_sandbox=NO
connect_from_port_20=NO
xferlog_enable=NO
delay_failed_login=0
max_per_ip=0
banner_file={dir}/banner
ssl_enable=YES
allow_anon_ssl=YES
force_local_logins_ssl=NO
force_local_data_ssl=NO
rsa_cert_file={cert}
rsa_private_key_file={cert}
{more}
"""


@dataclass(frozen=True)
class Vsftpd:
    ports: dict
    process: subprocess.Popen
    ca_file: str

    def target(self, name="plain", address="127.0.0.1", server_name=None):
        if ":" in address:
            if "v6" not in self.ports:
                pytest.skip("this host has no IPv6 loopback")
            return Target(address, self.ports["v6"], server_name=server_name)
        return Target(address, self.ports[name], server_name=server_name)


@pytest.fixture(scope="session")
def vsftpd(certificates):
    program = find_program("vsftpd")
    if os.geteuid() != 0:
        pytest.skip("vsftpd has to be started by root")
    if not glob.glob("/lib/*/security/pam_pwdfile.so"):
        pytest.skip("libpam-pwdfile is not installed")
    with tempfile.TemporaryDirectory(prefix="vsftpd-") as name:  # pytest's are private
        directory = Path(name)
        directory.chmod(0o755)
        write_files(directory)
        ports, configs = write_configs(directory, certificates)
        # Its own /etc/pam.d, in a mount namespace of its own.
        script = f"mount --bind {directory}/pam.d /etc/pam.d\n"
        script += "".join(f"{program} {config} &\n" for config in configs)
        command = ["unshare", "-m", "--propagation", "private", "sh", "-ec", script + "wait"]

        def ready():
            return all(accepts(p, "::1" if n == "v6" else "127.0.0.1") for n, p in ports.items())

        with running(command, ready, log=directory / "log") as process:
            yield Vsftpd(ports, process, str(certificates.ca))


def write_files(directory):
    pub = directory / "pub"
    for folder in (pub, directory / "empty", directory / "pam.d"):
        folder.mkdir(mode=0o755)
    (pub / "status.txt").write_bytes(CONTENT)
    (pub / "empty.txt").write_bytes(b"")
    (pub / "a b é.txt").write_bytes(CONTENT)
    (pub / "big").write_bytes(b"x" * (BIG - 11) + b"END-OF-BIG\n")
    shutil.copy(pub / "status.txt", pub / "secret.txt")
    (pub / "secret.txt").chmod(0o600)
    pub.chmod(0o555)  # vsftpd refuses a writable root
    (directory / "banner").write_text("Welcome.\n220 is my favourite number\n\nBe good.\n")
    (directory / "pw").write_text(_PASSWORDS)
    (directory / "pam.d" / "vsftpd").write_text(
        f"auth required pam_pwdfile.so nodelay pwdfile={directory}/pw\n"
        "account required pam_permit.so\nsession required pam_permit.so\n"
    )


def write_configs(directory, certificates):
    variants = {
        "plain": (certificates.good, ""),
        "implicit": (certificates.good, "implicit_ssl=YES"),
        "expired": (certificates.expired, "implicit_ssl=YES"),
        "wrong_name": (certificates.wrong_name, ""),
        "no_tls": (certificates.good, "ssl_enable=NO"),
        "full": (certificates.good, "max_clients=1"),
        "no_epsv": (certificates.good, "cmds_denied=EPSV"),
    }
    if has_v6():
        variants["v6"] = (certificates.good, "")
    ports, configs = {}, []
    for name, (cert, more) in variants.items():
        ports[name] = free_port()
        v6 = name == "v6"
        config = directory / f"{name}.conf"
        config.write_text(
            CONFIG.format(
                dir=directory,
                cert=cert,
                more=more,
                port=ports[name],
                v4="NO" if v6 else "YES",
                v6="YES" if v6 else "NO",
                listen="listen_address6=::1" if v6 else "listen_address=127.0.0.1",
            )
        )
        configs.append(config)
    return ports, configs
