# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes with a machine that goes, and what keeps it from going."""

from __future__ import annotations

import types

import pytest
from conftest import FOLDER, libvirt, remove

from archipel_agent import in_use, volumes as agent_volumes
from archipel_protocol import errors

DOMAIN = (
    "<domain type='qemu'><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>"
    "<devices>%s</devices></domain>"
)
DISK = (
    "<disk type='volume' device='disk'><source pool='engine-test' volume='%s'/><target dev='%s' bus='virtio'/></disk>"
)
NOBODY = "00000000-0000-4000-8000-000000000001"
CDROM = "<disk type='file' device='cdrom'><source file='/vm/engine-test/a.iso'/><target dev='hdc' bus='ide'/></disk>"


def volume(name, **origin):
    return {"pool": "engine-test", "name": name, "capacity": 1 << 20, "format": "qcow2", **origin}


def volumes(hypervisor, run):
    pool = run(hypervisor.agent.libvirt.call(lambda c: c.storagePoolLookupByName("engine-test").listVolumes()))
    return set(pool)


def test_owned_disks_go_and_others_stay(hypervisor, run, machine):
    name = machine["name"]
    run(
        hypervisor.agent.libvirt.call(
            lambda c: c.storagePoolLookupByName("engine-test").createXML(
                f"<volume><name>{name}-old</name><capacity>1048576</capacity></volume>"
            )
        )
    )
    disks = [DISK % (f"{name}-{part}", target) for part, target in (("new", "vda"), ("old", "vdb"), ("base", "vdc"))]
    made = [volume(f"{name}-new"), volume(f"{name}-base")]
    result = run(hypervisor.apply(**machine, domain=DOMAIN % ("".join(disks) + CDROM), volumes=made, state="present"))
    assert "xml" not in result["after"]
    # Somebody else's machine lies over one of them.
    other = {"uuid": machine["uuid"][:-2] + "00", "name": name + "-other"}
    over = volume(f"{name}-over", backing=f"{name}-base")
    run(hypervisor.apply(**other, domain=DOMAIN % (DISK % (f"{name}-over", "vda")), volumes=[over], state="present"))
    result = run(hypervisor.apply(**machine, state="absent", remove_disks="owned"))
    assert result["actions"] == [f"delete volume engine-test/{name}-new", "undefine"]
    assert {"a.iso", f"{name}-old", f"{name}-base", f"{name}-over"} <= volumes(hypervisor, run)
    assert f"{name}-new" not in volumes(hypervisor, run)
    run(hypervisor.apply(**other, state="absent", remove_disks="owned"))
    assert f"{name}-over" not in volumes(hypervisor, run)


class Late:
    """A connection whose listing of domains has one that goes before anybody can look at it."""

    def __init__(self, connection, uuid):
        self._connection = connection
        self._uuid = uuid

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def listAllDomains(self):
        found = self._connection.listAllDomains()
        remove(self._connection, self._uuid)
        return found


def test_what_goes_meanwhile_keeps_no_volume(hypervisor, run, machine):
    name = machine["name"]
    run(hypervisor.apply(**machine, domain=DOMAIN % (DISK % (name, "vda")), volumes=[volume(name)], state="present"))
    other = {"uuid": machine["uuid"][:-2] + "00", "name": name + "-other"}
    run(hypervisor.apply(**other, domain=DOMAIN % "", state="present"))
    own = [("engine-test", name)]

    def removable(connection):
        return agent_volumes.removable(Late(connection, other["uuid"]), machine["uuid"], own)

    assert list(run(hypervisor.agent.libvirt.call(removable))) == own
    hypervisor.agent.managed.pop(other["uuid"])


@pytest.fixture
def elsewhere(hypervisor, run):
    """A second pool, in a folder of the first one."""
    xml = f"<pool type='dir'><name>engine-test-2</name><target><path>{FOLDER}/second</path></target></pool>"

    def make(connection):
        connection.storagePoolCreateXML(xml, libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD)

    def unmake(connection):
        pool = connection.storagePoolLookupByName("engine-test-2")
        for one in pool.listAllVolumes():
            one.delete()
        pool.destroy()
        connection.storagePoolLookupByName("engine-test").refresh()

    run(hypervisor.agent.libvirt.call(make))
    yield "engine-test-2"
    run(hypervisor.agent.libvirt.call(unmake))


def test_a_volume_that_another_machine_names_by_its_pool_stays(hypervisor, run, machine):
    name = machine["name"]
    run(hypervisor.apply(**machine, domain=DOMAIN % (DISK % (name, "vda")), volumes=[volume(name)], state="present"))
    # Not by a declaration, which would have it name a file.
    theirs = (DOMAIN % (DISK % (name, "vda"))).replace("<memory", f"<name>{name}-other</name><memory", 1)
    other = run(hypervisor.agent.libvirt.call(lambda c: c.defineXML(theirs).UUIDString()))
    try:
        assert run(hypervisor.apply(**machine, state="absent", remove_disks="owned"))["actions"] == ["undefine"]
    finally:
        run(hypervisor.agent.libvirt.call(remove, other))
    assert name in volumes(hypervisor, run)


