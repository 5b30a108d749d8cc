# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a fleet waits for, and how far it tells to be: guests that come up, and copies of disks.

The guest of the lab has no guest agent. Told so on its console, it opens the agent's channel and says nothing more,
which is all that libvirt sees of an agent that connects.
"""

from __future__ import annotations

import pytest
from repository import Repository

DB, WEB = "waiting-db", "waiting-web"
DEFAULTS = {
    "memory": "64MiB",
    "tags": ["waiting"],
    "force": True,
    "shutdown_timeout": 1,
    "wait_timeout": 240,
}
GUEST = {
    "state": "running",
    "memory": "128MiB",
    "kernel": "/vm/guest/vmlinuz",
    "initrd": "/vm/guest/initrd",
    "cmdline": "edd=off console=tty0 console=ttyS0",
    "serials": [{"type": "pty"}],
}
CHANNEL = {"name": "org.qemu.guest_agent.0"}
# As soon as the guest lives; it has read the word when it has said it, too. In a subshell, because a session's first
# process would make the console its own terminal, and those that read it would stop.
OPEN = (
    "(exec 3<>$(virsh ttyconsole %s) && timeout 240 grep -q -m1 heartbeat <&3 && echo agent >&3"
    " && timeout 240 grep -q -m1 agent <&3)"
)
# Comes before libvirt's qemu-img. It stops half-way, with a true image, until it may go on.
HALF_WAY = """#!/bin/sh
if [ "$1" = convert ]; then
    for target; do :; done
    /usr/bin/qemu-img create -q -f qcow2 "$target" 8M
    qemu-io -f qcow2 -c 'write -q 0 4M' "$target"
    tries=0
    until [ -e /run/waiting-test ] || [ $tries = 2400 ]; do tries=$((tries + 1)); sleep 0.1; done
fi
exec /usr/bin/qemu-img "$@"
"""


@pytest.fixture
def repository(platform, tmp_path):
    found = Repository(platform, tmp_path, DEFAULTS)
    yield found
    found.close()
    found.declare([{"name": name, "state": "absent", "remove_disks": "owned"} for name in (DB, WEB)])
    assert not found.converge().get("failed")


def names(platform, host: str) -> list[str]:
    return platform.run(host, "virsh list --all --name").split()


def test_those_that_need_a_guest_go_on_when_it_has_come_up(platform, repository):
    one, other = platform.hypervisors[:2]
    db = {"name": DB, "hypervisor": one, "wait_for": "guest_agent", **GUEST}
    web = {"name": WEB, "hypervisor": other, "depends_on": [DB]}

    repository.declare([db, web])
    refused = repository.converge()
    assert f"'{DB}' on {one}: wait_for: guest_agent can never be seen; declare a channel" in refused["msg"]
    assert not {DB, WEB} & {*names(platform, one), *names(platform, other)}

    db["channels"] = [CHANNEL]
    repository.declare([{**db, "wait_timeout": 0.5}, web])
    late = repository.converge()
    assert f"'{DB}' on {one}: the guest runs, but within 0.5 s its guest agent has not connected" in late["msg"]
    assert late["summary"] == "failed 1, not begun 1" and late["vms"][0]["vm"]["state"] == "running"

    repository.declare([db, web])
    planned = repository.converge(check=True)
    assert planned["summary"] == "create 1, unchanged 1"
    repository.begin()
    repository.printed(f"{DB}: is waited for until its guest agent is connected")
    assert WEB not in names(platform, other)
    platform.run(one, OPEN % DB)
    done = repository.end()
    assert done["summary"] == "created 1, unchanged 1", done["msg"]

    again = repository.converge()
    assert not again["changed"] and again["summary"] == "unchanged 2"


def test_copies_of_disks_are_told_of(platform, repository):
    host = platform.hypervisors[0]
    golden, wrapper = "/vm/drives/waiting-golden.raw", "/usr/local/sbin/qemu-img"
    disk = {"name": "root", "clone": "waiting-golden.raw", "format": "qcow2"}
    repository.declare([{"name": DB, "hypervisor": host, "disks": [disk]}])
    try:
        platform.run(host, f"head -c 8M /dev/urandom > {golden} && virsh -q pool-refresh default")
        platform.run(host, f"cat > {wrapper} <<'END'\n{HALF_WAY}END\nchmod 755 {wrapper}")
        repository.begin()
        repository.printed(f"{DB}: copies its disks on {host}, [4-6][0-9] %, [34]MiB left$")
        platform.run(host, "touch /run/waiting-test")
        done = repository.end()
        assert done["summary"] == "created 1", done["msg"]
        image = f"/vm/drives/{DB}-root.qcow2"
        platform.run(host, f"qemu-img compare -q {image} {golden}")
    finally:
        platform.run(host, f"rm -f {wrapper} /run/waiting-test {golden} && virsh -q pool-refresh default")
