# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""XML in, XML out."""

from __future__ import annotations

import pytest

from archipel_agent import domain_xml, merge, overlay
from archipel_agent.domain_xml import parse
from archipel_protocol import jids
from archipel_protocol.errors import MalformedRequest

UUID = "1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39"
HEAD = f"<uuid>{UUID}</uuid><name>web</name>"


def merged(existing, stated, exact=()):
    base = parse(f"<domain type='kvm'>{HEAD}{existing}</domain>")
    result = overlay.overlay(base, parse(f"<domain>{stated}</domain>"), "web", exact)
    assert [child.tag for child in result[:2]] == ["uuid", "name"]
    return "".join(domain_xml.serialise(child) for child in result[2:])


def same(first, second):
    return domain_xml.equal(parse(f"<x>{first}</x>"), parse(f"<x>{second}</x>"))


@pytest.mark.parametrize(
    "existing, stated, result",
    [
        # values
        ("<vcpu>1</vcpu>", "", "<vcpu>1</vcpu>"),
        ("<vcpu placement='static'>1</vcpu>", "<vcpu>2</vcpu>", "<vcpu placement='static'>2</vcpu>"),
        ("<vcpu current='3'>4</vcpu>", "<vcpu>2</vcpu>", "<vcpu>2</vcpu>"),
        ("<vcpu current='1'>4</vcpu>", "<vcpu>2</vcpu>", "<vcpu current='1'>2</vcpu>"),
        ("<vcpu>2</vcpu><vcpus><vcpu id='0'/><vcpu id='1'/></vcpus>", "<vcpu>1</vcpu>", "<vcpu>1</vcpu>"),
        (
            "<memory unit='KiB'>1024</memory><currentMemory unit='KiB'>1024</currentMemory>",
            "<memory unit='MiB'>2</memory>",
            "<memory unit='KiB'>2048</memory>",
        ),
        (
            "<memory unit='KiB'>2048</memory><currentMemory unit='KiB'>1024</currentMemory>",
            "<memory unit='MiB'>4</memory>",
            "<memory unit='KiB'>4096</memory><currentMemory unit='KiB'>1024</currentMemory>",
        ),
        (
            "<memory unit='KiB'>1024</memory><currentMemory unit='KiB'>1024</currentMemory>",
            "<memory unit='MiB'>2</memory><currentMemory unit='MiB'>1</currentMemory>",
            "<memory unit='KiB'>2048</memory><currentMemory unit='KiB'>1024</currentMemory>",
        ),
        # nodes of the host, which libvirt drops where it is to choose them
        (
            "<numatune><memory mode='preferred' placement='auto'/></numatune>",
            "<numatune><memory nodeset='0'/></numatune>",
            "<numatune><memory mode='preferred' nodeset='0'/></numatune>",
        ),
        # machine
        (
            "<os><type arch='x86_64' machine='pc-q35-6.2'>hvm</type></os>",
            "<os><type machine='q35'>hvm</type></os>",
            "<os><type arch='x86_64' machine='pc-q35-6.2'>hvm</type></os>",
        ),
        (
            "<os><type machine='pc-i440fx-7.2'>hvm</type></os>",
            "<os><type machine='pc'>hvm</type></os>",
            "<os><type machine='pc-i440fx-7.2'>hvm</type></os>",
        ),
        (
            "<os><type machine='pc-q35-6.2'>hvm</type></os>",
            "<os><type machine='pc-q35-7.2'>hvm</type></os>",
            "<os><type machine='pc-q35-7.2'>hvm</type></os>",
        ),
        # boot
        (
            "<os><type>hvm</type><kernel>/k</kernel><cmdline>a</cmdline></os>",
            "<os><kernel/><cmdline>b</cmdline></os>",
            "<os><type>hvm</type><kernel/><cmdline>b</cmdline></os>",
        ),
        (
            "<os><boot dev='hd'/><boot dev='network'/></os>",
            "<os><boot dev='cdrom'/></os>",
            "<os><boot dev='cdrom'/></os>",
        ),
        # a mode brings its own details
        (
            "<cpu mode='custom' match='exact'><model>qemu64</model><topology cores='2'/></cpu>",
            "<cpu mode='host-passthrough'/>",
            "<cpu mode='host-passthrough'><topology cores='2'/></cpu>",
        ),
        (
            "<cpu mode='host-model' check='partial'/>",
            "<cpu mode='host-model'/>",
            "<cpu mode='host-model' check='partial'/>",
        ),
        (
            "<clock offset='variable' adjustment='3'/>",
            "<clock offset='utc'/>",
            "<clock offset='utc'/>",
        ),
        (
            "<clock offset='utc'><timer name='rtc' tickpolicy='delay'/><timer name='pit'/></clock>",
            "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>",
            "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/><timer name='pit'/></clock>",
        ),
        # metadata belongs to whoever's namespace it is, and stays in its place
        (
            "<metadata><a xmlns='urn:a'><x/></a><b xmlns='urn:b'/></metadata>",
            "<metadata><a xmlns='urn:a'><y/></a></metadata>",
            "<metadata><a xmlns='urn:a'><y/></a><b xmlns='urn:b'/></metadata>",
        ),
    ],
)
def test_values(existing, stated, result):
    assert same(merged(existing, stated), result)


