# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each way into the host that domain XML has, and what everyone may have."""

from __future__ import annotations

import posixpath

import pytest

from archipel_agent import host_access
from archipel_agent.domain_xml import parse, serialise

EMULATOR = "/usr/bin/qemu-system-x86_64"
LINKS = {"/vm/drives/link": "/etc/shadow", "/vm/drives/ok": "/vm/iso/a.iso"}


def check(xml):
    domain = parse(f"<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>{xml}</domain>")

    def resolve(path):
        return LINKS.get(path, posixpath.normpath(path))

    found = host_access.check(domain, {EMULATOR}, "/vm", resolve)
    # Who was told what is harmless finds the same.
    known = host_access.harmless(domain, "/vm", resolve)
    assert host_access.check(domain, {EMULATOR}, "/vm", resolve, known) == found
    return found


DEVICES = [
    f"<emulator>{EMULATOR}</emulator>",
    "<disk type='file'><driver name='qemu' type='qcow2'/><source file='/vm/drives/a'/><target dev='vda'/></disk>",
    "<disk type='file' device='disk'><source file='/vm/drives/ok'/><target dev='vda'/></disk>",
    "<disk type='file' device='cdrom'><source file='/vm/iso/a.iso'/><target dev='sda'/></disk>",
    "<disk type='file' device='cdrom'><target dev='sda'/></disk>",
    "<interface type='network'><source network='default'/><model type='virtio'/></interface>",
    "<interface type='bridge'><source bridge='br0'/><target dev='web0'/></interface>",
    "<graphics type='vnc' port='-1' autoport='yes' passwd='x'><listen type='address' address='0.0.0.0'/></graphics>",
    "<graphics type='spice'><listen type='network' network='default'/></graphics>",
    "<serial type='pty'><target port='0'/></serial>",
    "<console type='pty'/>",
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    "<channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>",
    "<redirdev bus='usb' type='spicevmc'/>",
    "<graphics type='spice'><gl enable='no'/></graphics>",
    "<input type='tablet' bus='usb'/>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "<rng model='virtio'><backend model='builtin'/></rng>",
    "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>",
    "<video><model type='virtio'/></video>",
    "<sound model='ich9'/>",
    "<audio id='1' type='none'/>",
    "<memballoon model='virtio'/>",
    "<watchdog model='itco' action='reset'/>",
    "<panic model='isa'/>",
    "<vsock model='virtio'><cid auto='yes'/></vsock>",
    "<memory model='dimm'><target><size>1</size></target></memory>",
    "<controller type='usb' model='qemu-xhci'/>",
    "<iommu model='intel'/>",
]
PARTS = [
    "<name>web</name><uuid>x</uuid><memory>1</memory><vcpu>1</vcpu><on_crash>destroy</on_crash><clock offset='utc'/>",
    "<metadata><a xmlns='urn:a' b='c'><d/></a></metadata>",
    "<os><type>hvm</type><boot dev='hd'/><kernel>/vm/k</kernel><initrd>/vm/i</initrd><cmdline>quiet</cmdline></os>",
    "<os firmware='efi'><type>hvm</type><loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
    "<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram></os>",
    "<memoryBacking><source type='memfd'/><access mode='shared'/><hugepages/></memoryBacking>",
    "<cpu mode='host-passthrough'/><features><acpi/><kvm><hidden state='on'/></kvm></features>",
    "<sysinfo type='smbios'><system><entry name='serial'>1</entry></system></sysinfo>",
]


@pytest.mark.parametrize("device", DEVICES)
def test_harmless_devices(device):
    assert check(f"<devices>{device}</devices>") == []


@pytest.mark.parametrize("part", PARTS)
def test_harmless_parts(part):
    assert check(part) == []


