# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes with a machine that goes, and what keeps it from going."""

from __future__ import annotations

import pytest
from conftest import remove

from archipel_agent import volumes as agent_volumes

DOMAIN = (
    "<domain type='qemu'><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>"
    "<devices>%s</devices></domain>"
)
DISK = (
    "<disk type='volume' device='disk'><source pool='engine-test' volume='%s'/><target dev='%s' bus='virtio'/></disk>"
)
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

    assert run(hypervisor.agent.libvirt.call(removable)) == own
    hypervisor.agent.managed.pop(other["uuid"])


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
