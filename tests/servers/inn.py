"""A real news server (INN: innd and its nnrpd) in a private directory, on free ports."""

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

USER, PASSWORD, GROUP = "hc", "sesame street", "test.health"

PLACES = ("/usr/lib/news", "/opt/inn2/usr/lib/news")
"""Installed, or unpacked only: the package's set-up fails on a host without a domain."""

INN_CONF = """
mta: "/bin/true %s"
organization: t
ovmethod: tradindexed
hismethod: hisv6
pathhost: news.test
domain: news.test
fromhost: news.test
runasuser: news
runasgroup: news
enableoverview: true
wireformat: true
pathnews: {news}
pathbin: {news}/bin
pathetc: {dir}/etc
pathdb: {dir}/db
pathrun: {dir}/run
pathlog: {dir}/log
pathtmp: {dir}/tmp
pathspool: {dir}/spool
patharticles: {dir}/spool/articles
pathoverview: {dir}/spool/overview
pathincoming: {dir}/spool/incoming
pathoutgoing: {dir}/spool/outgoing
patharchive: {dir}/spool/archive
pathfilter: {dir}/db/filter
pathhttp: {dir}/http
port: {port}
bindaddress: "127.0.0.1"
bindaddress6: "{v6}"
tlscafile: {dir}/etc/ca
tlscertfile: {dir}/etc/good_cert
tlskeyfile: {dir}/etc/good_key
status: 0
"""

READERS = """
auth all {{
  hosts: "*"
  auth: "ckpasswd -f {dir}/etc/pw"
  default: "<anon>"
}}
access all {{
  users: "*"
  newsgroups: "*"
}}
access anon {{
  users: "<anon>"
  newsgroups: "test.health"
  access: R
}}
"""

FILES = {
    "etc/incoming.conf": "streaming: true\nmax-connections: 50\n",
    "etc/newsfeeds": "ME:*::\n",
    "etc/storage.conf": "method tradspool {\n  newsgroups: *\n  class: 0\n}\n",
    "etc/expire.ctl": "/remember/:10\n*:A:1:10:never\n",
    "etc/control.ctl": "all:*:*:drop\n",
    "etc/nocem.ctl": "",
    "etc/moderators": "",
    "db/newsgroups": f"{GROUP}\tx\n",
    "db/active.times": "",
    "db/history": "",
    "db/active": "".join(
        f"{name} 0000000000 0000000001 {flag}\n"
        for name, flag in [("control", "n"), ("control.cancel", "n"), ("junk", "n"), (GROUP, "y")]
    ),
}
FOLDERS = (
    *("etc", "run", "log", "tmp", "http", "db/filter"),
    *(f"spool/{name}" for name in ("articles", "overview", "incoming/bad", "outgoing", "archive")),
)


@dataclass(frozen=True)
class Inn:
    port: int
    process: subprocess.Popen[bytes]

    def target(self, address="127.0.0.1", **settings):
        if ":" in address and not kit.has_v6():
            pytest.skip("this host has no IPv6 loopback")
        return Target(address, self.port, **settings)


@pytest.fixture(scope="session")
def inn(certificates):
    """innd, which gives readers to nnrpd: anonymous ones may read one group."""
    news = find_news()
    # Not below pytest's own directory, which other users may not enter.
    with tempfile.TemporaryDirectory(prefix="lbhealth-inn-", ignore_cleanup_errors=True) as place:
        directory = Path(place)
        directory.chmod(0o755)
        port = kit.free_port()
        write_files(directory, news, port, certificates)
        with serve(directory, news, port) as server:
            yield server


@contextlib.contextmanager
def serve(directory, news, port):
    environment = {
        **os.environ,
        "INNCONF": str(directory / "etc/inn.conf"),
        "LD_LIBRARY_PATH": news,
        "HOME": str(directory),
    }
    account = pwd.getpwnam("news")
    become = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    for command in (["makedbz", "-i", "-o"], ["overchan"]):  # empty history and overview
        subprocess.run(
            [*become, f"{news}/bin/{command[0]}", *command[1:]],
            cwd=directory / "db",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
        )
    command = [*become, f"{news}/bin/innd", "-f", "-N", "-P", str(port)]
    log = directory / "innd.out"
    with kit.running(
        command, lambda: kit.accepts(port), log=log, env=environment, cwd=directory
    ) as process:
        yield Inn(port, process)
        # innd looks at the signal only once it has something to do.
        process.terminate()
        kit.accepts(port)


def find_news():
    if os.geteuid() != 0:
        pytest.skip("innd is started by root as the user news")
    for place in PLACES:
        if Path(place, "bin/innd").exists():
            return place
    pytest.skip("innd is not there: apt-get download inn2; dpkg-deb -x inn2_*.deb /opt/inn2")


def write_files(directory, news, port, certificates):
    for name in FOLDERS:
        (directory / name).mkdir(parents=True)
    for name, text in FILES.items():
        (directory / name).write_text(text)
    for name in ("ca", "good_cert", "good_key"):
        (directory / "etc" / name).write_bytes(getattr(certificates, name).read_bytes())
    v6 = "::1" if kit.has_v6() else "none"
    conf = INN_CONF.format(dir=directory, news=news, port=port, v6=v6)
    (directory / "etc/inn.conf").write_text(conf)
    (directory / "etc/readers.conf").write_text(READERS.format(dir=directory))
    openssl = ["openssl", "passwd", "-1", PASSWORD]
    crypted = subprocess.run(openssl, capture_output=True, text=True, check=True).stdout
    (directory / "etc/pw").write_text(f"{USER}:{crypted}")
    account = pwd.getpwnam("news")
    for file in (directory, *directory.rglob("*")):
        os.chown(file, account.pw_uid, account.pw_gid)
    (directory / "etc/good_key").chmod(0o600)  # nnrpd insists
