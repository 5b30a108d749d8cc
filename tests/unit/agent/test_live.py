# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which differences a running guest can be given."""

from __future__ import annotations

import pytest

from archipel_agent import domain_xml, live
from archipel_agent.domain_xml import parse

PORTS = "<controller type='pci' index='0'/><controller type='pci' index='1'/>"
DISK = "<disk device='disk'><source file='/vm/a'/><target dev='vda' bus='virtio'/>%s</disk>"
PLACE = "<address type='pci' bus='0x0%d'/>"
NIC = "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/>%s</interface>"


def domain(devices="", head="<memory>1024</memory><currentMemory>1024</currentMemory><vcpu>2</vcpu>"):
    return parse(f"<domain>{head}<devices>{PORTS}{devices}</devices></domain>")


def found(before, after, allowed=lambda path: True):
    changes, running = live.changes(before, after, allowed)
    return [change.label for change in changes], domain_xml.equal(running, after)


@pytest.mark.parametrize(
    "before, after, labels, whole",
    [
        ("", DISK % (PLACE % 1), ["attach disk[vda]"], True),
        ("", DISK % (PLACE % 5), [], False),
        (DISK % "", "", ["detach disk[vda]"], True),
        (DISK.replace("virtio", "sata") % "", "", [], False),
        (DISK % "", DISK % "<iotune><total_iops_sec>5</total_iops_sec></iotune>", ["limit disk[vda]"], True),
        (DISK % "", DISK % "<driver cache='none'/>", [], False),
        (NIC % "", NIC % "<link state='down'/>", ["update interface[52:54:00:00:00:01]"], True),
        (NIC % "", NIC % "<model type='e1000'/>", [], False),
        (
            "<graphics type='vnc' passwd='a'/>",
            "<graphics type='vnc' passwd='b'/>",
            ["set the password of graphics[vnc]"],
            True,
        ),
        ("<graphics type='vnc' port='1'/>", "<graphics type='vnc' port='2'/>", [], False),
        ("<watchdog model='itco'/>", "", [], False),
    ],
)
def test_devices(before, after, labels, whole):
    assert found(domain(before), domain(after)) == (labels, whole)


def test_a_disk_comes_after_its_controller():
    scsi = f"<controller type='scsi' index='0' model='virtio-scsi'>{PLACE % 1}</controller>"
    disk = "<disk device='disk'><target dev='sda' bus='scsi'/><address type='drive' controller='0'/></disk>"
    assert found(domain(), domain(disk + scsi))[0] == ["attach controller[scsi,0]", "attach disk[sda]"]


@pytest.mark.parametrize(
    "head, labels, whole",
    [
        ("<memory>1024</memory><currentMemory>512</currentMemory><vcpu>2</vcpu>", ["set the memory"], True),
        ("<memory>2048</memory><currentMemory>2048</currentMemory><vcpu>2</vcpu>", [], False),
        (
            "<memory>1024</memory><currentMemory>1024</currentMemory><vcpu current='1'>2</vcpu>",
            ["set the processors"],
            True,
        ),
        ("<memory>1024</memory><currentMemory>1024</currentMemory><vcpu>4</vcpu>", [], False),
    ],
)
def test_sizes(head, labels, whole):
    assert found(domain(), domain(head=head)) == (labels, whole)


def test_what_nobody_stated_is_left_alone():
    assert found(domain(DISK % ""), domain(), lambda path: path != "devices/disk[vda]")[0] == []