@pytest.mark.parametrize(
    "device, reason",
    [
        ("<emulator>/vm/evil</emulator>", "emulator"),
        ("<hostdev mode='subsystem' type='pci'><source><address bus='1'/></source></hostdev>", "hostdev"),
        ("<filesystem type='mount'><source dir='/vm/x'/><target dir='x'/></filesystem>", "filesystem[x]"),
        ("<disk type='block'><source dev='/dev/sda'/><target dev='vda'/></disk>", "type block"),
        ("<disk type='block'><source dev='/vm/sda'/><target dev='vda'/></disk>", "type block"),
        ("<disk type='network'><source protocol='nbd' name='x'/><target dev='vda'/></disk>", "type network"),
        ("<disk type='volume'><source pool='lvm' volume='x'/><target dev='vda'/></disk>", "type volume"),
        ("<disk type='dir'><source dir='/vm'/><target dev='vda'/></disk>", "directory"),
        ("<disk type='nvme'><source type='pci'/><target dev='vda'/></disk>", "type nvme"),
        ("<disk type='vhostuser'><source type='unix' path='/x'/><target dev='vda'/></disk>", "type vhostuser"),
        ("<disk type='file' device='lun'><source file='/vm/a'/><target dev='sda'/></disk>", "raw access"),
        ("<disk type='file' rawio='yes'><source file='/vm/a'/><target dev='sda'/></disk>", "raw access"),
        ("<disk type='file'><source file='/etc/shadow'/><target dev='vda'/></disk>", "/etc/shadow is outside"),
        ("<disk type='file'><source file='/vm/../etc/shadow'/><target dev='vda'/></disk>", "outside"),
        ("<disk type='file'><source file='/vmx/a'/><target dev='vda'/></disk>", "outside"),
        ("<disk type='file'><source file='/vm'/><target dev='vda'/></disk>", "outside"),
        ("<disk type='file'><source file='vm/a'/><target dev='vda'/></disk>", "outside"),
        ("<disk type='file'><source file='/vm/drives/link'/><target dev='vda'/></disk>", "outside"),
        (
            "<disk type='file'><source file='/vm/a'/><backingStore type='file'><source file='/etc/x'/></backingStore>"
            "<target dev='vda'/></disk>",
            "/etc/x is outside",
        ),
        (
            "<disk type='file'><source file='/vm/a'><seclabel relabel='no'/></source><target dev='vda'/></disk>",
            "<seclabel>",
        ),
        *(
            (
                f"<disk type='file'><driver type='{form}'/><source file='/vm/a'/><target dev='vda'/></disk>",
                f"the format {form} can refer to other files",
            )
            for form in ("vmdk", "vpc", "qed", "fat")
        ),
        (
            "<disk type='file'><driver name='qemu' type='qcow2'/><source file='/vm/a'/><target dev='vda'/>"
            "<backingStore type='file'><format type='vmdk'/><source file='/vm/b'/></backingStore></disk>",
            "the format vmdk",
        ),
        ("<interface type='direct'><source dev='eth0'/></interface>", "type direct"),
        ("<interface type='ethernet'/>", "type ethernet"),
        ("<interface type='user'/>", "type user"),
        ("<interface type='vhostuser'><source type='unix' path='/x'/></interface>", "type vhostuser"),
        ("<interface type='hostdev'/>", "type hostdev"),
        ("<interface type='bridge'><source bridge='b'/><script path='/x'/></interface>", "<script>"),
        ("<interface type='bridge'><source bridge='b'/><backend tap='/dev/x'/></interface>", "<backend>"),
        ("<serial type='file'><source path='/vm/x'/></serial>", "type file"),
        ("<serial type='dev'><source path='/dev/ttyS0'/></serial>", "type dev"),
        ("<serial type='pipe'><source path='/x'/></serial>", "type pipe"),
        ("<serial type='tcp'><source mode='bind' host='0' service='1'/></serial>", "type tcp"),
        ("<serial type='udp'/>", "type udp"),
        ("<serial type='unix'><source mode='bind' path='/run/x'/></serial>", "socket"),
        ("<serial type='pty'><log file='/etc/x'/></serial>", "log file"),
        ("<serial type='pty'><source path='/dev/sda'/></serial>", "/dev/sda"),
        ("<channel type='unix'><source mode='connect' path='/run/x'/><target type='virtio'/></channel>", "socket"),
        ("<parallel type='dev'><source path='/dev/parport0'/></parallel>", "type dev"),
        ("<smartcard mode='host'/>", "smart card"),
        ("<graphics type='sdl'/>", "display"),
        ("<graphics type='egl-headless'/>", "display"),
        ("<graphics type='vnc' socket='/run/x'/>", "socket"),
        ("<graphics type='vnc'><listen type='socket' socket='/run/x'/></graphics>", "socket"),
        ("<graphics type='spice'><gl enable='yes' rendernode='/dev/dri/renderD128'/></graphics>", "render node"),
        ("<graphics type='spice'><gl enable='yes'/></graphics>", "render node"),
        ("<video><model type='virtio'><acceleration rendernode='/dev/dri/x'/></model></video>", "render node"),
        ("<video><driver name='vhostuser'/></video>", "program"),
        ("<rng model='virtio'><backend model='random'>/dev/sda</backend></rng>", "entropy"),
        ("<rng model='virtio'><backend model='random'><x>/dev/sda</x></backend></rng>", "entropy"),
        (f"<emulator>{EMULATOR}<x>/../sh</x></emulator>", "emulator"),
        ("<rng model='virtio'><backend model='egd' type='tcp'/></rng>", "entropy"),
        ("<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>", "TPM"),
        ("<tpm><backend type='external'><source type='unix' path='/x'/></backend></tpm>", "TPM"),
        ("<shmem name='x'/>", "shmem[x]"),
        ("<lease><target path='/x'/></lease>", "lease"),
        ("<input type='passthrough'><source evdev='/dev/input/event1'/></input>", "input device"),
        ("<input type='evdev'><source dev='/dev/input/event1'/></input>", "input device"),
        ("<audio id='1' type='file' path='/etc/x'/>", "sound of type file"),
        ("<memory model='nvdimm'><source><path>/dev/pmem0</path></source></memory>", "memory in a file"),
        ("<interface type='bridge'><source bridge='b'/><rom file='/etc/x'/></interface>", "ROM"),
        (
            "<disk type='file'><source file='/vm/a'/><source file='/etc/shadow'/><target dev='vda'/></disk>",
            "<source> more than once",
        ),
        ("<crypto model='virtio'/>", "not known"),
        ("<somethingnew/>", "not known"),
        ("<qemu:device/>", "foreign"),
    ],
)
def test_devices_that_reach_the_host(device, reason):
    found = check(f"<devices>{device}</devices>")
    assert reason in "; ".join(found)


