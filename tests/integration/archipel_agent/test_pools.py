# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pools that are no folder, in libvirt's driver for tests: the hosts of the lab have none."""

from __future__ import annotations

import pytest

libvirt = pytest.importorskip("libvirt")

from archipel_agent import volumes  # noqa: E402 - it imports libvirt

POOL = (
    "<pool type='logical'><name>vg</name><source><device path='/dev/sdx'/><name>vg</name></source>"
    "<target><path>/dev/vg</path></target></pool>"
)
UUID = "11111111-2222-4333-8444-555555555555"
OTHER = (
    "<domain type='test'><name>other</name><memory>1024</memory><os><type>hvm</type></os><devices>{}</devices></domain>"
)
DISK = "<disk type='volume' device='disk'><source pool='vg' volume='a'/><target dev='vda' bus='virtio'/></disk>"
BLOCK = "<disk type='block' device='disk'><source dev='/dev/vg/a'/><target dev='vda' bus='virtio'/></disk>"
EMPTY = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>"
MIB = 1 << 20


@pytest.fixture
def connection(tmp_path):
    (tmp_path / "node.xml").write_text("<node/>")
    # By the daemon: lxml takes over how libxml2 opens files, and crashes where libvirt opens one in its process.
    found = libvirt.open(f"test+unix://{tmp_path}/node.xml")
    found.storagePoolCreateXML(POOL)
    yield found
    found.close()


def make(connection, name):
    volumes.make(connection, {"pool": "vg", "name": name, "capacity": MIB, "format": "raw"})


def test_a_volume_is_known_by_its_device(connection):
    missing = volumes.look_up(connection, [("vg", "a")], [])[0][("vg", "a")]
    assert (missing.path, missing.exists, missing.is_file, missing.thick) == ("vg/a", False, False, True)
    assert missing.room > MIB
    make(connection, "a")
    found = volumes.look_up(connection, [("vg", "a")], [])[0][("vg", "a")]
    assert (found.path, found.format, found.exists, found.capacity) == ("/dev/vg/a", "raw", True, MIB)
    # The pool keeps all of it from the beginning.
    assert found.allocation == MIB


@pytest.mark.parametrize("disk, stays", [(EMPTY, False), (DISK, True), (BLOCK, True)])
def test_a_volume_goes_with_its_machine_unless_another_one_has_it(connection, disk, stays):
    make(connection, "a")
    make(connection, "b")
    connection.defineXML(OTHER.format(disk))
    found = volumes.removable(connection, UUID, [("vg", "a"), ("vg", "b")])
    assert found == {**({} if stays else {("vg", "a"): "/dev/vg/a"}), ("vg", "b"): "/dev/vg/b"}


class Guest:
    """A connection and a domain that runs with an empty drive, and a volume; it notes which disks are resized."""

    def __init__(self, connection):
        self._connection = connection
        self.resized = []

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def lookupByUUIDString(self, uuid):
        return self

    def isActive(self):
        return True

    def XMLDesc(self):
        return OTHER.format(EMPTY + DISK)

    def blockResize(self, disk, size, flags):
        self.resized.append((disk, size))


def test_a_volume_grows_in_the_guest_that_has_it(connection):
    make(connection, "a")
    guest = Guest(connection)
    volumes.grow(guest, UUID, "/dev/vg/a", {"pool": "vg", "name": "a", "capacity": 2 * MIB})
    assert guest.resized == [("vda", 2 * MIB)]
