"""The act of the demo: three web servers, one virtual service, one director.

One server breaks and is mended, one is drained by its operator, then all fail and the
fallback serves.  After each step the kernel's table and the reasons are shown, and with a real
kernel a client shows who answers behind the virtual address.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

LBHEALTH = [sys.executable, "-m", "lbhealth"]
CONFIG = """\
# The kind of file that ldirectord reads.
checktimeout=1
negotiatetimeout=1
checkinterval=1
quiescent=yes

virtual={vip}:{port}
\treal={servers[0].address} masq 3
\treal={servers[1].address} masq 2
\treal={servers[2].address} masq 1
\tfallback={fallback.address} masq
\tservice=http
\tscheduler=wrr
\trequest="/health"
\treceive="all is well"
"""


class Server:
    """A real HTTP server whose health can be broken and mended."""

    def __init__(self, name: str, address: str, port: int) -> None:
        self.name = name
        self.healthy = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                health = self.path == "/health"
                status = 200 if server.healthy or not health else 503
                text = ("all is well" if server.healthy else "disk full") if health else server.name
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Be silent."""

        self._listener = ThreadingHTTPServer((address, port), Handler)
        self.address = "{}:{}".format(*self._listener.server_address)
        Thread(target=self._listener.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening: connections are refused from now on."""
        self._listener.shutdown()
        self._listener.server_close()


class Show:
    """What the demo prints, and the director it looks at."""

    def __init__(self, driver: str, api: str, virtual: str) -> None:
        self._driver = driver
        self._api = api
        self._virtual = virtual

    def step(self, title: str, until: Callable[[list[dict]], bool]) -> None:
        """Wait until the director's view is as expected, then show it."""
        begun = time.monotonic()
        print(f"\n== {title}", flush=True)
        while not until(self._servers()):
            if time.monotonic() - begun > 30:
                raise SystemExit("demo: the director did not come to the expected decision")
            time.sleep(0.1)
        print(f"   (decided after {time.monotonic() - begun:.1f} s)\n", flush=True)
        subprocess.run([*LBHEALTH, "status", "--api", self._api], check=True)
        if self._driver == "ipvs":
            self._show_kernel()
        time.sleep(1)

    def _show_kernel(self) -> None:
        print("\n   the kernel says (ipvsadm -Ln):", flush=True)
        table = subprocess.run(["ipvsadm", "-Ln"], capture_output=True, text=True, check=True)
        print("\n".join("   | " + line for line in table.stdout.splitlines()[1:]))
        answers = collections.Counter(self._ask() for _ in range(12))
        shares = ", ".join(f"{name} {count}" for name, count in sorted(answers.items()))
        print(f"   12 requests to the virtual address were answered by: {shares}", flush=True)

    def _ask(self) -> str:
        try:
            with urllib.request.urlopen(f"http://{self._virtual}/", timeout=3) as answer:
                return answer.read().decode()
        except OSError as error:
            return f"nobody ({error})"

    def _servers(self) -> list[dict]:
        answer = subprocess.run(
            [*LBHEALTH, "status", "--json", "--api", self._api],
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            return []
        return json.loads(answer.stdout)["services"][0]["real"]


def applied(*weights: int | None) -> Callable[[list[dict]], bool]:
    """Whether exactly these weights are in the kernel's table."""

    def settled(servers: list[dict]) -> bool:
        return [server["weight"]["applied"] for server in servers] == list(weights)

    return settled


def play(show: Show, servers: Sequence[Server], api: str) -> None:
    """Break and mend."""
    show.step("Three healthy servers: weights as configured", applied(3, 2, 1))

    servers[1].healthy = False
    show.step("web2 answers 503: no new connections for it", applied(3, 0, 1))

    servers[1].healthy = True
    show.step("web2 is mended", applied(3, 2, 1))

    order = ["drain", servers[2].address, "--reason", "new disk", "--until", "1h", "--api", api]
    subprocess.run([*LBHEALTH, *order], check=True)
    show.step("the operator drains web3", applied(3, 2, 0))

    for server in servers[:2]:
        server.close()
    show.step("web1 and web2 die, web3 is still drained: the fallback serves", applied(0, 0, 0))

    subprocess.run([*LBHEALTH, "online", servers[2].address, "--api", api], check=True)
    show.step("web3 comes back online: the fallback stands by", applied(0, 0, 1))


def main() -> int:
    """Set the stage, play, clean up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--driver", default="memory")
    driver = parser.parse_args().driver
    vip, hosts, port = "192.0.2.10", ["127.0.0.1"] * 4, 0
    if driver == "ipvs":
        # IPVS balances for local clients too, but not to loopback addresses.
        hosts, port = [f"10.9.1.{n}" for n in (1, 2, 3, 9)], 80
        for address in (vip, *hosts):
            subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    servers = [Server(f"web{n}", host, port) for n, host in enumerate(hosts[:3], 1)]
    fallback = Server("fallback", hosts[3], port)
    with tempfile.TemporaryDirectory(prefix="lbhealth-demo.") as directory:
        config = Path(directory, "demo.cf")
        text = CONFIG.format(vip=vip, port=80, servers=servers, fallback=fallback)
        config.write_text(text)
        print("\n".join("   " + line for line in text.expandtabs(4).splitlines()))
        api = f"unix:{directory}/api.sock"
        print(f"\n$ lbhealth run demo.cf --driver {driver}", flush=True)
        director = subprocess.Popen(
            [*LBHEALTH, "run", str(config), "--driver", driver, "--api", api],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            play(Show(driver, api, f"{vip}:80"), servers, api)
        finally:
            director.terminate()
            status = director.wait(10)
    print(f"\nThe director has ended with exit status {status}.")
    return status


if __name__ == "__main__":
    sys.exit(main())
