"""The command group, exit codes and usage errors.

Commands live in their own modules, imported when called, so that `lbhealth check` does not
pay for an HTTP library.  Data goes to stdout, talk to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import NoReturn

import click

from lbhealth import __version__
from lbhealth.cli.output import USAGE

__all__ = ["main"]

_COMMANDS = {
    "run": "lbhealth.cli.run:run",
    "check": "lbhealth.cli.check:check",
    "plan": "lbhealth.cli.plan:plan",
    "probe": "lbhealth.cli.probe:probe",
    "status": "lbhealth.cli.control:status",
    "drain": "lbhealth.cli.control:drain",
    "halt": "lbhealth.cli.control:halt",
    "online": "lbhealth.cli.control:online",
    "reload": "lbhealth.cli.control:reload",
    "plugins": "lbhealth.cli.plugins:plugins",
}


class _Lazy(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lbhealth")
def _group() -> None:
    """Decide which real servers may get new connections, and how many each.

    \b
    lbhealth check /etc/ha.d/ldirectord.cf     what is wrong with the file
    lbhealth plan  /etc/ha.d/ldirectord.cf     what `run` would change in the kernel
    lbhealth run   /etc/ha.d/ldirectord.cf     keep the kernel's table right
    """


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        code = _group.main(standalone_mode=False, prog_name="lbhealth")
        sys.stdout.flush()
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        if "--json" in sys.argv:
            print(json.dumps(_usage_document(error)))
        error.show(sys.stderr)
        sys.exit(USAGE)
    except BrokenPipeError:
        # Nobody reads any more: `lbhealth status | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _usage_document(error: click.ClickException) -> dict[str, object]:
    """The one JSON object of a call that was wrong."""
    message = error.format_message()
    if "probe" in sys.argv[1:2]:
        return {
            "verdict": None,
            "status": None,
            "detail": message,
            "duration": None,
            "dialogue": [],
        }
    return {"schema": 1, "error": message}