VDA = (
    "<disk type='file' device='disk'><driver type='qcow2' cache='none'/><source file='/vm/a'/>"
    "<target dev='vda' bus='virtio'/><address type='pci' slot='0x05'/></disk>"
)
CDROM = (
    "<disk type='file' device='cdrom'><source file='/vm/iso/a'/><target dev='sda' bus='sata'/>"
    "<address type='drive'/></disk>"
)
NIC = (
    "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/>"
    "<model type='virtio'/><address type='pci' slot='0x06'/></interface>"
)
VNC = (
    "<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1' passwd='p'>"
    "<listen type='address' address='127.0.0.1'/></graphics>"
)


@pytest.mark.parametrize(
    "existing, stated, exact, result",
    [
        # the same again, in the words of a person
        (
            VDA + NIC + VNC,
            "<graphics type='vnc' autoport='yes'/><interface type='network'><source network='default'/></interface>"
            "<disk device='disk'><source file='/vm/a'/><target dev='vda'/></disk>",
            ("disk", "interface", "graphics"),
            VDA + NIC + VNC,
        ),
        # disks
        (VDA + CDROM, "", ("disk",), CDROM),
        (VDA, "<disk><source file='/vm/b'/><target dev='vda'/></disk>", (), VDA.replace("/vm/a", "/vm/b")),
        (
            VDA,
            "<disk><source file='/vm/a'/><target dev='vda' bus='scsi'/></disk>",
            (),
            VDA.replace("'virtio'", "'scsi'").replace("<address type='pci' slot='0x05'/>", ""),
        ),
        (
            VDA,
            "<disk><source file='/vm/b'/><target dev='vdb'/></disk>",
            (),
            VDA + "<disk><source file='/vm/b'/><target dev='vdb'/></disk>",
        ),
        (VDA, "<disk><source file='/vm/a'/><target bus='virtio'/></disk>", ("disk",), VDA),
        (VDA, "<disk><source file='/vm/a'/></disk>", ("disk",), VDA),
        (
            VDA,
            "<disk><source file='/vm/b'/></disk>",
            (),
            VDA + "<disk><source file='/vm/b'/><target dev='vdb' bus='virtio'/></disk>",
        ),
        (
            VDA,
            "<disk><source file='/vm/a'/><target bus='sata'/></disk>",
            ("disk",),
            "<disk><source file='/vm/a'/><target bus='sata' dev='sda'/></disk>",
        ),
        # media
        (
            "",
            "<disk device='cdrom'/><disk device='floppy'/><disk><target bus='sata'/></disk>",
            (),
            "<disk device='cdrom'><target dev='sda' bus='sata'/></disk>"
            "<disk device='floppy'><target dev='fda' bus='fdc'/></disk>"
            "<disk><target bus='sata' dev='sdb'/></disk>",
        ),
        (
            CDROM,
            "<disk type='file' device='cdrom'><source file='/vm/iso/b'/><target dev='sda'/></disk>",
            (),
            CDROM.replace("iso/a", "iso/b"),
        ),
        (CDROM, "<disk type='file' device='cdrom'><source file='/vm/iso/a'/></disk>", (), CDROM),
        (
            CDROM,
            "<disk device='cdrom'><target dev='sda'/></disk>",
            (),
            CDROM.replace("<source file='/vm/iso/a'/>", ""),
        ),
        # interfaces
        (NIC, "", ("interface",), ""),
        (
            NIC,
            "<interface type='network'><source network='other'/></interface>",
            ("interface",),
            NIC.replace("default", "other"),
        ),
        (
            NIC,
            "<interface type='network'><mac address='52:54:00:00:00:02'/><source network='default'/></interface>",
            ("interface",),
            NIC.replace("00:01'", "00:02'"),
        ),
        (
            NIC,
            "<interface type='bridge'><source bridge='br0'/></interface>",
            (),
            NIC + f"<interface type='bridge'><mac address='{jids.vm_mac(UUID, 1)}'/><source bridge='br0'/></interface>",
        ),
        # graphics
        (
            VNC,
            "<graphics type='vnc' listen='0.0.0.0'/>",
            (),
            "<graphics type='vnc' port='-1' autoport='yes' passwd='p' listen='0.0.0.0'/>",
        ),
        (
            VNC,
            "<graphics type='vnc' port='5901' passwd='q'/>",
            (),
            VNC.replace("port='-1' autoport='yes'", "port='5901'").replace("'p'", "'q'"),
        ),
        (VNC, "<graphics type='spice' autoport='yes'/>", ("graphics",), "<graphics type='spice' autoport='yes'/>"),
        # controllers
        (
            "<controller type='usb' index='0' model='qemu-xhci'><address type='pci'/></controller>",
            "<controller type='usb' model='none'/>",
            (),
            "<controller type='usb' index='0' model='none'/>",
        ),
        (
            "<video><model type='cirrus' vram='16384' primary='yes'/><address type='pci'/></video>",
            "<video><model type='vga'/></video>",
            (),
            "<video><model type='vga'/><address type='pci'/></video>",
        ),
        # a console mirrors its serial port
        (
            "<serial type='pty'><target port='0'/></serial>"
            "<console type='pty'><target type='serial' port='0'/></console>",
            "<serial type='null'/>",
            (),
            "<serial type='null'><target port='0'/></serial>",
        ),
        # one more input, and the same
        (
            "<input type='mouse' bus='ps2'/>",
            "<input type='mouse' bus='usb'/>",
            (),
            "<input type='mouse' bus='ps2'/><input type='mouse' bus='usb'/>",
        ),
        ("<input type='tablet' bus='usb'/>", "<input type='tablet'/>", (), "<input type='tablet' bus='usb'/>"),
    ],
)
def test_devices(existing, stated, exact, result):
    found = merged(f"<devices>{existing}</devices>", f"<devices>{stated}</devices>", exact)
    # The order of the parts of a device means nothing.
    assert domain_xml.changes(parse(found), parse(f"<devices>{result}</devices>")) == []


