"""Real programs: what they are given, what their end means, and that nothing of them is left."""

import asyncio
import contextlib
import os
import pwd
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lbhealth.checkers import child as child_module
from lbhealth.checkers import external as external_module
from lbhealth.checkers.external import External, ExternalPerl
from lbhealth.engine.runner import run_check
from lbhealth.errors import SettingError
from lbhealth.model import Target
from lbhealth.testing import CheckerContract, ScriptedServer

TARGET = Target("192.0.2.1", 80)
PLUGINS = Path("/usr/lib/nagios/plugins")

root = pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")


class TestContract(CheckerContract):
    speaks_tcp = False
    talks = False

    def checker(self):
        return External("/bin/true", args=("x",))


class TestPerlContract(TestContract):
    def checker(self):
        return ExternalPerl("/tmp/x.pl")


@pytest.fixture
def script(tmp_path):
    """Write an executable file and return its path."""

    def write(text, name="check", mode=0o755, shebang="#!/bin/sh\n"):
        path = tmp_path / name
        path.write_text(shebang + text)
        path.chmod(mode)
        return str(path)

    return write


@pytest.fixture(autouse=True)
def nothing_left():
    """Neither children nor descriptors are left by any test here."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    with contextlib.suppress(ChildProcessError):
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        assert found is None, f"a zombie is left: {found}"
    assert len(os.listdir("/proc/self/fd")) <= before + 3  # the loop's own, made lazily


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def all_gone(pids, seconds=2.0):
    give_up = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < give_up:
        await asyncio.sleep(0.01)
    return not any(map(alive, pids))


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"command": "true"}, "command"),
        ({"command": ""}, "command"),
        ({"command": "/bin/\0"}, "command"),
        ({"command": "/x", "convention": "nagios"}, "convention"),
        ({"command": "/x", "args": ("a\0",)}, "args"),
        ({"command": "/x", "virtual_port": "\0"}, "virtual_port"),
        ({"command": "/x", "user": ""}, "user"),
    ],
)
def test_wrong_settings(settings, field):
    with pytest.raises(SettingError) as caught:
        External(**settings)
    assert caught.value.field == field


def test_args_may_be_secret():
    assert "hunter2" not in repr(External("/x", args=["hunter2"]))


# ---------------------------------------------------------------- what it is given


@pytest.mark.parametrize(
    ("settings", "target", "wanted"),
    [
        ({}, TARGET, "NOT_USED|NOT_USED|192.0.2.1|80"),
        (
            {"virtual_address": "192.0.2.9", "virtual_port": "443", "args": ("a b", "$HOME")},
            TARGET,
            "192.0.2.9|443|192.0.2.1|80|a b|$HOME",
        ),
        ({"virtual_address": "5"}, Target("192.0.2.1", 0), "5|0|192.0.2.1|0"),
        (
            {"virtual_address": "2001:db8::9", "virtual_port": "80"},
            Target("2001:db8::1", 81),
            "[2001:db8::9]|80|[2001:db8::1]|81",
        ),
        (
            {"virtual_address": "[2001:db8::9]", "virtual_port": "80"},
            Target("2001:db8::1", 81),
            "[2001:db8::9]|80|[2001:db8::1]|81",
        ),
    ],
)
@pytest.mark.parametrize("perl", [False, True])
async def test_arguments(settings, target, wanted, script, probe, perl):
    if perl:
        path = script('print join("|", @ARGV), "\\n";', shebang="", mode=0o644)
        checker = ExternalPerl(path, **settings)
    else:
        checker = External(script("IFS='|'; echo \"$*\""), **settings)
    assert await probe(checker, target) == ("PASS", "PROCOK", f"exit status 0: {wanted}")


async def test_environment_and_surroundings(script, probe, monkeypatch):
    monkeypatch.setenv("LBHEALTH_TEST_SECRET", "hunter2")
    path = script(
        "env | sort; pwd; echo stdin=$(readlink /proc/$$/fd/0); ls /proc/$$/fd; "
        "cut -d' ' -f1,5,6 /proc/$$/stat"
    )
    steps = []
    checker = External(path, virtual_address="2001:db8::9", virtual_port="80")
    result = await probe(checker, Target("::1", 25), trace=lambda *step: steps.append(step))
    assert result[0] == "PASS"
    lines = steps[-1][1].decode().splitlines()
    assert "HAPROXY_PROXY_NAME=[2001:db8::9]:80" in lines
    assert "HAPROXY_PROXY_ADDR=2001:db8::9" in lines
    assert "HAPROXY_SERVER_ADDR=::1" in lines
    assert "HAPROXY_SERVER_PORT=25" in lines
    assert "LBHEALTH_SERVER_NAME=" in lines
    assert "LANG=C.UTF-8" in lines
    assert not any("SECRET" in line for line in lines)
    assert "/" in lines
    assert "stdin=/dev/null" in lines
    pid, group, session = lines[-1].split()
    assert pid == group == session


async def test_dialogue_shows_no_args(script, probe):
    steps = []
    checker = External(script("exit 0"), args=("-p", "hunter2"))
    await probe(checker, TARGET, trace=lambda *step: steps.append(step))
    assert "hunter2" not in repr(steps)
    assert steps[0][1].endswith("NOT_USED NOT_USED 192.0.2.1 80 and 2 more")


# ---------------------------------------------------------------- what its end means


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("exit 0", ("PASS", "PROCOK", "exit status 0")),
        ("exit 1", ("FAIL", "PROCERR", "exit status 1")),
        ("exit 255", ("FAIL", "PROCERR", "exit status 255")),
        ("echo; echo good; echo more", ("PASS", "PROCOK", "exit status 0: good")),
        ("echo bad >&2; exit 3", ("FAIL", "PROCERR", "exit status 3: bad")),
        ("echo w >&2; echo o; exit 3", ("FAIL", "PROCERR", "exit status 3: o")),
        ("printf '\\033[31mred\\377'", ("PASS", "PROCOK", "exit status 0: \\x1b[31mred\\xff")),
        ("no-such-program", ("FAIL", "PROCERR", "exit status 127: ")),
        ("kill -SEGV $$", ("ERROR", "SOCKERR", "killed by SIGSEGV")),
        ("echo dying; kill -KILL $$", ("ERROR", "SOCKERR", "killed by SIGKILL: dying")),
        ("exec >&- 2>&-; exit 4", ("FAIL", "PROCERR", "exit status 4")),
        ("cat; exit 5", ("FAIL", "PROCERR", "exit status 5")),
    ],
)
async def test_exit_convention(text, wanted, script, probe):
    verdict, status, detail = await probe(External(script(text)), TARGET)
    assert (verdict, status) == wanted[:2]
    assert detail.startswith(wanted[2]), detail


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("echo 'HTTP OK | time=0.1s'", ("PASS", "PROCOK", "HTTP OK")),
        ("exit 0", ("PASS", "PROCOK", "ok")),
        ("echo slow; exit 1", ("PASS", "PROCOK", "warning: slow")),
        ("echo gone; exit 2", ("FAIL", "PROCERR", "critical: gone")),
        ("echo usage; exit 3", ("ERROR", "SOCKERR", "unknown: usage")),
        ("exit 127", ("ERROR", "SOCKERR", "exit status 127")),
        ("kill -TERM $$", ("ERROR", "SOCKERR", "killed by SIGTERM")),
    ],
)
async def test_monitoring_plugins_convention(text, wanted, script, probe):
    checker = External(script(text), convention="monitoring-plugins")
    assert await probe(checker, TARGET) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("exit 0;", ("PASS", "PROCOK", "exit status 0")),
        ("1;", ("PASS", "PROCOK", "exit status 0")),
        ("return;", ("PASS", "PROCOK", "exit status 0")),
        ("exit 7;", ("FAIL", "PROCERR", "exit status 7")),
        ('die "broken\\n";', ("FAIL", "PROCERR", "exit status 255: broken")),
        ("this is not perl(", ("FAIL", "PROCERR", "exit status 255: ")),
        ("kill 'KILL', $$; sleep 5;", ("ERROR", "SOCKERR", "killed by SIGKILL")),
        ('print $0 =~ /check$/ ? "named" : "no";', ("PASS", "PROCOK", "exit status 0: named")),
    ],
)
async def test_perl(text, wanted, script, probe):
    checker = ExternalPerl(script(text, shebang="", mode=0o600))
    verdict, status, detail = await probe(checker, TARGET)
    assert (verdict, status) == wanted[:2]
    assert detail.startswith(wanted[2]), detail


async def test_a_file_without_shebang_is_for_the_shell(script, probe):
    got = await probe(External(script("echo $1; exit 3\n", shebang="")), TARGET)
    assert got == ("FAIL", "PROCERR", "exit status 3: NOT_USED")


# ---------------------------------------------------------------- what cannot be run


async def test_missing(tmp_path, probe):
    for kind in (External, ExternalPerl):
        got = await probe(kind(str(tmp_path / "no")), TARGET)
        assert got[:2] == ("ERROR", "SOCKERR")
        assert "does not exist" in got[2]


async def test_not_executable(script, probe):
    got = await probe(External(script("exit 0", mode=0o644)), TARGET)
    assert got[0] == "ERROR"
    assert "permission denied" in got[2]


async def test_missing_interpreter(script, probe):
    got = await probe(External(script("", shebang="#!/no/such\n")), TARGET)
    assert got[0] == "ERROR"
    assert "interpreter" in got[2]


async def test_arguments_in_the_command_are_part_of_its_name(probe):
    got = await probe(External("/bin/true arg"), TARGET)
    assert got == ("ERROR", "SOCKERR", "/bin/true arg does not exist")


async def test_a_directory(tmp_path, probe):
    assert (await probe(External(str(tmp_path)), TARGET))[0] == "ERROR"
    assert (await probe(ExternalPerl(str(tmp_path)), TARGET))[0] == "ERROR"


@root
@pytest.mark.parametrize("mode", [0o775, 0o757])
async def test_root_runs_nothing_that_others_can_change(script, probe, mode):
    path = script("exit 0", mode=mode)
    for checker in (External(path), ExternalPerl(path)):
        verdict, _, detail = await probe(checker, TARGET)
        assert verdict == "ERROR"
        assert "chmod go-w" in detail


@root
async def test_root_runs_nothing_that_others_can_replace(script, probe, tmp_path):
    path = script("exit 0")
    tmp_path.chmod(0o777)
    verdict, _, detail = await probe(External(path), TARGET)
    assert verdict == "ERROR"
    assert "replace" in detail
    tmp_path.chmod(0o777 | stat.S_ISVTX)
    assert (await probe(External(path), TARGET))[0] == "PASS"


@root
async def test_user(probe):
    nobody = pwd.getpwnam("nobody")
    steps = []

    class Asking(External):
        def arguments(self, target):
            return ("-c", "id -u; id -g; id -G", "", "")

    await probe(Asking("/bin/sh", user="nobody"), TARGET, trace=lambda *s: steps.append(s))
    groups = os.getgrouplist("nobody", nobody.pw_gid)
    assert steps[-1][1].split() == [
        str(nobody.pw_uid).encode(),
        str(nobody.pw_gid).encode(),
        *(str(group).encode() for group in groups),
    ]


@root
async def test_user_may_run_what_others_can_change(probe):
    with tempfile.TemporaryDirectory() as directory:  # others cannot enter pytest's own
        os.chmod(directory, 0o755)
        path = Path(directory, "check")
        path.write_text("#!/bin/sh\nexit 0\n")
        path.chmod(0o777)
        assert (await probe(External(str(path), user="nobody"), TARGET))[0] == "PASS"


async def test_unknown_user(probe):
    got = await probe(External("/bin/true", user="no-such-user"), TARGET)
    assert got == ("ERROR", "SOCKERR", "user: there is no user no-such-user on this host")


async def test_sigchld_ignored_is_never_a_pass(script, tmp_path):
    """A parent that ignores SIGCHLD hides how children end; Popen would say 0."""
    code = (
        "import asyncio, signal\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from lbhealth.checkers.external import External\n"
        "from lbhealth.engine.runner import run_check\n"
        "from lbhealth.model import Target\n"
        f"check = run_check(External({script('exit 1')!r}), Target('192.0.2.1', 80), 5)\n"
        "print(asyncio.run(check))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert "ERROR" in done.stdout
    assert "SIGCHLD" in done.stdout


# ---------------------------------------------------------------- time-outs and cancellation

FORKS = """
{ident}
for i in 1 2 3; do
    ( trap '' TERM; echo $(sh -c 'echo $PPID') >> {pids}; while :; do sleep 0.1; done ) &
