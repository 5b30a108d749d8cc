# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions of very different shape, through the daemon: the second run is unchanged."""

from __future__ import annotations

import pathlib
import re

import pytest

pytestmark = pytest.mark.usefixtures("anything_is_there")

ADMIN = "admin@archipel.test/test"
MEMORY = "<memory unit='MiB'>256</memory><vcpu>4</vcpu>"


def os(machine="q35", more="", arch="x86_64", attributes=""):
    return f"<os{attributes}><type arch='{arch}' machine='{machine}'>hvm</type>{more}</os>"


def disk(target, bus, more="", form="qcow2", attributes="type='file' device='disk'"):
    source = "" if "cdrom" in attributes or "floppy" in attributes else "<source file='/vm/iso/guest.iso'/>"
    driver, name = f"<driver name='qemu' type='{form}'/>", f"<target dev='{target}' bus='{bus}'/>"
    return f"<disk {attributes}>{driver}{source}{name}{more}</disk>"


def nics(*models):
    return "".join(
        f"<interface type='network'><source network='default'/><model type='{model}'/></interface>" for model in models
    )


ACPI = "<features><acpi/></features>"
HYPERV = (
    "<features><acpi/><apic/><hyperv mode='custom'><relaxed state='on'/><vapic state='on'/>"
    "<spinlocks state='on' retries='8191'/></hyperv><vmport state='off'/></features>"
    "<clock offset='localtime'><timer name='rtc' tickpolicy='catchup'/><timer name='hpet' present='no'/>"
    "<timer name='hypervclock' present='yes'/></clock>"
)
NUMA = (
    "<cpu mode='custom' match='exact'><model>qemu64</model><topology sockets='2' cores='2' threads='1'/><numa>"
    "<cell id='0' cpus='0-1' memory='131072' unit='KiB'/><cell id='1' cpus='2-3' memory='131072' unit='KiB'/></numa>"
    "</cpu>"
)
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
SPICE = (
    "<graphics type='spice' autoport='yes'><listen type='address' address='127.0.0.1'/><image compression='off'/>"
    "</graphics><video><model type='qxl'/></video><sound model='ich9'/>"
    "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>"
    "<redirdev bus='usb' type='spicevmc'/><redirdev bus='usb' type='spicevmc'/>"
)
PCI = (
    "<hostdev mode='subsystem' type='pci' managed='%s'><source><address domain='0' bus='%d' slot='0' function='0'/>"
    "</source></hostdev>"
)
USB = "<controller type='usb' index='0' model='%s'/>"
ROOT_PORT = "<controller type='pci' model='pcie-root-port'/>"
QEMU = " xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"

