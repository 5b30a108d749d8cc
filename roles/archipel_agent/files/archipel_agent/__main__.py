# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel-agent: the command line."""

from __future__ import annotations

import argparse
import asyncio
import logging
import logging.handlers
import os
import sys

from . import config as configuration

log = logging.getLogger("archipel_agent")


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
    _set_up_logging(config)
    # Not before: it imports slixmpp and libvirt, which a check of the configuration does not need.
    from .agent import Agent

    asyncio.run(Agent(config).run())
    logging.shutdown()
    # A thread in a libvirt call that hangs would keep the interpreter for ever; everything is closed by now.
    os._exit(0)


def _set_up_logging(config: configuration.Config) -> None:
    """To stderr, where the journal adds the time, and to the file; other libraries' debug lines hold passwords."""
    journal = logging.StreamHandler()
    journal.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [journal]
    if config.logging_file_path is not None:
        file = logging.handlers.WatchedFileHandler(config.logging_file_path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(file)
    logging.basicConfig(level=logging.WARNING, handlers=handlers)
    log.setLevel(config.logging_level.upper())
    # Says "No appropriate login method" at each refused password; the agent says more.
    logging.getLogger("slixmpp.features.feature_mechanisms.mechanisms").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
