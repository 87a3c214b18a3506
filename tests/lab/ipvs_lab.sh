#!/usr/bin/env bash
# ipvs_lab.sh - run a command on a real Linux IPVS, without KVM and without
# touching the kernel or the network of the host (as root it raises one limit of
# the host, vm.max_map_count, if that is below 1048576).
#
#   ipvs_lab.sh [options] [--] COMMAND [ARG...]
#
# It boots Debian's packaged User Mode Linux (a complete Linux 6.1 kernel that
# runs as an ordinary process, with ip_vs and its schedulers as modules), gives
# it the host's whole file system, runs COMMAND in it as root in the current
# directory with the current environment, and returns its stdout, its stderr
# and its exit status.  stdin is /dev/null unless --stdin is given.
#
# What the guest writes goes to a tmpfs and is forgotten, except below the
# directories named with --rw, which are the host's own.  The guest has no
# network but lo (up), and as many namespaces, veths, dummies as you make.
#
# Options:
#   --cache DIR     where the kernel is kept (default $LBHEALTH_LAB_CACHE, else
#                   ${XDG_CACHE_HOME:-~/.cache}/lbhealth-lab); made if missing
#   --rw DIR        let the guest write in this host directory (may be repeated)
#   --mem SIZE      guest memory (default 1G; only pages in use cost anything)
#   --timeout SECS  power the guest off after so long; exit status 124
#   --modules "..." modules to load first (default: see MODULES below)
#   --stdin         hand this script's stdin to COMMAND (read to its end first)
#   --extra "PKGS"  more Debian packages COMMAND needs on the host
#   --prepare       only fetch what is needed, run nothing
#   --quiet         do not print the timing line
#   --verbose       print the guest kernel's messages when done
#
# Exit status: COMMAND's own; 124 on time-out; 125 when the guest could not be
# prepared or died before COMMAND ended.
#
# COMMAND sees IPVS_LAB=1.  A first run downloads some 12 MB and takes 6 to 10 s,
# every later one a second or so before COMMAND starts.  Pitfalls: the UML kernel
# has no nf_tables for ip and ip6 (use iptables-legacy); unix sockets of the host
# are of no use in the guest; a process start costs 20 to 50 ms in there.
set -u -o pipefail

CACHE=${LBHEALTH_LAB_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/lbhealth-lab}
MEM=1G TIMEOUT=0 USE_STDIN=0 PREPARE=0 QUIET=0 VERBOSE=0 EXTRA= RW=()
# Everything else (schedulers, veth, dummy, ipip, nft/ipt) is auto-loaded on use.
MODULES="ip_vs"

die() { echo "ipvs-lab: $*" >&2; exit 125; }
now() { local t=${EPOCHREALTIME/[.,]/}; echo $((t / 1000)); }
secs() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }

while [ $# -gt 0 ]; do
  case $1 in
    --cache) CACHE=$2; shift 2 ;;
    --rw) RW+=("$(realpath -e -- "$2")") || die "--rw $2: no such directory"; shift 2 ;;
    --mem) MEM=$2; shift 2 ;;
    --timeout) TIMEOUT=$2; shift 2 ;;
    --modules) MODULES=$2; shift 2 ;;
    --extra) EXTRA=$2; shift 2 ;;
    --stdin) USE_STDIN=1; shift ;;
    --prepare) PREPARE=1; shift ;;
    --quiet) QUIET=1; shift ;;
    --verbose) VERBOSE=1; shift ;;
    -h|--help) sed -n '2,/^set -u/p' "$0" | sed -e '$d' -e 's/^# \{0,1\}//'; exit 0 ;;
    --) shift; break ;;
    -*) die "unknown option $1 (see --help)" ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || [ $PREPARE = 1 ] || die "no command (see --help)"
T0=$(now)

# ------------------------------------------------------------- what is needed
mkdir -p "$CACHE" && CACHE=$(realpath -e -- "$CACHE") || die "cannot make $CACHE"
exec 9>"$CACHE/lock" && flock 9 || die "cannot lock $CACHE"   # one preparer at a time