@pytest.mark.parametrize(
    "part, reason",
    [
        ("<qemu:commandline><qemu:arg value='-device'/></qemu:commandline>", "commandline"),
        ("<qemu:capabilities><qemu:add capability='x'/></qemu:capabilities>", "capabilities"),
        ("<qemu:override><qemu:device alias='x'/></qemu:override>", "override"),
        ("<os qemu:x='y'/>", "foreign attribute"),
        ("<os><kernel>/boot/vmlinuz</kernel></os>", "<kernel> is /boot/vmlinuz"),
        ("<os><kernel>/vm/iso<x>/../../etc/shadow</x></kernel></os>", "<kernel>"),
        ("<os><initrd>/etc/shadow</initrd></os>", "<initrd>"),
        ("<os><dtb>/etc/x</dtb></os>", "<dtb>"),
        ("<os><loader>/etc/x</loader></os>", "<loader>"),
        ("<os><loader>/usr/share/OVMF/../../../etc/x</loader></os>", "<loader>"),
        ("<os><nvram>/etc/x</nvram></os>", "<nvram>"),
        ("<os><nvram>/usr/share/OVMF/OVMF_VARS_4M.fd</nvram></os>", "<nvram>"),
        ("<os><nvram template='/var/lib/libvirt/qemu/nvram/db_VARS.fd'>/vm/a</nvram></os>", "<nvram>"),
        ("<os><nvram template='/etc/x'>/vm/a</nvram></os>", "<nvram>"),
        ("<os><nvram type='file'><source file='/etc/x'/></nvram></os>", "<nvram>"),
        ("<os><nvram type='block'><source dev='/dev/sda'/></nvram></os>", "<nvram>"),
        ("<os><acpi><table type='slic'>/etc/x</table></acpi></os>", "<os> has <acpi>"),
        ("<os><type>exe</type><init>/sbin/init</init></os>", "<os> has <type>"),
        ("<bootloader>/usr/bin/pygrub</bootloader>", "bootloader"),
        ("<seclabel type='none'/>", "seclabel"),
        ("<launchSecurity type='sev'/>", "launchSecurity"),
        ("<memoryBacking><source type='file'/></memoryBacking>", "memoryBacking"),
        ("<memoryBacking><locked/></memoryBacking>", "locked"),
        ("<sysinfo type='fwcfg'><entry name='opt/x' file='/etc/shadow'/></sysinfo>", "file of the host"),
        ("<somethingnew/>", "not known"),
    ],
)
def test_parts_that_reach_the_host(part, reason):
    assert reason in "; ".join(check(part))


@pytest.mark.parametrize("kind", ["lxc", "vz", "hyperv", ""])
def test_domains_that_share_the_hosts_kernel(kind):
    assert host_access.check(parse(f"<domain type='{kind}'/>"), set()) != []


def test_what_is_harmless_is_not_looked_at_again():
    harmless, reaching = (
        "<disk type='file'><source file='/vm/a'/><target dev='vda'/></disk>",
        "<crypto model='virtio'/>",
    )
    domain = parse(f"<domain type='kvm'><devices><emulator>/e</emulator>{harmless}{reaching}</devices></domain>")
    known = host_access.harmless(domain, "/vm", posixpath.normpath)
    assert known == {serialise(domain.find("devices/disk"))}
    # Whatever the disk leads to by now.
    found = host_access.check(domain, {"/e"}, "/vm", lambda path: "/etc/shadow", known)
    assert found == ["crypto[0]: the device reaches the host, or is not known to be harmless"]
    assert len(host_access.check(domain, {"/e"}, "/vm", lambda path: "/etc/shadow")) == 2
    assert host_access.check(domain, {"/other"}, "/vm", posixpath.normpath, known) != found
