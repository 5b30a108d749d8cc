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


GIB = 1 << 30


def device(exists, **more):
    return storage.Found("/dev/vg/a" if exists else "vg/a", "raw" if exists else "", exists, is_file=False, **more)


def volume(name="a", pool="vg", **more):
    return {"pool": pool, "name": name, "capacity": GIB, "format": "qcow2", **more}


@pytest.mark.parametrize("exists", [True, False])
def test_a_volume_that_is_no_file_is_raw_and_stays_a_volume(exists):
    found = {("vg", "a"): device(exists, capacity=GIB, room=GIB)}
    wanted = domain(VOLUME.format(""))
    storage.resolve(wanted, None, found, {}, [volume()])
    (disk,) = wanted.findall("devices/disk")
    assert (disk.get("type"), formats(wanted)) == ("volume", ["raw"])
    made = storage.changes([volume()], found).make
    assert made == ({} if exists else {"vg/a": volume(format="raw")})
    with pytest.raises(ArchipelError, match="not qcow2 as stated; state format: raw"):
        storage.resolve(domain(VOLUME.format(QCOW2)), None, found, {}, [volume()])


def test_nothing_lies_over_a_volume_that_is_no_file():
    found = {("vg", "a"): device(False), ("vg", "gold"): device(True)}
    with pytest.raises(ArchipelError, match="^backing: gold: the pool 'vg' is no folder, .* state clone"):
        storage.changes([volume(backing="gold")], found)


def test_each_of_several_devices_grows():
    found = {("vg", name): storage.Found(f"/dev/vg/{name}", "raw", True, 512, is_file=False) for name in "ab"}
    grow = storage.changes([volume("a"), volume("b")], found).grow
    assert {path: growth.volume["name"] for path, growth in grow.items()} == {"/dev/vg/a": "a", "/dev/vg/b": "b"}


def file(name, exists=False, **more):
    return {("default", name): storage.Found(f"/vm/drives/{name}", "qcow2", exists, **more)}


GOLD = file("gold", exists=True, capacity=8 * GIB, allocation=2 * GIB)


@pytest.mark.parametrize(
    "stated, found, needs",
    [
        # A volume takes room as it fills.
        ([volume(pool="default", capacity=99 * GIB)], file("a", room=GIB), ""),
        ([volume(pool="default", backing="gold", capacity=0)], {**GOLD, **file("a", room=GIB)}, ""),
        ([volume(pool="default", clone="gold", capacity=0)], {**GOLD, **file("a", room=2 * GIB)}, ""),
        ([volume(pool="default", clone="gold", capacity=0)], {**GOLD, **file("a", room=GIB)}, "2GiB"),
        (
            [volume(name, pool="default", clone="gold", capacity=0) for name in "ab"],
            {**GOLD, **file("a", room=3 * GIB), **file("b", room=3 * GIB)},
            "4GiB",
        ),
        # One that is there takes no more.
        ([volume(pool="default", clone="gold", capacity=0)], {**GOLD, **file("a", exists=True)}, ""),
        ([volume()], {("vg", "a"): device(False, room=GIB, thick=True)}, ""),
        ([volume()], {("vg", "a"): device(False, room=GIB - 512, thick=True)}, "1GiB"),
        ([volume()], {("vg", "a"): device(False, room=0)}, ""),
    ],
)
def test_a_pool_has_the_room_for_what_is_written_at_once(stated, found, needs):
    if not needs:
        storage.changes(stated, found)
        return
    with pytest.raises(ArchipelError, match=f"^the storage pool '.*' has .* left, and {needs} are written at once"):
        storage.changes(stated, found)