def test_a_target_of_another_kind_is_refused():
    with pytest.raises(MalformedRequest, match="sda is a cdrom here, not a disk"):
        merged(f"<devices>{CDROM}</devices>", "<devices><disk device='disk'><target dev='sda'/></disk></devices>")


def test_a_machine_without_devices_gets_some():
    assert same(merged("", "<devices><rng/></devices>"), "<devices><rng/></devices>")
    assert merged("", "<devices/>") == ""


def test_another_board_forgets_addresses_and_controllers():
    result = merged(
        "<os><type machine='pc-i440fx-7.2'>hvm</type></os>"
        f"<devices>{VDA}<controller type='pci' index='0' model='pci-root'/></devices>",
        "<os><type machine='q35'>hvm</type></os>",
    )
    assert same(
        result,
        f"<os><type machine='q35'>hvm</type></os><devices>{VDA}</devices>".replace(
            "<address type='pci' slot='0x05'/>", ""
        ),
    )


def test_libvirts_own_devices_stay_in_an_exact_class():
    existing = parse(
        f"<domain>{HEAD}<devices><controller type='usb' index='0'/><controller type='scsi'/></devices></domain>"
    )
    implied = parse("<domain><devices><controller type='usb' index='0' model='x'/></devices></domain>")
    result = overlay.overlay(existing, parse("<domain/>"), "web", ["controller"], implied)
    assert [device.get("type") for device in result.find("devices")] == ["usb"]


