# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which volumes a declaration means, in pools of files and in others."""

from __future__ import annotations

import pytest

from archipel_agent import storage
from archipel_agent.domain_xml import attribute_of, parse
from archipel_protocol.errors import ArchipelError

FILE = "<disk type='file'>{}<source file='/vm/a.img'/><target dev='vda'/></disk>"
DEVICE = "<disk type='block'>{}<source dev='/dev/vg/a'/><target dev='vda'/></disk>"
VOLUME = "<disk type='volume'>{}<source pool='vg' volume='a'/><target dev='vda'/></disk>"
EMPTY = "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><target dev='sda'/></disk>"
NETWORK = "<disk type='network'><driver name='qemu' type='qcow2'/><source protocol='nbd'/><target dev='vdb'/></disk>"
RAW, QCOW2 = "<driver name='qemu' type='raw'/>", "<driver name='qemu' type='qcow2'/>"


def domain(*disks):
    return parse(f"<domain><devices>{''.join(disks)}</devices></domain>")


def formats(wanted):
    return [attribute_of(disk, "driver", "type") for disk in wanted.findall("devices/disk")]


@pytest.mark.parametrize("disk", [FILE, DEVICE, VOLUME])
@pytest.mark.parametrize("has, states", [(RAW, QCOW2), (QCOW2, RAW)])
def test_a_disk_that_is_there_has_its_format(disk, has, states):
    found = {("vg", "a"): storage.Found("", "raw", True)}
    wanted = domain(disk.format(""))
    storage.resolve(wanted, domain(disk.format(has)), found, {}, [])
    assert formats(wanted) == [parse(has).get("type")]
    with pytest.raises(ArchipelError, match="not (raw|qcow2) as stated; state format: "):
        storage.resolve(domain(disk.format(states)), domain(disk.format(has)), found, {}, [])


def test_a_disk_without_a_file_has_nothing_of_another_one():
    wanted = domain(NETWORK.replace(QCOW2, ""), DEVICE.format(""))
    storage.resolve(wanted, domain(EMPTY, NETWORK), {}, {}, [])
    assert formats(wanted) == ["", ""]
