# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random edits of a machine: each is foretold, done, done once, and moves no device that nobody named."""

from __future__ import annotations

import random

import pytest

from archipel_agent import domain_xml
from archipel_protocol import jids

BUSES = {"a": "virtio", "b": "virtio", "c": "sata", "d": "scsi", "e": "virtio"}


class Machine:
    """A declaration that is edited; a disk is its volume's name, an interface its network's."""

    def __init__(self, chance):
        self.chance = chance
        self.memory, self.vcpus, self.cmdline, self.cdrom = 128, 1, "", None
        self.disks, self.networks, self.graphics, self.password = ["a"], ["default"], ["vnc"], "one"

    def edit(self):
        chance = self.chance
        what = chance.choice(["memory", "vcpus", "cmdline", "cdrom", "disks", "networks", "graphics", "password"])
        if what == "disks":
            self.disks = chance.sample(sorted(BUSES), chance.randint(0, len(BUSES)))
        elif what == "networks":
            self.networks = chance.sample(["default", "back", "front", "lan"], chance.randint(0, 4))
        elif what == "graphics":
            self.graphics = chance.sample(["vnc", "spice"], chance.randint(0, 2))
        else:
            choices = {
                "memory": [64, 128, 256],
                "vcpus": [1, 2, 4],
                "cmdline": ["", "quiet", "console=ttyS0"],
                "cdrom": ["", "/vm/engine-test/a.iso", "/vm/engine-test/b.iso"],
                "password": ["one", "two"],
            }
            setattr(self, what, chance.choice(choices[what]))

    def wanted(self, name):
        disks = [
            f"<disk type='volume'><source pool='engine-test' volume='{name}-{disk}'/>"
            f"<target bus='{BUSES[disk]}'/></disk>"
            for disk in self.disks
        ]
        if self.cdrom is not None:
            source = f"<source file='{self.cdrom}'/>" if self.cdrom else ""
            disks.append(f"<disk type='file' device='cdrom'>{source}</disk>")
        networks = [
            f"<interface type='network'><source network='{network}'/><model type='virtio'/></interface>"
            for network in self.networks
        ]
        graphics = [f"<graphics type='{kind}' autoport='yes' passwd='{self.password}'/>" for kind in self.graphics]
        devices = [*disks, *networks, *graphics]
        self.chance.shuffle(devices)
        return {
            "domain": f"<domain><memory unit='MiB'>{self.memory}</memory><vcpu>{self.vcpus}</vcpu>"
            "<os><type arch='x86_64' machine='q35'>hvm</type><kernel>/vm/guest/vmlinuz</kernel>"
            f"<cmdline>{self.cmdline}</cmdline></os><devices>{''.join(devices)}</devices></domain>",
            "exact": ["disk", "interface", "graphics"],
            "volumes": [
                {"pool": "engine-test", "name": f"{name}-{disk}", "capacity": 1048576, "format": "qcow2"}
                for disk in self.disks
            ],
        }


def places(xml):
    """The address and, of an interface, the network of each device, by its key."""
    devices = domain_xml.devices_of(domain_xml.parse_domain(xml))
    return {
        key: (
            sorted(device.find("address").items()),
            domain_xml.attribute_of(device, "source", "network") or domain_xml.attribute_of(device, "source", "file"),
        )
        for key, device in zip(domain_xml.device_keys(devices), devices)
        if device.find("address") is not None
    }


@pytest.mark.parametrize("seed", range(8))
def test_random_edits(hypervisor, run, machine, seed):
    declared = Machine(random.Random(seed))
    before = {}
    for dummy in range(8):
        wanted = declared.wanted(machine["name"])
        result = run(hypervisor.apply(**machine, **wanted, state="present"))
        assert "error" not in result, (wanted, result)
        xml = run(hypervisor.dump(machine["uuid"]))
        definition = domain_xml.parse_domain(xml)
        found = {
            "memory": domain_xml.kibibytes(definition.find("memory")) // 1024,
            "vcpus": int(definition.findtext("vcpu")),
            "cmdline": domain_xml.text_of(definition, "os/cmdline"),
            "disks": sorted(
                disk.find("source").get("file").rpartition("-")[2]
                for disk in definition.findall("devices/disk[@device='disk']")
            ),
            "networks": sorted(source.get("network") for source in definition.findall("devices/interface/source")),
            "graphics": sorted(graphics.get("type") for graphics in definition.findall("devices/graphics")),
        }
        for name, value in found.items():
            stated = getattr(declared, name)
            assert value == (sorted(stated) if isinstance(value, list) else stated)
        assert {graphics.get("passwd") for graphics in definition.findall("devices/graphics")} <= {declared.password}
        macs = [mac.get("address") for mac in definition.findall("devices/interface/mac")]
        assert len(set(macs)) == len(macs)
        assert set(macs) <= {jids.vm_mac(machine["uuid"], index) for index in range(8)}
        after = places(xml)
        for key in before.keys() & after.keys():
            # A place may be taken by another disk or network; who stays, stays where it was.
            if before[key][1] == after[key][1]:
                assert before[key][0] == after[key][0], (key, wanted)
        before = after
        declared.edit()