# name: (what stands in <domain/> besides the memory, the devices)
SHAPES = {
    "bare q35": (os(), ""),
    "bare pc": (os("pc"), ""),
    "old q35": (os("pc-q35-4.2"), nics("virtio")),
    "old pc": (os("pc-i440fx-2.11"), nics("rtl8139")),
    "efi": (os(attributes=" firmware='efi'") + ACPI, nics("virtio")),
    "efi without secure boot": (
        os(more="<firmware><feature enabled='no' name='secure-boot'/></firmware>", attributes=" firmware='efi'") + ACPI,
        "",
    ),
    "efi by path": (
        os(more="<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>") + ACPI,
        nics("e1000e"),
    ),
    "direct kernel": (os(more="<kernel>/vm/guest/vmlinuz</kernel><cmdline>a &lt;b&gt; 'c'</cmdline>"), ""),
    "boot menu": (os(more="<boot dev='cdrom'/><boot dev='hd'/><bootmenu enable='yes' timeout='3000'/>"), ""),
    "boot order by device": (os(), disk("vda", "virtio", "<boot order='2'/>") + nics("virtio")),
    "smbios": (
        os(more="<smbios mode='sysinfo'/>")
        + "<sysinfo type='smbios'><bios><entry name='vendor'>V</entry></bios><system><entry name='serial'>S</entry>"
        "</system></sysinfo>",
        "",
    ),
    "windows": (os() + HYPERV, disk("sda", "sata") + nics("e1000e") + SPICE),
    "windows pc": (os("pc") + HYPERV, disk("hda", "ide") + nics("e1000")),
    "numa": (os() + NUMA, ""),
    "numa on the host's nodes": (os() + NUMA + "<numatune><memory mode='strict' nodeset='0'/></numatune>", ""),
    "pinned": (os() + "<cputune><shares>512</shares><vcpupin vcpu='0' cpuset='0'/></cputune>", ""),
    "iothreads": (
        os() + "<iothreads>2</iothreads>",
        disk("vda", "virtio").replace("/><source", " iothread='1'/><source"),
    ),
    "host-model": (os() + "<cpu mode='host-model'/>", ""),
    "maximum": (os() + "<cpu mode='maximum'/>", ""),
    "named cpu": (os() + "<cpu mode='custom' match='exact'><model fallback='allow'>Nehalem</model></cpu>", ""),
    "cpu features": (
        os() + "<cpu mode='custom' match='exact'><model>qemu64</model><feature policy='disable' name='svm'/></cpu>",
        "",
    ),
    "single processors": (
        os() + "<vcpus><vcpu id='0' enabled='yes' hotpluggable='no'/><vcpu id='1' enabled='yes' hotpluggable='yes'/>"
        "<vcpu id='2' enabled='yes' hotpluggable='yes'/><vcpu id='3' enabled='yes' hotpluggable='yes'/></vcpus>",
        "",
    ),
    "memory slots": (
        "<maxMemory slots='4' unit='MiB'>1024</maxMemory>" + os() + NUMA,
        "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>",
    ),
    "balloon": (os(), "<memballoon model='virtio' autodeflate='on'><stats period='5'/></memballoon>"),
    "no balloon": (os(), "<memballoon model='none'/>"),
    "huge pages": (os() + "<memoryBacking><hugepages/><nosharepages/></memoryBacking>", ""),
    "shared memory": (os() + SHARED, ""),
    "virtiofs": (
        os() + SHARED,
        "<filesystem type='mount'><driver type='virtiofs' queue='1024'/><source dir='/vm'/><target dir='t'/>"
        "</filesystem>",
    ),
    "9p": (
        os(),
        "<filesystem type='mount' accessmode='mapped'><source dir='/vm'/><target dir='t'/><readonly/></filesystem>",
    ),
    "disks of every bus": (
        os("pc"),
        disk("vda", "virtio") + disk("hda", "ide") + disk("sda", "scsi") + disk("sdb", "sata") + disk("sdc", "usb"),
    ),
    "virtio scsi": (os(), "<controller type='scsi' model='virtio-scsi'/>" + disk("sda", "scsi") + disk("sdb", "scsi")),
    "lsi": (os("pc"), "<controller type='scsi' model='lsilogic'/>" + disk("sda", "scsi")),
    "disk options": (
        os(),
        disk("vda", "virtio", "<serial>a</serial><iotune><total_iops_sec>9</total_iops_sec></iotune>").replace(
            "type='qcow2'", "type='qcow2' cache='none' io='native' discard='unmap' detect_zeroes='unmap'"
        ),
    ),
    "read only and shared": (
        os(),
        disk("vda", "virtio", "<readonly/>", "raw") + disk("vdb", "virtio", "<shareable/>", "raw"),
    ),
    "cd and floppy": (
        os("pc"),
        disk("hdc", "ide", attributes="type='file' device='cdrom'", form="raw")
        + disk("fda", "fdc", attributes="type='file' device='floppy'", form="raw"),
    ),
    "block device": (
        os(),
        "<disk type='block' device='disk'><source dev='/dev/null'/><target dev='vda' bus='virtio'/></disk>",
    ),
    "ceph": (
        os(),
        "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='rbd' name='p/i'>"
        "<host name='m1' port='6789'/><host name='m2' port='6789'/></source><target dev='vda' bus='virtio'/></disk>",
    ),
    "nbd": (
        os(),
        "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='e'>"
        "<host name='h' port='10809'/></source><target dev='vda' bus='virtio'/></disk>",
    ),
    "iscsi": (
        os(),
        "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='iscsi' name='iqn.a:b/1'>"
        "<host name='h'/></source><target dev='vda' bus='virtio'/></disk>",
    ),
    "many interfaces": (os(), nics(*["virtio"] * 12)),
    "models of interfaces": (os("pc"), nics("virtio", "e1000", "rtl8139", "ne2k_pci", "pcnet")),
    "links": (
        os(),
        "<interface type='user'><model type='virtio'/></interface>"
        "<interface type='bridge'><source bridge='virbr0'/><model type='virtio'/></interface>"
        "<interface type='direct'><source dev='host0' mode='bridge'/><model type='virtio'/></interface>",
    ),
    "openvswitch": (
        os(),
        "<interface type='bridge'><source bridge='virbr0'/><virtualport type='openvswitch'>"
        "<parameters interfaceid='09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f'/></virtualport><vlan><tag id='7'/></vlan>"
        "</interface>",
    ),
    "interface options": (
        os(),
        "<interface type='network'><source network='default'/><model type='virtio'/><mtu size='1400'/>"
        "<driver name='vhost' queues='4'/><link state='down'/><bandwidth><inbound average='8'/></bandwidth>"
        "<filterref filter='clean-traffic'/></interface>",
    ),
    "spice": (os(), SPICE),
    "vnc": (os(), "<graphics type='vnc' port='5999' autoport='no' listen='0.0.0.0' keymap='de' passwd='geheim'/>"),
    "two displays": (os(), "<graphics type='vnc' autoport='yes'/><graphics type='spice' autoport='yes'/>"),
    "two cards": (
        os(),
        "<video><model type='virtio' heads='2' primary='yes'/></video><video><model type='qxl'/></video>",
    ),
    "no card": (os(), "<video><model type='none'/></video>"),
    "usb 2": (
        os("pc"),
        "".join(
            f"<controller type='usb' index='0' model='ich9-{model}'>{master}</controller>"
            for model, master in (
                ("ehci1", ""),
                ("uhci1", "<master startport='0'/>"),
                ("uhci2", "<master startport='2'/>"),
                ("uhci3", "<master startport='4'/>"),
            )
        ),
    ),
    "usb 3": (os(), USB % "qemu-xhci" + "<input type='tablet' bus='usb'/><hub type='usb'/>"),
    "no usb": (os(), USB % "none"),
    "pcie ports": (os(), "<controller type='pci' model='pcie-root'/>" + ROOT_PORT * 6 + nics("virtio")),
    "pci bridges": (os("pc"), "<controller type='pci' index='1' model='pci-bridge'/>" + nics("e1000")),
    "host devices": (os(), PCI % ("yes", 3) + PCI % ("no", 4)),
    "usb device": (
        os(),
        "<hostdev mode='subsystem' type='usb'><source startupPolicy='optional'><vendor id='0x1'/><product id='0x2'/>"
        "</source></hostdev>",
    ),
    "serial ports": (
        os(),
        "<serial type='pty'/><serial type='tcp'><source mode='bind' host='127.0.0.1' service='4100'/>"
        "<protocol type='telnet'/></serial><serial type='file'><source path='/tmp/engine-test'/></serial>",
    ),
    "consoles": (os(), "<console type='pty'/><console type='pty'><target type='virtio' port='1'/></console>"),
    "channels": (
        os(),
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<channel type='pty'><target type='virtio' name='b'/></channel>",
    ),
    "watchdog": (os(), "<watchdog model='i6300esb' action='poweroff'/>"),
    "rng": (
        os(),
        "<rng model='virtio'><rate period='2000' bytes='1234'/><backend model='random'>/dev/random</backend></rng>",
    ),
    "panic and vsock": (os("pc"), "<panic model='isa'/><vsock model='virtio'><cid auto='yes'/></vsock>"),
    "shared memory device": (os(), "<shmem name='s'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>"),
    "sound": (os("pc"), "<sound model='ac97'/><audio id='1' type='none'/>"),
    "smart card": (os(), "<smartcard mode='passthrough' type='spicevmc'/>" + SPICE),
    "lifecycle": (
        os() + "<on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>preserve</on_crash>"
        "<pm><suspend-to-mem enabled='no'/></pm>",
        "",
    ),
    "words": (
        "<title>T &amp; t</title><description>&lt;x&gt;</description><genid/>"
        "<metadata><a:x xmlns:a='urn:a'><a:y z='1'/></a:x></metadata>" + os(),
        "",
    ),
    "tuning": (
        os() + "<blkiotune><weight>500</weight></blkiotune><memtune><hard_limit unit='MiB'>512</hard_limit></memtune>",
        "",
    ),
    "qemu's own": (os() + "<qemu:commandline><qemu:arg value='-name'/><qemu:arg value='x'/></qemu:commandline>", ""),
    "seclabel": (os() + "<seclabel type='none' model='dac'/>", ""),
}


def test_there_are_enough():
    assert len(SHAPES) >= 60 and len(PRINTED) >= 15


@pytest.mark.parametrize("name", SHAPES)
def test_the_second_run_is_unchanged(hypervisor, run, machine, name):
    head, devices = SHAPES[name]
    wanted = f"<domain type='qemu'{QEMU}>{MEMORY}{head}<devices>{devices}</devices></domain>"
    keeps(run(hypervisor.apply(ADMIN, **machine, domain=wanted, state="present")))


# What virt-install 4.1 printed on Debian 12 for the options that stand in each file.
FOLDER = pathlib.Path(__file__).with_name("virt_install")
PRINTED = sorted(path.stem for path in FOLDER.glob("*.xml"))


@pytest.mark.parametrize("name", PRINTED)
def test_what_virt_install_prints(hypervisor, run, machine, name):
    wanted = re.sub("<(name|uuid)>[^<]*</\\1>", "", (FOLDER / f"{name}.xml").read_text(), count=2)
    keeps(run(hypervisor.apply(ADMIN, **machine, domain=wanted, state="present")))


def keeps(result):
    assert "error" not in result, result["error"]
    assert result.get("ignored", []) == [] and result["changed"]
    assert "geheim" not in str(result)
