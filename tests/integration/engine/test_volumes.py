# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Volumes that are made from others, and volumes that grow."""

from __future__ import annotations

import pytest

from archipel_agent import domain_xml, volumes

MIB = 1 << 20
DOMAIN = (
    "<domain type='qemu'><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
    "<disk type='volume' device='disk'><source pool='engine-test' volume='%s'/><target dev='vda' bus='virtio'/></disk>"
    "</devices></domain>"
)


@pytest.fixture
def golden(hypervisor, run, machine):
    """An image of 4 MiB that others are made from."""

    def make(connection):
        connection.storagePoolLookupByName("engine-test").createXML(
            f"<volume><name>{machine['name']}-gold</name><capacity>{4 * MIB}</capacity>"
            "<target><format type='qcow2'/></target></volume>"
        )

    run(hypervisor.agent.libvirt.call(make))
    return machine["name"] + "-gold"


def stated(machine, capacity, **origin):
    volume = {"pool": "engine-test", "name": machine["name"], "capacity": capacity, "format": "qcow2", **origin}
    return {**machine, "domain": DOMAIN % machine["name"], "volumes": [volume]}


def described(hypervisor, run, machine):
    def look(connection):
        return connection.storagePoolLookupByName("engine-test").storageVolLookupByName(machine["name"]).XMLDesc()

    return domain_xml.parse(run(hypervisor.agent.libvirt.call(look)))


@pytest.fixture
def half(hypervisor, run, machine):
    """A copy that broke off: what there is of it, and the mark beside it."""

    def make(connection):
        pool = connection.storagePoolLookupByName("engine-test")
        for name in (machine["name"], machine["name"] + volumes.MARK):
            pool.createXML(f"<volume><name>{name}</name><capacity>{MIB}</capacity></volume>")

    run(hypervisor.agent.libvirt.call(make))


@pytest.mark.parametrize("origin", ["clone", "backing", ""])
def test_half_a_copy_is_made_anew(hypervisor, run, machine, golden, half, origin):
    hypervisor.agent.store.begin_volume(machine["uuid"], "engine-test", machine["name"])
    wanted = stated(machine, 4 * MIB, **({origin: golden} if origin else {}))
    result = run(hypervisor.apply(**wanted, state="present"))
    assert result["actions"] == [f"create volume engine-test/{machine['name']}", "define"]
    assert int(described(hypervisor, run, machine).findtext("capacity")) == 4 * MIB
    pool = run(hypervisor.agent.libvirt.call(lambda c: c.storagePoolLookupByName("engine-test").listVolumes()))
    assert machine["name"] + volumes.MARK not in pool


def test_half_a_copy_that_somebody_else_began_is_neither_used_nor_removed(hypervisor, run, machine, golden, half):
    name = machine["name"]
    for action in ("plan", "apply"):
        for wanted in (stated(machine, 0, clone=golden), {**machine, "domain": DOMAIN % name}):
            error = run(hypervisor.one(action, **wanted, state="running"))["error"]
            assert error.startswith(f"the volume engine-test/{name} is a copy that is not at its end, as engine-test/")
    pool = run(hypervisor.agent.libvirt.call(lambda c: c.storagePoolLookupByName("engine-test").listVolumes()))
    assert {name, name + volumes.MARK} <= set(pool)


@pytest.mark.parametrize("capacity, found", [(0, 4), (8 * MIB, 8)])
def test_a_copy_of_an_image(hypervisor, run, machine, golden, capacity, found):
    wanted = stated(machine, capacity, clone=golden)
    result = run(hypervisor.apply(**wanted, state="present"))
    assert result["actions"] == [f"create volume engine-test/{machine['name']}", "define"]
    volume = described(hypervisor, run, machine)
    assert int(volume.findtext("capacity")) == found * MIB
    assert volume.find("backingStore") is None


def test_a_volume_over_an_image(hypervisor, run, machine, golden):
    assert "error" not in run(hypervisor.apply(**stated(machine, 0, backing=golden), state="running"))
    volume = described(hypervisor, run, machine)
    assert volume.findtext("backingStore/path") == f"/vm/engine-test/{golden}"
    assert int(volume.findtext("capacity")) == 4 * MIB


def test_an_image_that_is_not_there_or_too_large(hypervisor, run, machine, golden):
    result = run(hypervisor.plan(**stated(machine, 0, clone="nothing"), state="present"))
    assert result["error"] == "the volume engine-test/nothing does not exist, so no other can be made from it"
    result = run(hypervisor.plan(**stated(machine, MIB, clone=golden), state="present"))
    assert "is to be smaller than engine-test/" in result["error"]


def test_an_image_that_refers_to_the_host_is_not_copied(hypervisor, run, machine):
    def make(connection):
        connection.storagePoolLookupByName("engine-test").createXML(
            f"<volume><name>{machine['name']}-evil</name><capacity>{MIB}</capacity>"
            "<target><format type='qcow2'/></target>"
            "<backingStore><path>/etc/hostname</path><format type='raw'/></backingStore></volume>"
        )

    run(hypervisor.agent.libvirt.call(make))
    for origin in ("clone", "backing"):
        wanted = stated(machine, 0, **{origin: machine["name"] + "-evil"})
        for action in ("plan", "apply"):
            result = run(hypervisor.one(action, **wanted, state="present"))
            assert "host_access" in result["error"] and "backing file /etc/hostname" in result["error"]


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_a_disk_grows_and_does_not_shrink(hypervisor, run, machine, state):
    run(hypervisor.apply(**stated(machine, MIB), state=state))
    result = run(hypervisor.apply(**stated(machine, 3 * MIB), state=state))
    assert result["actions"] == [f"grow volume engine-test/{machine['name']} to 3MiB"]
    label = "engine-test/" + machine["name"]
    assert (result["before"], result["after"]) == ({"volumes": {label: "1MiB"}}, {"volumes": {label: "3MiB"}})
    assert int(described(hypervisor, run, machine).findtext("capacity")) == 3 * MIB
    if state == "running":
        size = run(hypervisor.agent.libvirt.call(lambda c: c.lookupByUUIDString(machine["uuid"]).blockInfo("vda")[0]))
        assert size == 3 * MIB
    result = run(hypervisor.plan(**stated(machine, MIB), state=state))
    assert "a volume is not shrunk" in result["error"]


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_a_disk_keeps_the_format_that_it_has(hypervisor, run, machine, state):
    wanted = stated(machine, MIB)
    run(hypervisor.apply(**wanted, state=state))
    path = f"/vm/engine-test/{machine['name']}"
    flipped = wanted["domain"].replace("<source", "<driver name='qemu' type='raw'/><source")
    for action in ("plan", "apply"):
        error = run(hypervisor.one(action, **{**wanted, "domain": flipped}, state=state))["error"]
        assert error == f"the disk on {path} has the format qcow2, not raw as stated; state format: qcow2"
    assert "type='qcow2'" in run(hypervisor.dump(machine["uuid"]))