done
{end}
"""


@pytest.mark.parametrize(
    ("ident", "end"),
    [("", "wait"), ("trap '' TERM", "while :; do sleep 0.1; done")],
    ids=["gentle", "stubborn"],
)
async def test_time_out_ends_the_whole_group(script, tmp_path, probe, ident, end):
    pids = tmp_path / "pids"
    path = script(FORKS.format(ident=ident, pids=pids, end=end))
    start = time.monotonic()
    got = await probe(External(path), TARGET, 0.5)
    took = time.monotonic() - start
    assert got == ("FAIL", "PROCTOUT", "timed out after 0.5 s waiting for the script")
    assert took < 0.5 + 2 * child_module.GRACE + 0.3
    numbers = [int(line) for line in pids.read_text().split()]
    assert len(numbers) == 3
    assert await all_gone(numbers)


async def test_time_out_lets_it_clean_up(script, tmp_path, probe):
    mark = tmp_path / "cleaned"
    path = script(f"trap 'touch {mark}; exit 0' TERM; while :; do sleep 0.02; done")
    assert (await probe(External(path), TARGET, 0.3))[1] == "PROCTOUT"
    assert mark.exists()


async def test_cancelling_ends_it_at_once(script, tmp_path):
    mark = tmp_path / "pid"
    path = script(f"trap '' TERM; echo $$ > {mark}; while :; do sleep 0.1; done")
    for again in (False, True):
        mark.write_text("")
        task = asyncio.create_task(run_check(External(path), TARGET, 30))
        while not mark.read_text().strip():
            await asyncio.sleep(0.01)
        start = time.monotonic()
        task.cancel()
        if again:  # a second one does not wait for the grace
            await asyncio.sleep(0.01)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - start < child_module.GRACE + 0.2
        assert await all_gone([int(mark.read_text())])


async def test_background_children_end_with_it(script, tmp_path, probe):
    mark = tmp_path / "pid"
    path = script(f"sleep 60 & echo $! > {mark}; echo started; exit 0")
    start = time.monotonic()
    assert await probe(External(path), TARGET) == ("PASS", "PROCOK", "exit status 0: started")
    assert time.monotonic() - start < 1
    assert await all_gone([int(mark.read_text())])


async def test_a_daemon_goes_its_own_way(script, tmp_path, probe):
    """One that makes a session of its own holds the output open, and holds nothing up."""
    mark = tmp_path / "pid"
    path = script(f"setsid sh -c 'echo $$ > {mark}; exec sleep 60' & sleep 0.1; exit 1")
    assert (await probe(External(path), TARGET))[:2] == ("FAIL", "PROCERR")
    pid = int(mark.read_text())
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------- output and numbers


async def test_megabytes_of_output(script, probe):
    steps = []
    path = script("echo first; head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 1")
    got = await probe(External(path), TARGET, 5, lambda *step: steps.append(step))
    assert got == ("FAIL", "PROCERR", "exit status 1: first")
    assert len(steps[-1][1]) == child_module.OUTPUT_LIMIT


async def test_endless_output_is_a_time_out(script, probe):
    got = await probe(External(script("exec yes")), TARGET, 0.3)
    assert got[1] == "PROCTOUT"


async def test_long_line_is_cut(script, probe):
    got = await probe(External(script("head -c 100000 /dev/zero | tr '\\0' x")), TARGET)
    assert len(got[2]) < 250


async def test_bounded_concurrency(script, tmp_path, probe, monkeypatch):
    monkeypatch.setattr(external_module, "_AT_ONCE", 3)
    log = tmp_path / "log"
    path = script(f"echo + >> {log}; sleep 0.05; echo - >> {log}")
    got = await asyncio.gather(*(probe(External(path), TARGET, 10) for _ in range(12)))
    assert {verdict for verdict, _, _ in got} == {"PASS"}
    running = most = 0
    for sign in log.read_text().split():
        running += 1 if sign == "+" else -1
        most = max(most, running)
    assert most <= 3


async def test_waiting_for_a_place_is_no_fault_of_the_server(script, probe, monkeypatch):
    monkeypatch.setattr(external_module, "_AT_ONCE", 1)
    slow = asyncio.create_task(probe(External(script("sleep 1")), TARGET, 5))
    await asyncio.sleep(0.05)
    got = await probe(External("/bin/true"), TARGET, 0.4)
    assert got[0] == "ERROR"
    assert "are running already" in got[2]
    assert (await slow)[0] == "PASS"


async def test_without_pidfd(script, probe, monkeypatch):
    def refuse(pid):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert await probe(External(script("sleep 0.1; exit 2")), TARGET) == (
        "FAIL",
        "PROCERR",
        "exit status 2",
    )
    assert (await probe(External(script("sleep 9")), TARGET, 0.2))[1] == "PROCTOUT"


def test_on_uvloop(script):
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for text, wanted in (("exit 0", "PROCOK"), ("exit 1", "PROCERR"), ("sleep 9", "PROCTOUT")):
            result = runner.run(run_check(External(script(text)), TARGET, 0.5))
            assert result.status == wanted


# ---------------------------------------------------------------- Debian's plug-ins


@pytest.fixture
def plugin():
    def find(name):
        path = PLUGINS / name
        if not path.exists():
            pytest.skip("monitoring-plugins-basic is not installed")
        return str(path)

    return find


@pytest.mark.parametrize(
    ("state", "verdict", "status", "word"),
    [
        ("0", "PASS", "PROCOK", "OK"),
        ("1", "PASS", "PROCOK", "warning: WARNING"),
        ("2", "FAIL", "PROCERR", "critical: CRITICAL"),
        ("3", "ERROR", "SOCKERR", "unknown: UNKNOWN"),
    ],
)
async def test_check_dummy(plugin, script, probe, state, verdict, status, word):
    path = script(f'shift 4; exec {plugin("check_dummy")} "$@"')
    checker = External(path, args=(state, "hello"), convention="monitoring-plugins")
    assert await probe(checker, TARGET) == (verdict, status, f"{word}: hello")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_check_tcp(plugin, script, probe, host):
    path = script(
        f'exec {plugin("check_tcp")} -t 2 -H "$HAPROXY_SERVER_ADDR" -p "$HAPROXY_SERVER_PORT"'
    )
    checker = External(path, convention="monitoring-plugins")
    async with ScriptedServer.accept_then_silence(host=host) as server:
        verdict, status, detail = await probe(checker, server.target())
    assert (verdict, status) == ("PASS", "PROCOK")
    assert re.match(r"TCP OK - .* response time", detail)
    assert "|" not in detail
    async with ScriptedServer.refuse(host=host) as server:
        verdict, status, detail = await probe(checker, server.target())
    assert (verdict, status) == ("FAIL", "PROCERR")
    assert "refused" in detail
