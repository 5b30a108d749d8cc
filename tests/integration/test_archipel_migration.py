# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moving: what speaks against it is told before anything moves, and guests under load move as the options say."""

from __future__ import annotations

import contextlib
import json
import uuid as uuidlib
from xml.sax.saxutils import escape

import pytest
from fault_world import PAUSED, RUNNING, World
from people import Failed, until

# A guest that writes 64 MiB of its memory over and over, so that 4 MiB/s never catch up with it.
BUSY = "edd=off console=ttyS0 load=64"
SLOW = {"bandwidth": 4}
GUEST = (
    "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>192</memory><vcpu>1</vcpu>"
    "<os><type arch='x86_64' machine='pc'>hvm</type><kernel>/vm/guest/vmlinuz</kernel><initrd>/vm/guest/initrd</initrd>"
    "<cmdline>{cmdline}</cmdline></os><features><acpi/></features><devices>{devices}"
    "<serial type='file'><source path='/tmp/{name}.log'/></serial></devices></domain>"
)
FOLDER = "/var/lib/libvirt/migration-test"
POOL = f"<pool type='dir'><name>migration-test</name><target><path>{FOLDER}</path></target></pool>"


@pytest.fixture(scope="module")
def world(platform):
    return World(platform)


class Guest:
    """A domain that virsh defines on the first hypervisor and the agent there manages."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.here, self.there = world.hosts
        self.uuid = str(uuidlib.uuid4())
        self.name = "migration-test-" + self.uuid[:8]

    def run(self, command: str, host: str | None = None, check: bool = True) -> str:
        return self.world.platform.run(host or self.here, command, check)

    def define(self, devices: str = "", cmdline: str = "edd=off console=ttyS0") -> None:
        xml = GUEST.format(name=self.name, uuid=self.uuid, devices=devices, cmdline=cmdline)
        self.run(f"cat > /tmp/{self.name}.xml <<'END'\n{xml}\nEND\nvirsh -q define /tmp/{self.name}.xml")
        self.world.act(self.here, "manage", self.uuid)

    def start(self) -> None:
        """Returns when the guest works: it heard of its load before it told that it lives."""
        self.run(f"virsh -q start {self.uuid}")
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

    def heartbeats(self, host: str) -> int:
        return self.run(f"grep -c heartbeat /tmp/{self.name}.log", host, check=False).count("\n")

    def remove(self) -> None:
        for host in self.world.hosts:
            for command in ("destroy", "undefine --managed-save --snapshots-metadata"):
                self.world.virsh(host, f"{command} {self.uuid}")
            with contextlib.suppress(Failed):
                self.world.act(host, "unmanage", self.uuid)
            self.run(f"rm -f /tmp/{self.name}.*", host)


@pytest.fixture
def guest(world):
    guest = Guest(world)
    yield guest
    guest.remove()
    world.settled()


def test_everything_that_the_target_lacks_is_told_and_nothing_moves(world, guest):
    network = f"net-{guest.uuid[:8]}"
    iso = f"/vm-{network}.iso"
    guest.run(f"printf '<network><name>{network}</name></network>' > /tmp/net.xml; virsh -q net-define /tmp/net.xml")
    guest.run(f"virsh -q net-start {network}; cp /vm/iso/guest.iso {iso}")
    try:
        guest.define(
            f"<interface type='network'><source network='{network}'/></interface>"
            f"<disk type='file' device='cdrom'><source file='{iso}'/><target dev='hda' bus='ide'/><readonly/></disk>"
        )
        for state in ("stopped", "running"):
            if state == "running":
                guest.start()
            before = guest.stands()
            for action in ("migrate_plan", "migrate"):
                told = guest.refused(action)
                assert f"cannot move from {guest.here} to {guest.there}" in told
                assert f"{guest.there} says: " in told
                assert f"there is no network '{network}' here" in told
                assert f"there is no file {iso} here" in told
            assert guest.stands() == before and before[0] == [guest.here]
    finally:
        guest.remove()
        guest.run(f"virsh -q net-destroy {network}; virsh -q net-undefine {network}; rm -f {iso} /tmp/net.xml")


def test_what_keeps_a_machine_where_it_is(guest):
    volume = f"{guest.name}.qcow2"
    guest.run(f"virsh -q vol-create-as default {volume} 1M --format qcow2")
    try:
        guest.define(
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/vm/drives/{volume}'/>"
            "<target dev='vda' bus='virtio'/></disk>"
        )
        guest.run(f"virsh -q snapshot-create-as {guest.uuid} first")
        for action in ("migrate", "migrate_plan"):
            assert "it has 1 snapshots, which cannot move; delete them first" in guest.refused(action)
        guest.run(f"virsh -q snapshot-delete {guest.uuid} first")
        guest.start()
        guest.run(f"virsh -q managedsave {guest.uuid}")
        assert "its memory is saved in a file of this host, which would be lost" in guest.refused("migrate")
        guest.run(f"virsh -q managedsave-remove {guest.uuid}")
        assert guest.ask("migrate_plan") == {}
        assert guest.stands()[0] == [guest.here]
    finally:
        guest.remove()
        guest.run(f"virsh -q vol-delete --pool default {volume}")


def test_a_peer_that_is_out_of_reach(guest):
    """Both ways at once: this host's to its libvirt, and the XMPP server's to its agent."""
    guest.define()
    address = guest.world.platform.address(guest.there)
    guest.run(f"ip route add unreachable {address}")
    guest.run("systemctl stop archipel-agent", guest.there)
    try:
        told = guest.refused("migrate_plan")
        assert f"libvirt on {guest.there} is out of reach at " in told
        assert f"hypervisor {guest.there}'s agent is offline" in told
    finally:
        guest.run(f"ip route del unreachable {address}")
        guest.run("systemctl start archipel-agent", guest.there)
    until(lambda: _can(guest))


def _can(guest: Guest) -> bool:
    with contextlib.suppress(Failed):
        return guest.ask("migrate_plan") == {}
    return False


def _domain(devices: str = "", memory: str = "<memory unit='MiB'>64</memory>", machine: str = "pc") -> str:
    board = f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os>"
    return f"<domain type='qemu'>{memory}{board}<devices>{devices}</devices></domain>"


def _copy(path: str, capacity: int) -> list[dict]:
    return [{"target": "vda", "path": path, "capacity": capacity}]


NEEDS = {"domain": _domain(), "live": True, "cpu": "", "host_cpu": False, "copies": []}
# What no processor that QEMU emulates has, and none that is made.
IMPOSSIBLE = (
    "<cpu mode='custom' match='exact'><model>Skylake-Server</model><feature policy='require' name='3dnow'/></cpu>"
)
IMPOSSIBLE_HOST = "<cpu><arch>x86_64</arch><model>Skylake-Server</model><feature name='3dnow'/></cpu>"
VOLUME = "<disk type='volume'><source pool='{}' volume='none'/></disk>"
BLOCK = "<disk type='block'><source dev='/dev/none'/></disk>"
PCI = "<hostdev type='pci'><source><address domain='0xffff' bus='0xff' slot='0x1f' function='0x7'/></source></hostdev>"


@pytest.mark.parametrize(
    "needs, reason",
    [
        ({}, None),
        ({"cpu": IMPOSSIBLE}, "the processor here cannot stand in for the guest's: "),
        ({"cpu": IMPOSSIBLE_HOST, "host_cpu": True}, "the processor here cannot stand in for the guest's: "),
        ({"domain": _domain(machine="pc-none")}, "such a machine cannot run here: "),
        ({"domain": _domain(memory="<memory unit='TiB'>64</memory>")}, "the memory, 64TiB, is more than the "),
        ({"domain": _domain(VOLUME.format("none"))}, "there is no storage pool 'none' here"),
        ({"domain": _domain(VOLUME.format("default"))}, "the volume default/none does not exist here"),
        ({"domain": _domain(BLOCK)}, "there is no /dev/none here"),
        ({"domain": _domain(PCI)}, "there is no device pci_ffff_ff_1f_7 here"),
        ({"copies": _copy("/none/a", 1)}, "no active storage pool here has the folder /none"),
        ({"copies": _copy("/vm/drives/a", 1 << 60)}, "and the disks to copy need up to"),
    ],
)
def test_what_a_target_says_of_itself(world, log_in, needs, reason):
    here, there = world.hosts
    asked = {"uuid": str(uuidlib.uuid4()), "needs": {**NEEDS, **needs}}
    answer = log_in(here).act(world.jid(there), "archipel:handover", "query", escape(json.dumps(asked)))
    found = json.loads(answer.text)
    if reason is None:
        assert found == {"state": None, "problems": [], "copy": []}
    else:
        assert any(reason in problem for problem in found["problems"]), found


@pytest.mark.parametrize(
    "migration, message",
    [
        ({"bandwith": 1}, "migration.bandwith is not known"),
        ({"bandwidth": "1MiB"}, "migration.bandwidth must be a whole number"),
        ({"downtime": 0}, "migration.downtime: 0 is not between 1 and 2000000"),
        ({"timeout_action": "stop"}, "migration.timeout_action is 'stop'; one of abort, pause, postcopy is meant"),
        ({"compression": "zstd"}, "migration.compression: zstd needs parallel_connections"),
    ],
)
def test_options_that_cannot_be_meant(guest, migration, message):
    assert message in guest.refused("migrate_plan", migration=migration)


def test_a_guest_under_load_is_given_up_in_time_and_runs_on(guest):
    guest.define(cmdline=BUSY)
    guest.start()
    told = guest.refused("migrate", timeout=4, migration=SLOW)
    assert f"{guest.name} stays on {guest.here}: the migration was not done within 4 s" in told
    assert guest.stands() == ([guest.here], RUNNING)
    told = guest.refused("migrate", timeout=60, migration={**SLOW, "timeout": 3})
    assert "was not done within 3 s" in told
    assert guest.stands() == ([guest.here], RUNNING)


def test_a_guest_under_load_stands_still_until_it_has_moved(guest):
    guest.define(cmdline=BUSY)
    guest.start()
    migration = {"bandwidth": 24, "timeout": 3, "timeout_action": "pause", "downtime": 1}
    assert guest.ask("migrate", timeout=50, migration=migration)["vm"]["hypervisor"] == guest.there
    assert guest.stands() == ([guest.there], RUNNING)


def test_a_machine_that_was_paused_stays_paused(guest):
    guest.define(cmdline=BUSY)
    guest.start()
    guest.run(f"virsh -q suspend {guest.uuid}")
    guest.ask("migrate", timeout=50, migration={"timeout": 40, "timeout_action": "pause"})
    assert guest.stands() == ([guest.there], PAUSED)


@pytest.mark.parametrize(
    "migration",
    [
        {"auto_converge": True, "compression": "xbzrle", "bandwidth": 400, "downtime": 2000},
        {"parallel_connections": 2, "downtime": 2000},
    ],
    ids="+".join,
)
def test_options_under_load(guest, migration):
    guest.define(cmdline=BUSY)
    guest.start()
    assert guest.ask("migrate", timeout=50, migration=migration)["vm"]["state"] == "running"
    assert guest.stands() == ([guest.there], RUNNING)


def test_disks_that_are_not_shared_are_copied(world, guest):
    path = f"{FOLDER}/{guest.name}.qcow2"
    for host in world.hosts:
        guest.run(f'mkdir -p {FOLDER}; echo "{POOL}" > /tmp/pool.xml; virsh -q pool-create /tmp/pool.xml', host)
    try:
        guest.run(f"virsh -q vol-create-as migration-test {guest.name}.qcow2 8M --format qcow2")
        guest.run(f"qemu-io -f qcow2 -c 'write -P 0x42 1M 64k' {path}")
        guest.define(
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
            "<target dev='vda' bus='virtio'/></disk>"
        )
        copying = {"copy_storage": True}
        assert f"there is no file {path} here" in guest.refused("migrate_plan", migration=copying)  # it is off
        guest.start()
        assert f"there is no file {path} here" in guest.refused("migrate")
        guest.run("virsh -q pool-destroy migration-test", guest.there)
        assert "no active storage pool here has the folder" in guest.refused("migrate", migration=copying)
        guest.run("virsh -q pool-create /tmp/pool.xml", guest.there)
        assert guest.stands() == ([guest.here], RUNNING)
        guest.ask("migrate", timeout=50, migration=copying)
        assert guest.stands() == ([guest.there], RUNNING)
        assert (
            "pattern" not in guest.run(f"qemu-io -U -r -f qcow2 -c 'read -P 0x42 1M 64k' {path}", guest.there).lower()
        )
    finally:
        guest.remove()
        for host in world.hosts:
            guest.run(f"virsh -q pool-destroy migration-test; rm -rf {FOLDER} /tmp/pool.xml", host, check=False)
