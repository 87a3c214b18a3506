"""A real OpenLDAP server in a private directory, on free ports, for one test session."""

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from lbhealth.model import Target
from tests.servers import kit

BASE = "dc=example,dc=org"
LOGIN = f"uid=watch,{BASE}"
PASSWORD = "sésame; s3cret"

CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {dir}/pid
argsfile {dir}/args
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {certs.ca}
TLSCertificateFile {cert}
TLSCertificateKeyFile {key}
{extra}
database mdb
maxsize 10485760
suffix {base}
rootdn cn=admin,{base}
directory {dir}/db
access to attrs=userPassword by anonymous auth by * none
access to dn.base="{base}" by * read
access to * by users read
"""

ENTRIES = f"""
dn: {BASE}
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: {LOGIN}
objectClass: inetOrgPerson
uid: watch
cn: watch
sn: watch
userPassword: {PASSWORD}
"""


@dataclass(frozen=True)
class Slapd:
    ldap: int
    ldaps: int
    process: subprocess.Popen[bytes]

    def target(self, port, address="127.0.0.1", server_name=None):
        if ":" in address and not kit.has_v6():
            pytest.skip("this host has no IPv6 loopback")
        return Target(address, port, server_name=server_name)


@contextlib.contextmanager
def serving(directory: Path, certificates, cert=None, key=None, extra=""):
    """A server with its own database; `extra` are lines of global configuration."""
    program, add = kit.find_program("slapd"), kit.find_program("slapadd")
    if os.access("/etc/ldap/schema/core.schema", os.R_OK) is False:
        pytest.skip("the schemas of slapd are not installed")
    (directory / "db").mkdir()
    config, entries = directory / "slapd.conf", directory / "entries.ldif"
    config.write_text(
        CONFIG.format(
            dir=directory,
            base=BASE,
            certs=certificates,
            cert=cert or certificates.good_cert,
            key=key or certificates.good_key,
            extra=extra,
        )
    )
    entries.write_text(ENTRIES)
    subprocess.run([add, "-q", "-f", config, "-l", entries], check=True, timeout=30)
    ports = [kit.free_port(), kit.free_port()]
    hosts = ["127.0.0.1", "[::1]"] if kit.has_v6() else ["127.0.0.1"]
    urls = " ".join(
        f"{scheme}://{host}:{port}/"
        for scheme, port in zip(("ldap", "ldaps"), ports, strict=True)
        for host in hosts
    )
    with kit.running(
        [program, "-d", "0", "-f", config, "-h", urls],
        lambda: all(kit.accepts(port) for port in ports),
        log=directory / "log",
    ) as process:
        yield Slapd(*ports, process)


@pytest.fixture(scope="session")
def slapd(tmp_path_factory, certificates):
    with serving(tmp_path_factory.mktemp("slapd"), certificates) as server:
        yield server


@pytest.fixture
def strict_slapd(tmp_path, certificates):
    """One that refuses anonymous binds and has an expired certificate."""
    pem = certificates.expired
    extra = "disallow bind_anon\nrequire authc"
    with serving(tmp_path, certificates, cert=pem, key=pem, extra=extra) as server:
        yield server
