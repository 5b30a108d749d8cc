# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moving: what speaks against it is told before anything moves, and guests under load move as the options say."""

from __future__ import annotations

import contextlib
import json
import re
import uuid as uuidlib
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from fault_world import PAUSED, RUNNING, World
from moving_guest import BUSY, SLOW, Guest, moving_guest
from people import Failed, until
from playing import play

FOLDER = "/var/lib/libvirt/migration-test"
PAGE_FAULTS = Path("/proc/sys/vm/unprivileged_userfaultfd")
POOL = f"<pool type='dir'><name>migration-test</name><target><path>{FOLDER}</path></target></pool>"

EMULATED = "ovmf swtpm swtpm-tools"
TPM = "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>"


@pytest.fixture(scope="module")
def world(platform):
    return World(platform)


@pytest.fixture
def guest(world):
    with moving_guest(world) as guest:
        yield guest


@pytest.fixture(scope="module")
def busy(world):
    """A guest under load, for all tests that ask for it; each turns it where it has moved it."""
    with moving_guest(world) as guest:
        guest.define(cmdline=BUSY)
        guest.boot()
        yield guest


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


@pytest.fixture(scope="module")
def emulation(world):
    """The hypervisors have firmware for EFI, and what emulates a TPM."""
    install = f"apt-get -q update && apt-get -q install -y --no-install-recommends {EMULATED}"
    for host in world.hosts:
        world.platform.run(host, f"dpkg --status {EMULATED} > /dev/null 2>&1 || ({install})")
        # A libvirtd that was there before this user runs swtpm as root, and the next one as this user.
        world.platform.run(host, "chown -R tss /var/lib/swtpm-localca")


def test_firmware_and_tpm_go_with_a_guest_that_runs_and_keep_one_that_is_off(guest, emulation):
    variables = f"/var/lib/libvirt/qemu/nvram/{guest.name}_VARS.fd"
    state = f"/var/lib/libvirt/swtpm/{guest.uuid}/tpm2/tpm2-00.permall"
    try:
        guest.define(TPM, firmware=" firmware='efi'")
        assert guest.ask("migrate_plan") == {}
        guest.start()
        guest.run(f"virsh -q destroy {guest.uuid}")
        mark = guest.name[-16:]
        guest.run(f"printf {mark} | dd of={variables} bs=1 seek=$(($(stat -c %s {variables}) - 16)) conv=notrunc")
        for action in ("migrate", "migrate_plan"):
            told = guest.refused(action)
            assert "its firmware's variables are in a file of this host, which would stay here" in told
            assert "the state of its TPM is in a folder of this host, which would be lost" in told
        assert guest.stands()[0] == [guest.here]
        guest.start()
        assert guest.ask("migrate_plan") == {}
        assert "it can move while it runs" in guest.refused("migrate_plan", off=True)
        guest.run(f"virsh -q suspend {guest.uuid}")  # or the firmware goes on to write
        keys = guest.run(f"md5sum < {state}")
        guest.ask("migrate", timeout=50)
        assert guest.stands() == ([guest.there], PAUSED)
        assert guest.run(f"md5sum < {state}", guest.there) == keys
        guest.run(f"virsh -q resume {guest.uuid}", guest.there)  # QEMU writes the variables down when it goes on
        until(lambda: guest.run(f"grep -c {mark} {variables}", guest.there, check=False) == "1\n")
    finally:
        guest.remove()
        guest.run(f"rm -f {variables}")


def test_variables_of_the_firmware_elsewhere_are_needed_as_disks_are(guest, emulation):
    path = f"/vm-{guest.name}.fd"
    code = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
    try:
        guest.run(f"touch {path}")
        guest.define(boot=f"{code}<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>{path}</nvram>")
        assert f"{guest.there} says: there is no file {path} here" in guest.refused("migrate_plan")
        guest.run(f"rm {path}")
        assert guest.ask("migrate_plan") == {}
    finally:
        guest.remove()
        guest.run(f"rm -f {path}")


def test_images_are_judged_where_the_machine_is_to_go_on(world, guest, log_in):
    volume = f"{guest.name}.qcow2"
    guest.run(f"virsh -q vol-create-as default {volume} 1M --format qcow2")
    try:
        guest.define(
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/vm/drives/{volume}'/>"
            "<target dev='vda' bus='virtio'/></disk>"
        )
        guest.start()
        assert guest.ask("migrate_plan") == {}
        # From the other host, where nothing locks it; QEMU here has read what it names.
        guest.run(f"qemu-img rebase -u -F raw -b /etc/hostname /vm/drives/{volume}", guest.there)
        for action in ("migrate", "migrate_plan"):
            assert (
                f"{guest.there} says: the move needs the permission 'host_access': disk[vda]: its backing file"
                " /etc/hostname is outside of the allowed folders"
            ) in guest.refused(action)
        assert guest.stands() == ([guest.here], RUNNING)
        asked = escape(json.dumps({"uuid": guest.uuid, "to": guest.there}))
        told = log_in("admin").act(world.jid(guest.here), "archipel:declaration", "migrate_plan", asked)
        assert json.loads(told.text) == {}
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


