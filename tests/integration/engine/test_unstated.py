# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Machines of somebody else, declared in archipel_vm's options: what is not stated stays as it was made."""

from __future__ import annotations

import pytest
from test_typed import ADMIN, request

from archipel_agent import domain_xml

HEAD = (
    "<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>64</memory>%s<os><type arch='x86_64' "
    "machine='q35'>hvm</type></os>%s</domain>"
)
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
ADDRESS = "<address domain='0' bus='3' slot='0' function='0'/>"
E1000 = (
    "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/><model type='e1000'/>"
    "</interface>"
)
# name: (what stands in the domain, its devices, what is declared of it)
FOREIGN = {
    "an interface": ("", E1000, {"networks": [{"network": "default"}]}),
    "an interface by its address": ("", E1000, {"networks": [{"network": "default", "mac": "52:54:00:00:00:01"}]}),
    "the port of SPICE": (
        "",
        "<graphics type='spice' port='5999' autoport='no'/>",
        {"graphics": [{"type": "spice"}]},
    ),
    "the port of VNC": ("", "<graphics type='vnc' port='5999' autoport='no'/>", {"graphics": [{"type": "vnc"}]}),
    "a serial port": (
        "",
        "<serial type='tcp'><source mode='bind' host='127.0.0.1' service='4000'/><protocol type='telnet'/></serial>",
        {"serials": [{}]},
    ),
    "a channel": (
        "",
        "<graphics type='spice' autoport='yes'/>"
        "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>",
        {"channels": [{"name": "com.redhat.spice.0"}]},
    ),
    "random numbers": (
        "",
        "<rng model='virtio-transitional'><backend model='random'>/dev/urandom</backend></rng>",
        {"rng": {"source": "/dev/urandom"}},
    ),
    "a folder by 9p": (
        "",
        "<filesystem type='mount' accessmode='mapped'><source dir='/vm'/><target dir='vm'/></filesystem>",
        {"filesystems": [{"source": "/vm", "target": "vm"}]},
    ),
    "a folder by virtiofs": (
        SHARED,
        "<filesystem type='mount'><driver type='virtiofs' queue='64'/><source dir='/vm'/><target dir='vm'/>"
        "</filesystem>",
        {"filesystems": [{"source": "/vm", "target": "vm"}]},
    ),
    "a device of the host": (
        "",
        f"<hostdev mode='subsystem' type='pci' managed='no'><source>{ADDRESS}</source></hostdev>",
        {"host_devices": [{"pci": "0000:03:00.0"}]},
    ),
    "how strictly a processor is meant": (
        "<cpu mode='custom' match='minimum'><model fallback='allow'>Nehalem</model></cpu>",
        "",
        {"cpu": {"model": "Nehalem"}},
    ),
    "how strictly nodes of the host are meant": (
        "<numatune><memory mode='preferred' nodeset='0'/></numatune>",
        "",
        {"numa_nodes": "0"},
    ),
}


@pytest.fixture
def foreign(hypervisor, run, machine):
    """Defines a machine as somebody else would, and has it managed."""

    def define(head, devices):
        xml = HEAD % (machine["name"], machine["uuid"], head, f"<devices>{devices}</devices>")
        run(hypervisor.agent.libvirt.call(lambda connection: connection.defineXML(xml)))
        run(hypervisor.agent.manage(machine["uuid"], machine["name"]))
        return run(hypervisor.dump(machine["uuid"]))

    return define


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_stated_stays(hypervisor, run, machine, foreign, name):
    head, devices, given = FOREIGN[name]
    before = foreign(head, devices)
    result = run(hypervisor.apply(ADMIN, **request(machine, given, creating=False)))
    assert result == {"uuid": machine["uuid"]}
    assert run(hypervisor.dump(machine["uuid"])) == before


def test_a_new_interface_is_virtio_and_another_stays_what_it_is(hypervisor, run, machine, foreign):
    foreign("", E1000)

    def declare(*networks):
        result = run(hypervisor.apply(ADMIN, **request(machine, {"networks": list(networks)}, creating=False)))
        assert "error" not in result and "ignored" not in result, result
        domain = domain_xml.parse_domain(run(hypervisor.dump(machine["uuid"])))
        interfaces = domain.findall("devices/interface")
        return [
            (domain_xml.attribute_of(one, "source", "network"), domain_xml.attribute_of(one, "model", "type"))
            for one in interfaces
        ]

    assert declare({"network": "default"}, {"network": "lan"}) == [("default", "e1000"), ("lan", "virtio")]
    # It is the same card in another network.
    assert declare({"network": "front"}, {"network": "lan"}) == [("front", "e1000"), ("lan", "virtio")]
    assert declare({"network": "front", "model": "virtio"}, {"network": "lan"})[0] == ("front", "virtio")


def test_a_folder_is_shared_in_the_way_that_is_stated(hypervisor, run, machine, foreign):
    foreign(SHARED, "")

    def declare(**how):
        folder = {"source": "/vm", "target": "vm", **how}
        result = run(hypervisor.apply(ADMIN, **request(machine, {"filesystems": [folder]}, creating=False)))
        assert "error" not in result and "ignored" not in result, result
        domain = domain_xml.parse_domain(run(hypervisor.dump(machine["uuid"])))
        return domain_xml.attribute_of(domain, "devices/filesystem/driver", "type")

    assert [declare(), declare(driver="9p"), declare(), declare(driver="virtiofs")] == [
        "virtiofs",
        "path",
        "path",
        "virtiofs",
    ]