apt_updated=0
apt_update() {
  [ $apt_updated = 1 ] || apt-get -qq update >>"$CACHE/prepare.log" 2>&1 || true
  apt_updated=1
}
apt_do() {  # run an apt-get command; on failure refresh the lists and retry once
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 "$@" >>"$CACHE/prepare.log" 2>&1 && return
  apt_update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 "$@" >>"$CACHE/prepare.log" 2>&1
}

want=
for pair in python3:python3 modprobe:kmod ip:iproute2 ipvsadm:ipvsadm; do
  PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || want="$want ${pair##*:}"
done
for pkg in $EXTRA; do
  [ "$(dpkg-query -Wf '${db:Status-Status}' "$pkg" 2>/dev/null)" = installed ] || want="$want $pkg"
done
if [ -n "$want" ]; then
  # shellcheck disable=SC2086
  apt_do install --no-install-recommends $want ||
    die "apt-get install$want failed, see $CACHE/prepare.log"
fi

if [ -x "$CACHE/uml/usr/bin/linux.uml" ]; then ROOT=$CACHE/uml
elif [ -x /usr/bin/linux.uml ] && [ -d /usr/lib/uml/modules ]; then ROOT=
else
  tmp=$(mktemp -d "$CACHE/get.XXXXXX") && chmod 755 "$tmp" || die "no temporary directory"
  ( cd "$tmp" && apt_do download user-mode-linux &&
    dpkg -x user-mode-linux_*.deb root && rm -f ./*.deb && mv root "$CACHE/uml" ) ||
    die "could not fetch Debian's user-mode-linux, see $CACHE/prepare.log"
  rm -rf "$tmp"; ROOT=$CACHE/uml
fi
KERNEL=$ROOT/usr/bin/linux.uml MODDIR=$ROOT/usr/lib/uml/modules
flock -u 9; exec 9>&-
T1=$(now)
if [ $PREPARE = 1 ]; then
  [ $QUIET = 1 ] || echo "ipvs-lab: ready in $(secs $((T1 - T0))) s ($KERNEL)" >&2
  exit 0
fi

# ------------------------------------------------------------------- one run
RUN=$(mktemp -d "${TMPDIR:-/tmp}/ipvs-lab.XXXXXX") || die "no temporary directory"
pid='' timer='' c1='' c2=''
cleanup() {
  trap - EXIT INT TERM HUP
  if [ -n "$pid" ]; then            # our own process group only
    kill -KILL -- "-$pid" 2>/dev/null; wait "$pid" 2>/dev/null
  fi
  if [ -n "$timer" ]; then kill "$timer" 2>/dev/null; fi
  rm -rf "$RUN"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir "$RUN/share" && mkfifo "$RUN/out" "$RUN/err" "$RUN/log"
if [ $USE_STDIN = 1 ]; then cat >"$RUN/share/stdin"; else : >"$RUN/share/stdin"; fi
env -0 >"$RUN/share/env"
printf '%s\0' "$@" >"$RUN/share/cmd"
printf '%s' "$PWD" >"$RUN/share/cwd"
printf '%s\n' ${RW[@]+"${RW[@]}"} >"$RUN/share/rw"
printf '%s\n' "$MODULES" >"$RUN/share/modules"

cat >"$RUN/share/init" <<'INIT'
#!/usr/bin/python3 -ISu
# pid 1 of the guest; argv: share directory and module directory, both on the host.
# One process and plain system calls: an exec costs some 20 ms in here.
import ctypes, errno, fcntl, os, select, socket, struct, sys, termios, time

S, M = sys.argv[1:3]
libc = ctypes.CDLL(None, use_errno=True)


def check(rc, what):
    if rc < 0:
        e = ctypes.get_errno()
        raise OSError(e, f"{what}: {os.strerror(e)}")
    return rc


def mount(kind, where, opts="", source="none"):
    check(libc.mount(source.encode(), where.encode(), kind.encode(), 0, opts.encode()),
          f"mount {kind} {where} {opts}")


def say(text):
    with open("/dev/kmsg", "w") as f:
        f.write(f"<2>ipvs-lab: {text}\n")


deps = {}


def modprobe(name, moddir):
    """Load a module and what it depends on, as modprobe would; True if it is there."""
    base = f"{moddir}/{os.uname().release}"
    if not deps:
        for line in open(f"{base}/modules.dep"):
            path, _, need = line.partition(":")
            deps[os.path.basename(path).split(".")[0].replace("-", "_")] = (path, need.split())
    if name.replace("-", "_") not in deps:
        return False
    path, need = deps[name.replace("-", "_")]
    for p in [*reversed(need), path]:
        fd = os.open(f"{base}/{p}", os.O_RDONLY)
        if libc.syscall(313, fd, b"", 0) < 0 and ctypes.get_errno() != errno.EEXIST:  # finit_module
            check(-1, f"finit_module {p}")
        os.close(fd)
    return True


def setup():
    mount("tmpfs", "/mnt")                      # the root itself stays read-only
    for d in ("up", "wk", "root"):
        os.mkdir(f"/mnt/{d}")
    modprobe("overlay", M)
    mount("overlay", "/mnt/root", "lowerdir=/,upperdir=/mnt/up,workdir=/mnt/wk")
    os.chdir("/mnt/root")
    for d in ("lib/modules", "mnt/old", "proc", "sys", "dev", "run", "." + S):
        os.makedirs(d, exist_ok=True)
    mount("proc", "proc")
    mount("sysfs", "sys")
    mount("devtmpfs", "dev")
    os.makedirs("dev/pts", exist_ok=True)
    os.makedirs("dev/shm", exist_ok=True)
    mount("devpts", "dev/pts", "mode=620,ptmxmode=666")
    mount("tmpfs", "dev/shm", "mode=1777")
    mount("tmpfs", "run", "mode=755")
    os.makedirs("run/netns")
    os.makedirs("run/lock")
    for link, to in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        if not os.path.lexists(f"dev/{link}"):
            os.symlink(to, f"dev/{link}")
    mount("hostfs", "lib/modules", M)
    for d in open(f"{S}/rw").read().splitlines():
        if d:
            mount("hostfs", "." + d, d)
    mount("hostfs", "." + S, S)
    # pivot_root, so that the kernel's own calls of /sbin/modprobe come here too
    check(libc.syscall(155, b".", b"mnt/old"), "pivot_root")
    check(libc.umount2(b"mnt/old", 2), "umount of the old root")
    os.chdir("/")
    if os.path.isdir("/sys/fs/cgroup"):
        mount("cgroup2", "/sys/fs/cgroup")
    socket.sethostname("ipvs-lab")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:  # lo up: without any local
        fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 0x49))  # route IPVS answers EINVAL
    for m in open(f"{S}/modules").read().split():
        if not modprobe(m, "/lib/modules"):
            say(f"no module {m}")


def serial(path):
    fd = os.open(path, os.O_WRONLY | os.O_NOCTTY)
    a = termios.tcgetattr(fd)
    a[0] = a[1] = a[3] = 0                      # raw
    termios.tcsetattr(fd, termios.TCSANOW, a)
    return fd


def run():
    """Run the command with pipes for its output, so that it sees no terminal."""
    pumps = {}
    ends = []
    for path in ("/dev/ttyS0", "/dev/ttyS1"):
        tty = serial(path)
        r, w = os.pipe()
        pumps[r] = tty
        ends.append(w)
    with open("/proc/uptime") as f, open(f"{S}/booted", "w") as g:
        g.write(f.read().split()[0])
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(os.open(f"{S}/stdin", os.O_RDONLY), 0)
        os.dup2(ends[0], 1)
        os.dup2(ends[1], 2)
        os.closerange(3, 100)
        env = dict(v.split("=", 1) for v in open(f"{S}/env").read().split("\0") if "=" in v)
        env["PATH"] = env.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        env["IPVS_LAB"] = "1"
        argv = open(f"{S}/cmd").read().split("\0")[:-1]
        try:
            os.chdir(open(f"{S}/cwd").read())
            os.execvpe(argv[0], argv, env)
        except OSError as e:
            os.write(2, f"ipvs-lab: {argv[0]}: {e}\n".encode())
            os._exit(126 if e.errno == errno.EACCES else 127)
    for w in ends:
        os.close(w)
    rc, grace = None, None
    poll = select.poll()
    for r in pumps:
        poll.register(r, select.POLLIN)
    while pumps:
        for r, _ in poll.poll(20 if rc is None else 5):
            data = os.read(r, 65536)
            if not data:
                poll.unregister(r)
                os.close(r)
                termios.tcdrain(pumps[r])
                os.close(pumps.pop(r))
            while data:
                data = data[os.write(pumps[r], data):]
        try:                                    # reap: this is pid 1
            while True:
                p, st = os.waitpid(-1, os.WNOHANG)
                if p == 0:
                    break
                if p == pid:
                    rc = os.waitstatus_to_exitcode(st)
                    grace = time.monotonic() + 0.5
        except ChildProcessError:
            pass
        # a daemon the command left behind may hold the pipes: give it a moment only
        if rc is not None and time.monotonic() > grace:
            for tty in pumps.values():
                termios.tcdrain(tty)
            break
    while rc is None:
        p, st = os.waitpid(-1, 0)
        if p == pid:
            rc = os.waitstatus_to_exitcode(st)
    return rc if rc >= 0 else 128 - rc


try:
    setup()
    rc = run()
    with open(f"{S}/rc.tmp", "w") as f:
        f.write(f"{rc}\n")
    os.rename(f"{S}/rc.tmp", f"{S}/rc")
except BaseException as e:
    say(f"{type(e).__name__}: {e}")
libc.reboot(0x4321FEDC)                         # power off; nothing on disk to sync
INIT
chmod 755 "$RUN/share/init"

cat "$RUN/out" & c1=$!
cat "$RUN/err" >&2 & c2=$!
cat "$RUN/log" >"$RUN/console" & c3=$!
# Nearly every page of a guest process is a mapping of its own on the host, so the
# usual limit of 65530 kills a guest process of more than some 250 MB.
if [ "$(cat /proc/sys/vm/max_map_count)" -lt 1048576 ]; then
  { echo 1048576 >/proc/sys/vm/max_map_count; } 2>/dev/null || true
fi
# legacy_count=0 and the raid6 benchmark take 1.2 s of a 1.5 s boot away.
if setpriv --pdeathsig KILL unshare --pid --fork --kill-child true 2>/dev/null; then
  box="setpriv --pdeathsig KILL unshare --pid --fork --kill-child"   # nothing can outlive us
else box=""; fi
# shellcheck disable=SC2086
setsid $box "$KERNEL" "mem=$MEM" "uml_dir=$RUN/" umid=guest \
  root=none rootfstype=hostfs rootflags=/ ro quiet \
  pty.legacy_count=0 initcall_blacklist=raid6_select_algo \
  con=null con0=null,fd:3 ssl0=null,fd:4 ssl1=null,fd:5 panic=-1 \
  "init=$RUN/share/init" -- "$RUN/share" "$MODDIR" \
  3>"$RUN/log" 4>"$RUN/out" 5>"$RUN/err" </dev/null >"$RUN/early" 2>&1 &
pid=$!
if [ "$TIMEOUT" != 0 ]; then
  ( trap 'kill $s 2>/dev/null' TERM; sleep "$TIMEOUT" & s=$!; wait $s && : >"$RUN/late" && kill -KILL -- "-$pid" ) 2>/dev/null &
  timer=$!
fi
wait "$pid" 2>/dev/null
kill -KILL -- "-$pid" 2>/dev/null; pid=''
wait "$c1" "$c2" "$c3" 2>/dev/null
T2=$(now)

if [ -e "$RUN/late" ]; then rc=124; echo "ipvs-lab: timed out after $TIMEOUT s" >&2
elif [ -s "$RUN/share/rc" ]; then rc=$(cat "$RUN/share/rc")
else
  rc=125; echo "ipvs-lab: the guest died; its last words:" >&2
  tail -n 30 "$RUN/early" "$RUN/console" >&2
fi
[ $VERBOSE = 0 ] || cat "$RUN/early" "$RUN/console" >&2
[ $QUIET = 1 ] || echo "ipvs-lab: exit $rc; prepare $(secs $((T1 - T0))) s, guest $(secs $((T2 - T1))) s (kernel and set-up $(cat "$RUN/share/booted" 2>/dev/null || echo '?') s)" >&2
exit "$rc"
