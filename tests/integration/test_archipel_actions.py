# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archipel's actions on one machine and on its host, one by one: what they do to libvirt, answer and refuse."""

from __future__ import annotations

import base64
import struct
from xml.etree import ElementTree as ET

import pytest
from people import CONTROL, DEFINITION, DOMAIN, HYPERVISOR, Failed

# archipel:vm:control


def test_autostart(managed, automation):
    for value, word in (("1", "enable"), ("0", "disable")):
        automation.act(managed.jid, CONTROL, "autostart", value=value)
        assert f"Autostart:      {word}" in managed.virsh("dominfo")
    for wrong in ("2", "yes", "", "-1", "9" * 5000):
        with pytest.raises(Failed, match="value is '.*' and must be a whole number from 0 to 1"):
            automation.act(managed.jid, CONTROL, "autostart", value=wrong)
    with pytest.raises(Failed, match="autostart needs the attribute value"):
        automation.act(managed.jid, CONTROL, "autostart")


def test_reboot(managed, automation):
    with pytest.raises(Failed) as raised:
        automation.act(managed.jid, CONTROL, "reboot")
    assert (raised.value.kind, raised.value.code) == ("libvirt-error-generic", 55)
    automation.act(managed.jid, CONTROL, "create")
    automation.act(managed.jid, CONTROL, "reboot")
    assert managed.virsh("domstate") == "running"


def test_memory_and_processors_of_a_machine_that_is_off(managed, automation):
    automation.act(managed.jid, CONTROL, "memory", value="65536")
    assert ET.fromstring(managed.virsh("dumpxml")).findtext("currentMemory") == "65536"
    for value, message in ((131073, "has 131072 KiB at most"), (9, "a whole number of at least 10")):
        with pytest.raises(Failed, match=message):
            automation.act(managed.jid, CONTROL, "memory", value=str(value))
    with pytest.raises(Failed, match="has 1 processors at most") as raised:
        automation.act(managed.jid, CONTROL, "setvcpus", value="2")
    assert raised.value.code == -1016
    with pytest.raises(Failed, match="a whole number of at least 1"):
        automation.act(managed.jid, CONTROL, "setvcpus", value="0")
    xml = DOMAIN.format(name=managed.name, uuid=managed.uuid, devices="").replace("<os>", "<vcpu>4</vcpu><os>")
    automation.act(managed.jid, DEFINITION, "define", xml)
    automation.act(managed.jid, CONTROL, "setvcpus", value="2")
    assert ET.fromstring(managed.virsh("dumpxml")).find("vcpu").get("current") == "2"


def test_memory_of_a_machine_that_runs(managed, automation):
    automation.act(managed.jid, CONTROL, "create")
    automation.act(managed.jid, CONTROL, "memory", value="98304")
    # It is the running machine that has it; the guest gives it back when it comes to it.
    assert ET.fromstring(managed.virsh("dumpxml --inactive")).findtext("currentMemory") == "131072"
    with pytest.raises(Failed, match="has 131072 KiB at most"):
        automation.act(managed.jid, CONTROL, "memory", value="262144")


def test_networkinfo(managed, automation):
    interface = "<interface type='network'><source network='default'/><alias name='ua-lan'/></interface>"
    managed.define(interface)
    with pytest.raises(Failed, match="is not running") as raised:
        automation.act(managed.jid, CONTROL, "networkinfo")
    assert raised.value.code == -1017
    automation.act(managed.jid, CONTROL, "create")
    (network,) = automation.act(managed.jid, CONTROL, "networkinfo")
    assert network.get("name") == "ua-lan"
    counters = {f"{way}_{what}" for way in ("rx", "tx") for what in ("bytes", "packets", "errs", "drop")}
    assert {name for name, value in network.attrib.items() if value.isdigit()} == counters


# What there is to know of a hypervisor


def test_screenshot(managed, automation):
    assert len(automation.act(managed.jid, CONTROL, "screenshot", size="full")) == 0
    automation.act(managed.jid, CONTROL, "create")
    for size, small in (("thumbnail", True), ("full", False)):
        picture = automation.act(managed.jid, CONTROL, "screenshot", size=size)[0]
        width, height = int(picture.get("width")), int(picture.get("height"))
        assert (width <= 216 and height <= 162) == small
        content = base64.b64decode(picture.text)
        # https://www.w3.org/TR/png/: the signature, and in the first chunk the size.
        assert content.startswith(b"\x89PNG\r\n\x1a\n") and struct.unpack(">II", content[16:24]) == (width, height)
    with pytest.raises(Failed, match="size is 'huge' and must be thumbnail or full"):
        automation.act(managed.jid, CONTROL, "screenshot", size="huge")


def test_facts_of_the_host(platform, managed, automation, hypervisor):
    address = automation.act(hypervisor, HYPERVISOR, "ip")[0].text
    assert address == platform.address(platform.hypervisors[0])
    migration = automation.act(hypervisor, HYPERVISOR, "migrationinfo")[0]
    assert migration.attrib == {"libvirt_uri": f"qemu+tls://{address}/system", "base_folder": "/vm"}
    node = automation.act(hypervisor, HYPERVISOR, "nodeinfo")[0]
    count = int(platform.run(platform.hypervisors[0], "nproc --all"))
    assert (node.get("model"), int(node.get("nrCPU")) >= count, int(node.get("memory")) > 0) == ("x86_64", True, True)
    for jid, namespace in ((hypervisor, HYPERVISOR), (managed.jid, DEFINITION)):
        assert automation.act(jid, namespace, "capabilities")[0].tag.endswith("capabilities")
