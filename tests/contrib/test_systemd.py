"""The systemd unit: understood by systemd, hardened, and true to what lbhealth needs."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "contrib/systemd/lbhealth.service"


def settings():
    """Each setting of the unit with its values in order; a unit may repeat a key."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "exec"),
        ("ExecStart", "/usr/bin/lbhealth run /etc/lbhealth/lbhealth.toml"),
        ("KillMode", "mixed"),
        ("Restart", "on-failure"),
        ("RuntimeDirectory", "lbhealth"),
        ("StateDirectory", "lbhealth"),
        ("AmbientCapabilities", "CAP_NET_ADMIN CAP_NET_RAW"),
        ("CapabilityBoundingSet", "CAP_NET_ADMIN CAP_NET_RAW"),
        ("NoNewPrivileges", "yes"),
        ("Conflicts", "ldirectord.service"),
    ],
)
def test_the_unit_says(key, value):
    assert settings()[key] == [value]


def test_a_reload_is_checked_before_the_director_hears_of_it():
    check, signal = settings()["ExecReload"]
    assert check.startswith("/usr/bin/lbhealth check ")
    assert signal == "/bin/kill -HUP $MAINPID"


def test_netlink_and_the_api_socket_are_allowed():
    families = settings()["RestrictAddressFamilies"][0].split()
    assert {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"} <= set(families)


def test_systemd_understands_every_line(tmp_path):
    """systemd-analyze finds fault with unknown keys, bad values and missing programs."""
    if shutil.which("systemd-analyze") is None:
        sections = [line for line in UNIT.read_text().splitlines() if line.startswith("[")]
        assert sections == ["[Unit]", "[Service]", "[Install]"]
        return
    program = shutil.which("true")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/usr/bin/lbhealth", program))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