def test_what_a_volume_of_another_pool_lies_over_stays(hypervisor, run, machine, elsewhere):
    name = machine["name"]
    run(hypervisor.apply(**machine, domain=DOMAIN % (DISK % (name, "vda")), volumes=[volume(name)], state="present"))
    over = (
        f"<volume><name>{name}-over</name><capacity>1048576</capacity><target><format type='qcow2'/></target>"
        f"<backingStore><path>{FOLDER}/{name}</path><format type='qcow2'/></backingStore></volume>"
    )
    run(hypervisor.agent.libvirt.call(lambda c: c.storagePoolLookupByName(elsewhere).createXML(over) and None))
    assert run(hypervisor.apply(**machine, state="absent", remove_disks="owned"))["actions"] == ["undefine"]
    assert name in volumes(hypervisor, run)


def test_peers_are_asked_and_none_may_be_silent(hypervisor, run, machine, monkeypatch):
    """The agents' way to each other is a stand-in; test_archipel_storage.py goes it."""
    name = machine["name"]
    made = [volume(f"{name}-{part}") for part in "ab"]
    disks = "".join(DISK % (one["name"], f"vd{one['name'][-1]}") for one in made)
    run(hypervisor.apply(**machine, domain=DOMAIN % disks, volumes=made, state="present"))
    nodes = ("hv2", "hv3")
    monkeypatch.setattr(hypervisor.agent.config, "peers", {node: types.SimpleNamespace(node=node) for node in nodes})
    silent = {"hv3"}

    async def ask(agent, peer, action, content):
        assert (action, content["uuid"]) == ("use", machine["uuid"])
        if peer.node in silent:
            raise errors.ArchipelError("no answer")
        return {"used": [path for path in content["paths"] if path.endswith("-a")]}

    monkeypatch.setattr(in_use, "ask", ask)
    gone = {**machine, "state": "absent", "remove_disks": "owned"}
    for action in ("plan", "apply"):
        error = run(hypervisor.one(action, **gone))["error"]
        assert error.startswith("hv3, which may use volumes that are to be removed, does not say so: no answer")
        assert "remove_disks: none" in error and "assume_lost" in error
    assert {one["name"] for one in made} <= volumes(hypervisor, run)
    result = run(hypervisor.apply(**gone, assume_lost=["hv3"]))
    assert result["actions"] == [f"delete volume engine-test/{name}-b", "undefine"]
    assert f"{name}-a" in volumes(hypervisor, run)


def test_disks_stay_by_default(hypervisor, run, machine):
    name = machine["name"]
    run(hypervisor.apply(**machine, domain=DOMAIN % (DISK % (name, "vda")), volumes=[volume(name)], state="present"))
    assert run(hypervisor.apply(**machine, state="absent"))["actions"] == ["undefine"]
    assert name in volumes(hypervisor, run)


@pytest.mark.parametrize("part", ["domain", "defaults"])
def test_nobody_claims_a_volume_in_a_definition(hypervisor, run, machine, part):
    claim = (
        "<domain type='qemu'><metadata><m:machine xmlns:m='archipel:declaration'><m:volume pool='engine-test' "
        "name='a.iso'/></m:machine></metadata>"
    )
    forged = {"domain": DOMAIN % "", part: (DOMAIN % "").replace("<domain type='qemu'>", claim)}
    run(hypervisor.apply(**machine, **forged, state="present"))
    assert run(hypervisor.apply(**machine, state="absent", remove_disks="owned"))["actions"] == ["undefine"]
    assert "a.iso" in volumes(hypervisor, run)


@pytest.mark.parametrize("state, what", [("absent", "removed"), ("stopped", "stopped")])
def test_a_protected_machine_is_neither_stopped_nor_removed(hypervisor, run, machine, state, what):
    result = run(hypervisor.apply(**machine, domain=DOMAIN % "", protected=True, state="running"))
    assert result["after"]["protected"] is True
    asked = {**machine, "state": state, "force": True, "shutdown_timeout": 0}
    for action in ("plan", "apply"):
        error = run(hypervisor.one(action, **asked))["error"]
        assert f"is protected and not {what}" in error
    # What somebody declares besides does not end it.
    run(hypervisor.apply(**machine, domain="<domain><title>A</title></domain>", state="running"))
    assert "error" in run(hypervisor.one("apply", **asked))
    assert run(hypervisor.apply(**machine, protected=False, state="running"))["before"] == {"protected": True}
    assert "error" not in run(hypervisor.one("apply", **asked))


def test_a_file_that_another_host_removes_meanwhile_is_gone_and_no_fault(hypervisor, run, tmp_path):
    """Its name is still there where the folder is cached, as on NFS, and cannot be opened: as a link to nowhere."""
    file = tmp_path / "a.raw"
    xml = f"<pool type='dir'><name>engine-test-gone</name><target><path>{tmp_path}</path></target></pool>"

    def look(connection):
        pool = connection.storagePoolCreateXML(xml)
        try:
            file.write_bytes(bytes(512))
            pool.refresh()
            file.unlink()
            file.symlink_to("nowhere")
            with pytest.raises(libvirt.libvirtError, match="No such file") as raised:
                pool.storageVolLookupByName("a.raw").info()
            used = agent_volumes.used(connection, NOBODY, [str(file)])
            found, dummy = agent_volumes.look_up(connection, [("engine-test-gone", "a.raw")], ())
            return raised.value.get_error_code(), used, found["engine-test-gone", "a.raw"].exists
        finally:
            pool.destroy()

    assert run(hypervisor.agent.libvirt.call(look)) == (libvirt.VIR_ERR_SYSTEM_ERROR, set(), False)
