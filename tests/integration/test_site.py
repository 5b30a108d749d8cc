# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""archipel.platform.site on a platform that runs, kept to some hosts by --limit and to some roles by --tags."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) .*unreachable=0 +failed=0 ", re.M)
# A file of the role archipel_agent, and one of the role libvirt.
AGENT, LIBVIRT = "/etc/logrotate.d/archipel-agent", "/etc/libvirt/libvirtd.conf"


def site(*arguments):
    """How much changed on each host that took part, of which none may have failed."""
    inventory = os.environ.get("ARCHIPEL_LAB_INVENTORY") or str(ROOT / "inventories/lab/hosts")
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, "archipel.platform.site"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {host: int(changed) for host, changed in RECAP.findall(done.stdout)}


def test_what_is_not_named_stays_as_it_is(platform):
    one, other = platform.hypervisors[:2]
    places = [(one, AGENT), (other, AGENT), (one, LIBVIRT)]
    try:
        for host, path in places:
            platform.run(host, f"chmod 0600 {path}")
        assert site("--tags", "archipel_agent", "--limit", one) == {one: 1}
        assert [platform.run(host, f"stat -c %a {path}").strip() for host, path in places] == ["644", "600", "600"]
    finally:
        for host, path in places:
            platform.run(host, f"chmod 0644 {path}")


def test_the_pubsub_nodes_alone_are_as_they_shall_be(platform):
    """They need facts, and what the role before them knows."""
    assert site("--tags", "archipel_pubsub", "--limit", platform.xmpp, "--check") == {platform.xmpp: 0}
