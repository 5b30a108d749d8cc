# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab takes from the machine it runs on: Debian packages, and apt's way to the archive."""

from __future__ import annotations

import shutil
from pathlib import Path

from .process import LabError, run, say

# Program to the package that brings it.
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh": "openssh-client",
}
# Every systemd takes a dozen of these, and root of all hosts counts as one user: the kernel's 128 are soon gone.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 8192
# How apt reaches the archive (proxies, timeouts, certificates); nothing else of its configuration is copied.
ACQUIRE = ("http", "https", "Check-", "Retries", "ForceIP", "Proxy")


def need(tools: dict[str, str]) -> None:
    """Install the packages of those programs that are missing."""
    missing = sorted({package for tool, package in tools.items() if not shutil.which(tool)})
    if missing:
        say(f"installing {' '.join(missing)}")
        run(["apt-get", "update"])
        run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends", *missing])


def raise_limits() -> None:
    """Let many hosts run at once."""
    if int(INOTIFY.read_text()) < INOTIFY_INSTANCES:
        INOTIFY.write_text(str(INOTIFY_INSTANCES))


def codename() -> str:
    """The machine's own Debian release."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise LabError("the lab runs on Debian: /etc/os-release has no VERSION_CODENAME")


def sources(release: str) -> str:
    """The machine's Debian sources as one-line entries for `release`."""
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Origin: Debian"]
    lines = run(query) or (run(["apt-get", "update"]) and run(query))
    entries = {}
    for line in lines.splitlines():
        uri, suite, component = line.split()
        entries.setdefault((uri, suite.replace(codename(), release)), set()).add(component)
    if not entries:
        raise LabError("apt on this machine knows no Debian archive")
    return "".join(
        f"deb {uri} {suite} {' '.join(sorted(components))}\n" for (uri, suite), components in sorted(entries.items())
    )


def acquire_options() -> str:
    """The machine's apt options for reaching the archive, as a configuration file."""
    wanted = tuple(f"Acquire::{name}" for name in ACQUIRE)
    return "".join(f"{line}\n" for line in run(["apt-config", "dump"]).splitlines() if line.startswith(wanted))
