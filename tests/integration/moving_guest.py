# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest that moves between hypervisors, at rest or under load."""

from __future__ import annotations

import contextlib
import re
import uuid as uuidlib

import pytest
from fault_world import World
from people import Failed, until

# A guest that writes 64 MiB of its memory over and over, so that 4 MiB/s never catch up with it.
BUSY = "edd=off console=ttyS0 load=64"
SLOW = {"bandwidth": 4}
GUEST = (
    "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>192</memory><vcpu>1</vcpu>"
    "<os{firmware}><type arch='x86_64' machine='pc'>hvm</type>{boot}"
    "<kernel>/vm/guest/vmlinuz</kernel><initrd>/vm/guest/initrd</initrd>"
    "<cmdline>{cmdline}</cmdline></os><features><acpi/></features><devices>{devices}"
    "<serial type='file'><source path='/tmp/{name}.log'/></serial></devices></domain>"
)


class Guest:
    """A domain that virsh defines on the first hypervisor and the agent there manages."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.here, self.there = world.hosts  # it moves from the one to the other
        self.uuid = str(uuidlib.uuid4())
        self.name = "migration-test-" + self.uuid[:8]

    def run(self, command: str, host: str | None = None, check: bool = True) -> str:
        return self.world.platform.run(host or self.here, command, check)

    def define(
        self, devices: str = "", cmdline: str = "edd=off console=ttyS0", firmware: str = "", boot: str = ""
    ) -> None:
        """``firmware`` is an attribute of <os/>, ``boot`` what it has besides."""
        parts = {"devices": devices, "cmdline": cmdline, "firmware": firmware, "boot": boot}
        xml = GUEST.format(name=self.name, uuid=self.uuid, **parts)
        self.run(f"cat > /tmp/{self.name}.xml <<'END'\n{xml}\nEND\nvirsh -q define /tmp/{self.name}.xml")
        self.world.act(self.here, "manage", self.uuid)

    def start(self) -> None:
        """Returns when QEMU runs."""
        self.run(f"virsh -q start {self.uuid}")

    def boot(self) -> None:
        """Returns when the guest works: it is under its load before it tells that it lives."""
        self.start()
        until(lambda: "heartbeat" in self.run(f"cat /tmp/{self.name}.log"), 120)

    def ask(self, action: str, **request) -> dict:
        return self.world.declare(self.here, action, {"uuid": self.uuid, "to": self.there, **request})

    def refused(self, action: str, **request) -> str:
        with pytest.raises(Failed) as caught:
            self.ask(action, **request)
        return caught.value.text

    def stands(self) -> tuple[list[str], int | None]:
        """(where libvirt has it, virDomainState)"""
        truth = self.world.truth()
        return truth.places(self.uuid), truth.state(self.uuid)

    def uptimes(self, host: str) -> list[int]:
        """The seconds that the guest told of while it ran on a host."""
        log = self.run(f"cat /tmp/{self.name}.log", host, check=False)
        return [int(found) for found in re.findall(r"heartbeat uptime=([0-9]+) ", log)]

    def turn(self) -> None:
        """What it has moved to is where it moves from."""
        self.here, self.there = self.there, self.here

    def remove(self) -> None:
        for host in self.world.hosts:
            for command in ("destroy", "undefine --managed-save --snapshots-metadata --nvram"):
                self.world.virsh(host, f"{command} {self.uuid}")
            with contextlib.suppress(Failed):
                self.world.act(host, "unmanage", self.uuid)
            self.run(f"rm -f /tmp/{self.name}.*", host)


@contextlib.contextmanager
def moving_guest(world: World):
    """A guest that is gone afterwards, when all is as it must be."""
    guest = Guest(world)
    try:
        yield guest
    finally:
        guest.remove()
    world.settled()