def test_boot_orders_exclude_each_other():
    order = "<devices><disk><target dev='vda'/><boot order='1'/></disk></devices>"
    boot = "<os><boot dev='hd'/></os>"
    disk = "<devices><disk><target dev='vda'/></disk></devices>"
    assert same(merged(boot + disk, order), "<os/>" + order)
    assert same(merged("<os/>" + order, boot), boot + disk)


def test_creation_lays_what_is_stated_over_the_defaults():
    defaults = parse("<domain><os><type>hvm</type></os><vcpu>1</vcpu><devices><serial type='pty'/></devices></domain>")
    wanted = parse(
        "<domain type='qemu'><vcpu>2</vcpu>"
        "<devices><interface type='user'/><disk><target bus='sata'/></disk></devices></domain>"
    )
    result = overlay.create(UUID, "web", wanted, defaults)
    mac = jids.vm_mac(UUID, 0)
    assert domain_xml.equal(
        result,
        parse(
            f"<domain type='qemu'><name>web</name><uuid>{UUID}</uuid><os><type>hvm</type></os><vcpu>2</vcpu><devices>"
            f"<serial type='pty'/><interface type='user'><mac address='{mac}'/></interface>"
            "<disk><target bus='sata' dev='sda'/></disk></devices></domain>"
        ),
    )


@pytest.mark.parametrize(
    "stated, new, existing",
    [
        (
            "<interface type='user'><mac address='52:54:00:00:00:01'/>%s</interface>",
            "<model type='virtio'/>",
            "<model type='e1000'/>",
        ),
        ("<filesystem><target dir='a'/>%s</filesystem>", "<driver type='virtiofs'/>", "<driver type='path'/>"),
        ("<filesystem><target dir='a'/>%s</filesystem>", "<driver type='virtiofs'/>", "<driver queue='9'/>"),
        ("<serial%s><target port='0'/></serial>", " type='pty'", " type='null'"),
        ("<channel%s><target name='a'/></channel>", " type='unix'", " type='spicevmc'"),
        ("<rng%s/>", " model='virtio'", " model='virtio-transitional'"),
        ("<hostdev type='pci'%s><source/></hostdev>", " managed='yes'", " managed='no'"),
        ("<hostdev type='mdev'%s><source/></hostdev>", " model='vfio-pci'", " model='vfio-ap'"),
        ("<graphics type='spice'%s/>", " autoport='yes'", " port='5999'"),
        ("<graphics type='vnc'%s/>", "", " port='5999'"),
    ],
)
def test_what_is_not_stated_of_a_device_is_chosen_for_a_new_one_only(stated, new, existing):
    named, tag = f"<devices>{stated}</devices>", parse(stated % "").tag
    assert same(merged("<devices/>", named % "", [tag]), named % new)
    assert same(merged(named % existing, named % "", [tag]), named % existing)
    made = overlay.create(UUID, "web", parse(f"<domain>{named % ''}</domain>"), None, [tag])
    assert domain_xml.equal(made, parse(f"<domain><name>web</name>{HEAD.partition('<name>')[0]}{named % new}</domain>"))
    # What somebody has written as a whole is libvirt's own to complete.
    assert same(merged("<devices/>", named % ""), named % "")


@pytest.mark.parametrize(
    "existing, stated, kept",
    [
        ("total_bytes_sec total_bytes_sec_max read_iops_sec", "read_bytes_sec", "read_iops_sec read_bytes_sec"),
        ("read_bytes_sec write_bytes_sec_max read_iops_sec", "total_bytes_sec", "read_iops_sec total_bytes_sec"),
        ("read_bytes_sec", "total_iops_sec", "read_bytes_sec total_iops_sec"),
        ("total_iops_sec size_iops_sec", "total_iops_sec", "total_iops_sec size_iops_sec"),
    ],
)
def test_limits_that_exclude_each_other_take_each_others_place(existing, stated, kept):
    def disk(limits):
        tune = "".join(f"<{limit}>7</{limit}>" for limit in limits.split())
        return f"<devices><disk><target dev='vda'/><iotune>{tune}</iotune></disk></devices>"

    assert same(merged(disk(existing), disk(stated)), disk(kept))