NEEDS = {"domain": _domain(), "live": True, "cpu": "", "host_cpu": False, "copies": [], "host_access": False}
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
def test_options_that_cannot_be_meant(busy, migration, message):
    assert message in busy.refused("migrate_plan", migration=migration)


def test_a_guest_under_load_is_given_up_in_time_and_runs_on(busy):
    told = busy.refused("migrate", timeout=4, migration=SLOW)
    assert f"{busy.name} stays on {busy.here}: the migration was not done within 4 s" in told
    assert busy.stands() == ([busy.here], RUNNING)
    told = busy.refused("migrate", timeout=60, migration={**SLOW, "timeout": 3})
    assert "was not done within 3 s" in told
    assert busy.stands() == ([busy.here], RUNNING)


@pytest.mark.parametrize(
    "migration",
    [
        {"bandwidth": 24, "timeout": 3, "timeout_action": "pause", "downtime": 1},
        {"auto_converge": True, "compression": "xbzrle", "bandwidth": 400, "downtime": 2000},
        {"compression": "mt", "downtime": 2000},
        {"parallel_connections": 2, "downtime": 2000},
    ],
    ids="+".join,
)
def test_a_guest_under_load_moves(busy, migration):
    told = busy.ask("migrate", timeout=50, migration=migration)["vm"]
    assert (told["hypervisor"], told["state"]) == (busy.there, "running")
    assert busy.stands() == ([busy.there], RUNNING)
    busy.turn()


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compression_that_needs_a_newer_libvirt(busy, compression):
    options = {"compression": compression, "parallel_connections": 2, "downtime": 2000}
    version = re.search(r"Running against daemon: (\d+)\.(\d+)", busy.run("virsh version --daemon"))
    if (int(version[1]), int(version[2])) < (9, 1):
        for action in ("migrate_plan", "migrate"):
            told = busy.refused(action, migration=options)
            assert f"migration.compression: {compression} needs libvirt 9.1 or newer on this host" in told
        assert busy.stands() == ([busy.here], RUNNING)
    else:
        busy.ask("migrate", timeout=50, migration=options)
        assert busy.stands() == ([busy.there], RUNNING)
        busy.turn()


@pytest.fixture
def page_faults():
    """For post-copy QEMU takes page faults of the guest upon itself, which the lab's kernel must allow it."""
    before = PAGE_FAULTS.read_text()
    PAGE_FAULTS.write_text("1")
    yield
    PAGE_FAULTS.write_text(before)


def test_a_guest_under_load_goes_on_at_the_target_at_once(busy, page_faults):
    """At this speed it would never be there otherwise."""
    postcopy = {**SLOW, "timeout": 3, "timeout_action": "postcopy"}
    told = busy.ask("migrate", timeout=50, migration=postcopy)["vm"]
    assert (told["hypervisor"], told["state"]) == (busy.there, "running")
    assert busy.stands() == ([busy.there], RUNNING)
    heard = len(busy.uptimes(busy.there))
    until(lambda: len(busy.uptimes(busy.there)) > heard)
    busy.turn()


def test_a_machine_that_was_paused_stays_paused(busy):
    busy.run(f"virsh -q suspend {busy.uuid}", busy.here)
    busy.ask("migrate", timeout=50, migration={"timeout": 40, "timeout_action": "pause"})
    assert busy.stands() == ([busy.there], PAUSED)
    busy.turn()
    busy.run(f"virsh -q resume {busy.uuid}")


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


def test_how_far_it_is_is_printed_while_it_moves(busy, platform, tmp_path):
    limits = {"bandwidth": "16MiB", "timeout": 8, "timeout_action": "pause"}
    done = play(platform, tmp_path / "play.yml", name=busy.name, hypervisor=busy.there, migration=limits)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith(busy.name)]
    assert told[0] == f"{busy.name}: moves from {busy.here} to {busy.there}"
    assert told[-1] == f"{busy.name}: has moved to {busy.there}"
    assert len(told) > 2
    for line in told[1:-1]:
        assert re.fullmatch(f"{re.escape(told[0])}, [0-9]+ %, [0-9]+MiB left", line)
    busy.turn()
