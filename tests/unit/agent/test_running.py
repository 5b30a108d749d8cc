# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a start adds is no difference; what somebody changed is one."""

from __future__ import annotations

import pytest

from archipel_agent import domain_xml, running
from archipel_agent.domain_xml import parse

DEFINITION = """
<domain type='qemu'><name>web</name><memory>1024</memory><vcpu>1</vcpu>
  <os firmware='efi'><type machine='pc-q35-7.2'>hvm</type></os><cpu mode='host-model'/>
  <devices>
    <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><target dev='sda' bus='sata'/></disk>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>
    <serial type='pty'><target port='0'/></serial>
    <graphics type='vnc' port='-1' autoport='yes'><listen type='address'/></graphics>
  </devices>
</domain>
"""
LIVE = """
<domain type='qemu' id='4'><name>web</name><memory>1024</memory><vcpu>1</vcpu><resource/>
  <os firmware='efi'><type machine='pc-q35-7.2'>hvm</type><loader type='pflash'>/usr/share/a</loader></os>
  <cpu mode='custom'><model>EPYC</model></cpu>
  <devices>
    <disk type='file' device='cdrom'><driver name='qemu'/><target dev='sda' bus='sata'/><alias name='sata0'/></disk>
    <interface type='network'><mac address='52:54:00:00:00:01'/>
      <source network='default' portid='1' bridge='virbr0'/><target dev='vnet3'/><alias name='net0'/></interface>
    <serial type='pty'><source path='/dev/pts/1'/><target port='0'/></serial>
    <graphics type='vnc' port='5900' autoport='yes' listen='127.0.0.1'>
      <listen type='address' address='127.0.0.1'/></graphics>
  </devices><seclabel type='dynamic'/>
</domain>
"""


def differences(live):
    definition = parse(DEFINITION)
    compared = running.comparable(parse(live), definition, parse("<cpu mode='host-model'/>"))
    return [change.path for change in domain_xml.changes(compared, definition)]


def test_what_a_start_adds():
    assert differences(LIVE) == []


def test_a_label_that_is_stated_is_no_difference():
    definition = parse(DEFINITION.replace("</devices>", "</devices><seclabel type='dynamic' model='dac'/>"))
    compared = running.comparable(parse(LIVE), definition, parse("<cpu mode='host-model'/>"))
    assert domain_xml.changes(compared, definition) == []


@pytest.mark.parametrize("live", ["", " tray='open'"])
@pytest.mark.parametrize("stated", ["", " tray='open'"])
def test_the_tray_is_the_guests_own(live, stated):
    definition = parse(DEFINITION.replace("bus='sata'", "bus='sata'" + stated))
    compared = running.comparable(parse(LIVE.replace("bus='sata'", "bus='sata'" + live)), definition, None)
    assert domain_xml.equal(compared.find("devices/disk"), definition.find("devices/disk"))


def test_what_is_the_same_has_the_same_text():
    """Or each plan would look for differences element by element."""
    definition = parse(DEFINITION)
    compared = running.comparable(parse(LIVE), definition, parse("<cpu mode='host-model'/>"))
    assert domain_xml.equal(compared, definition)


@pytest.mark.parametrize(
    "old, new, path",
    [
        (">1024<", ">512<", "memory"),
        ("network='default'", "network='other'", "devices/interface[52:54:00:00:00:01]/source/@network"),
        ("bus='sata'", "bus='ide'", "devices/disk[sda]/target/@bus"),
        ("7.2", "6.2", "os/type/@machine"),
    ],
)
def test_what_differs(old, new, path):
    assert differences(LIVE.replace(old, new)) == [path]
