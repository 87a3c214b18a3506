#!/bin/sh
# Set up what the targets of the Makefile need, on a machine that has only python3 and make.
#
#   .ci/setup.sh venv       make .venv and install lbhealth with its development tools into it
#   .ci/setup.sh packages   install the Debian packages of tests/apt-packages.txt (as root only)
#
# PYTHON names the interpreter to use; without it, the first python3 that is 3.11 or newer.
set -eu
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

is_root_on_debian() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

# Install packages; no daemon is started by their scripts, and the guard goes away again.
install_packages() {
    guard=/usr/sbin/policy-rc.d
    if [ ! -e "$guard" ]; then
        trap 'rm -f "$guard"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$guard"
        chmod +x "$guard"
    fi
    apt="apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
    install="$apt install --no-install-recommends $*"
    export DEBIAN_FRONTEND=noninteractive
    say "installing $*"
    $install >/dev/null 2>&1 || { $apt update && $install; } >&2 || die "apt-get cannot install $*"
}

find_python() {
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        command -v "$python"
        return
    done
    die "no Python 3.11 or newer found: install one, or name it by PYTHON=/path/to/python3"
}

make_venv() {
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        is_root_on_debian || die "$python has no ensurepip: install Debian's python3-venv"
        install_packages python3-venv
    fi
    "$python" -m venv --clear .venv || die "$python cannot make a virtual environment"
    plugins=
    for folder in plugins/*/; do
        plugins="$plugins --editable $folder"
    done
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable '.[dev]' $plugins
}

# Debian's inn2 cannot be set up on a host without a domain, and its files are all a test needs.
unpack_inn() {
    [ ! -e /opt/inn2/usr/lib/news ] && [ ! -e /usr/lib/news/bin/innd ] || return 0
    place=$(mktemp -d)
    chmod 755 "$place"
    (cd "$place" && apt-get -q download inn2 >/dev/null 2>&1 && dpkg-deb -x inn2_*.deb /opt/inn2) ||
        die "apt-get cannot download inn2"
    rm -rf "$place"
}

make_packages() {
    missing=
    for package in $(sed 's/#.*//' tests/apt-packages.txt); do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' ||
            missing="$missing $package"
    done
    if is_root_on_debian; then
        unpack_inn
    fi
    [ -n "$missing" ] || return 0
    if is_root_on_debian; then
        echo 'slapd slapd/no_configuration boolean true' | debconf-set-selections
        install_packages $missing
    else
        say "not root: tests that need these packages are skipped:$missing"
    fi
}

case ${1-} in
venv) make_venv ;;
packages) make_packages ;;
*) die "usage: $0 venv|packages" ;;
esac
