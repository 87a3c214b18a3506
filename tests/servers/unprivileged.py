"""Directories for servers that do not run as root.

Not below pytest's own directory: each session that starts closes that one to other users.
"""

import contextlib
import os
import pwd
import shutil
import tempfile
from pathlib import Path

import pytest


def account(name):
    """Whom a server runs as: `name` when root starts it, else whoever does."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam(name)
    except KeyError:
        pytest.skip(f"there is no user {name}")


@contextlib.contextmanager
def directory(owner):
    """An empty directory of the account `owner`, removed in the end."""
    path = Path(tempfile.mkdtemp(prefix="lbhealth-test-"))
    try:
        give(path, owner)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def give(path, owner, mode=0o700):
    """Make `owner` the owner of a file or directory."""
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, owner.pw_uid, owner.pw_gid)
