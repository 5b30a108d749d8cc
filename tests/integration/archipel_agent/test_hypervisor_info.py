# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of a hypervisor, with libvirt's test driver: its one pool, network and machine are always the same."""

from __future__ import annotations

import pytest

libvirt = pytest.importorskip("libvirt")

from archipel_agent import hypervisor_info  # noqa: E402 - it imports libvirt

POOL = "<pool type='dir'><name>off</name><target><path>/srv/off</path></target></pool>"


@pytest.fixture
def connection():
    opened = libvirt.open("test:///default")
    yield opened
    # The driver forgets only when the last connection of the process is closed, whosoever it is.
    for pool in opened.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE):
        pool.undefine()
    opened.close()


def test_the_test_drivers_host_is_described(connection):
    connection.storagePoolDefineXML(POOL)
    found = hypervisor_info.describe(connection)
    assert found["versions"]["driver"] == "TEST"
    assert found["versions"]["libvirt"].count(".") == 2
    assert found["cpu"]["count"] == 16
    assert found["cpu"]["assigned"] == connection.lookupByName("test").info()[3]
    assert found["memory"]["total"] == 3145728  # KiB; virNodeGetInfo of the test driver
    assert 0 < found["memory"]["free"] <= found["memory"]["total"]
    assert [(pool["name"], pool["state"]) for pool in found["pools"]] == [
        ("default-pool", "running"),
        ("off", "inactive"),
    ]
    assert found["pools"][1]["path"] == "/srv/off"
    assert found["networks"] == [{"name": "default", "active": True, "autostart": False, "forward": "nat"}]
    assert found["guests"][0]["os_type"] == "hvm"


def test_cd_images_are_volumes_that_are_called_so(connection):
    pool = connection.storagePoolLookupByName("default-pool")
    for name in ("b.iso", "a.ISO", "iso.raw"):
        xml = f"<volume><name>{name}</name><capacity unit='KiB'>8</capacity></volume>"
        pool.createXML(xml)
    found = hypervisor_info.describe(connection)["isos"]
    assert [(iso["pool"], iso["name"]) for iso in found] == [("default-pool", "a.ISO"), ("default-pool", "b.iso")]


def test_what_went_is_no_fault(connection):
    """A pool that was removed after it was listed."""
    pool = connection.storagePoolDefineXML(POOL)
    pool.undefine()
    assert hypervisor_info._pool(pool) is None


@pytest.mark.parametrize(("number", "version"), [(9000000, "9.0.0"), (11003002, "11.3.2"), (7002022, "7.2.22")])
def test_versions(number, version):
    assert hypervisor_info._version(number) == version