def test_a_folder_that_is_shared_otherwise_keeps_nothing_of_the_old_way():
    folder = "<devices><filesystem><target dir='a'/>%s</filesystem></devices>"
    virtiofs, plan9 = "<driver type='virtiofs' queue='9'/><binary path='/x'/>", "<driver type='path'/>"
    assert same(merged(folder % virtiofs, folder % plan9), folder % plan9)
    assert same(merged(folder % "", folder % plan9), folder % plan9)


def test_addresses_are_never_given_twice():
    taken = jids.vm_mac(UUID, 0)
    interfaces = f"<interface type='user'/><interface type='user'><mac address='{taken}'/></interface>"
    result = overlay.create(UUID, "web", parse(f"<domain><devices>{interfaces}</devices></domain>"))
    addresses = [mac.get("address") for mac in result.iter("mac")]
    assert addresses == [jids.vm_mac(UUID, 1), taken]


def test_another_uuid_is_refused():
    with pytest.raises(MalformedRequest, match="has the UUID"):
        overlay.create(UUID, "web", parse("<domain><uuid>11111111-2222-4333-8444-555555555555</uuid></domain>"))


def test_identity_is_carried_over():
    existing = parse(
        f"<domain type='kvm'>{HEAD}<genid>abc</genid><os><type machine='pc-q35-6.2'>hvm</type></os>"
        f"<devices>{NIC}</devices></domain>"
    )
    wanted = parse(
        "<domain><genid/><os><type machine='q35'>hvm</type></os>"
        "<devices><interface type='network'><source network='default'/></interface></devices></domain>"
    )
    result = overlay.with_identity(existing, wanted, "web")
    assert domain_xml.text_of(result, "uuid") == UUID
    assert domain_xml.text_of(result, "genid") == "abc"
    assert domain_xml.attribute_of(result, "os/type", "machine") == "pc-q35-6.2"
    assert domain_xml.attribute_of(result, "devices/interface/mac", "address") == "52:54:00:00:00:01"


@pytest.mark.parametrize(
    "machine, family, pinned",
    [
        ("q35", "pc-q35", False),
        ("pc", "pc-i440fx", False),
        ("pc-q35-7.2", "pc-q35", True),
        ("pc-i440fx-2.11", "pc-i440fx", True),
        ("pc-q35-rhel9.2.0", "pc-q35", True),
        ("pc-q35-noble-v2", "pc-q35", True),
        ("virt", "virt", False),
        ("virt-8.0", "virt", True),
        ("s390-ccw-virtio-7.2", "s390-ccw-virtio", True),
        ("pseries", "pseries", False),
        ("isapc", "isapc", False),
        ("microvm", "microvm", False),
    ],
)
def test_families_of_machines(machine, family, pinned):
    assert (merge.machine_family(machine), merge.is_pinned(machine)) == (family, pinned)


def test_sound_through_spice_goes_with_spice():
    before = "<domain><name>a</name><devices><graphics type='spice'/><audio id='1' type='spice'/></devices></domain>"
    result = overlay.overlay(parse(before), parse("<domain><devices/></domain>"), "a", exact=["graphics"])
    assert result.find("devices/audio") is None


def test_a_drive_does_not_take_the_place_of_a_disk_that_goes():
    disk = "<disk device='disk'><target dev='sda' bus='sata'/></disk>"
    before = f"<domain><name>a</name><devices>{disk}</devices></domain>"
    stated = "<domain><devices><disk type='file' device='cdrom'/></devices></domain>"
    result = overlay.overlay(parse(before), parse(stated), "a", exact=["disk"])
    assert [disk.find("target").get("dev") for disk in result.iter("disk")] == ["sdb"]
