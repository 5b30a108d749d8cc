# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel-agent: the command line."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys

from . import config as configuration, logs, state_folder
from .store import ForeignDatabase

# gc.set_threshold(): nobody is served while Python looks for garbage. A look at 5,000 objects takes 2 ms, and at 50,000
# a twentieth of a second. All those of hundreds of sessions, which take a tenth of a second, are looked at when
# millions more were made: when all sessions were lost and made anew many times, not by traffic, which leaves few.
_GARBAGE = (5_000, 3, 700)


def main() -> int:
    """Runs the agent, checks its configuration, or imports.

    0; 1 where the state folder cannot be used now, or an import is refused; 2 where the configuration is wrong, or only
    a person can help.
    """
    parser = argparse.ArgumentParser(prog="archipel-agent", description="Manages this host's virtual machines by XMPP.")
    parser.add_argument("--config", default=configuration.DEFAULT_PATH, help="default: %(default)s")
    parser.add_argument("--check-config", metavar="FILE", nargs="?", const="", help="check FILE, or --config, and end")
    parser.add_argument(
        "command",
        nargs="?",
        choices=["import"],
        help="bring domains under management while the agent does not run; module archipel_import calls it",
    )
    arguments = parser.parse_args()
    try:
        config = configuration.load(arguments.check_config or arguments.config)
        if arguments.check_config is None:
            config.read_password()
    except configuration.ConfigError as fault:
        print(fault, file=sys.stderr)
        return 2
    if arguments.check_config is not None:
        print("the configuration is good")
        return 0
    return _import(config) if arguments.command == "import" else _run(config)


def _import(config: configuration.Config) -> int:
    # Not before: it imports libvirt.
    from . import offline

    try:
        print(offline.run(config, sys.stdin.read()))
    except offline.Refused as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


def _run(config: configuration.Config) -> int:
    logs.set_up(config.logging_level, config.logging_file_path)
    gc.set_threshold(*_GARBAGE)
    # Not before: it imports slixmpp and libvirt, which a check of the configuration does not need.
    from .agent import Agent

    try:
        with state_folder.held(config.archipel_folder_lib):
            again = asyncio.run(Agent(config).run())
    except state_folder.Unusable as fault:
        # systemd tries again.
        print(fault, file=sys.stderr)
        return 1
    except ForeignDatabase as fault:
        print(fault, file=sys.stderr)
        return 2
    logging.shutdown()
    if again:
        # In place, so that systemd sees the same process.
        os.execv(sys.executable, sys.orig_argv)
    # A thread in a libvirt call that hangs would keep the interpreter for ever; everything is closed by now.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
