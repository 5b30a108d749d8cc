# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel-agent: the command line."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys

from . import config as configuration, logs


def main() -> int:
    """Runs the agent, or checks its configuration; 0, or 2 where the configuration is wrong."""
    parser = argparse.ArgumentParser(prog="archipel-agent", description="Manages this host's virtual machines by XMPP.")
    parser.add_argument("--config", default=configuration.DEFAULT_PATH, help="default: %(default)s")
    parser.add_argument("--check-config", metavar="FILE", nargs="?", const="", help="check FILE, or --config, and end")
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
    logs.set_up(config.logging_level, config.logging_file_path)
    # Not before: it imports slixmpp and libvirt, which a check of the configuration does not need.
    from .agent import Agent

    again = asyncio.run(Agent(config).run())
    logging.shutdown()
    if again:
        # In place, so that systemd sees the same process.
        os.execv(sys.executable, sys.orig_argv)
    # A thread in a libvirt call that hangs would keep the interpreter for ever; everything is closed by now.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
