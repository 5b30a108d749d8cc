# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""From options to domain XML: literal XML out."""

from __future__ import annotations

import json
import re

import pytest
from ansible_collections.archipel.platform.plugins.module_utils import _domain

from .specs import spec

UUID = "1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39"
IDENTITY = f"<name>web</name><uuid>{UUID}</uuid>"


def wanted(creating=False, **options):
    return _domain.wanted(spec(**{"name": "web", **options}), "web", UUID, creating)


def one_line(text):
    return re.sub(r">\s+<", "><", text.strip())


@pytest.mark.parametrize(
    ("options", "xml"),
    [
        (
            {"memory": "128MiB", "vcpus": 2},
            "<memory unit='KiB'>131072</memory><currentMemory unit='KiB'>131072</currentMemory>"
            "<vcpu current='2'>2</vcpu>",
        ),
        (
            {
                "title": "A",
                "on_crash": "coredump-destroy",
                "metadata": ["<m xmlns='urn:m'>1</m>"],
                "memory": "1GiB",
                "max_memory": "2GiB",
                "vcpus": 1,
                "max_vcpus": 4,
                "memory_backing": {"source": "memfd", "access": "shared", "hugepages": "2MiB"},
                "cpu": {"model": "EPYC", "sockets": 2, "cores": 2, "features": [{"name": "svm", "policy": "disable"}]},
                "numa": [{"cpus": "0-3", "memory": "2GiB"}],
                "numa_nodes": "0",
                "machine": "q35",
                "firmware": "efi",
                "boot": ["network", "hd"],
                "clock": {"offset": "localtime", "timers": [{"name": "hpet", "present": False}]},
            },
            """<title>A</title><on_crash>coredump-destroy</on_crash>
            <metadata><ns0:m xmlns:ns0='urn:m'>1</ns0:m></metadata>
            <memory unit='KiB'>2097152</memory><currentMemory unit='KiB'>1048576</currentMemory>
            <vcpu current='1'>4</vcpu>
            <memoryBacking><hugepages><page size='2048' unit='KiB' /></hugepages><source type='memfd' />
              <access mode='shared' /></memoryBacking>
            <cpu mode='custom'><model>EPYC</model>
              <topology sockets='2' cores='2' threads='1' /><feature policy='disable' name='svm' />
              <numa><cell id='0' cpus='0-3' memory='2097152' unit='KiB' /></numa></cpu>
            <numatune><memory nodeset='0' /></numatune>
            <os firmware='efi'><type machine='q35' /><boot dev='network' /><boot dev='hd' /></os>
            <clock offset='localtime'><timer name='hpet' present='no' /></clock>""",
        ),
        (
            {
                "disks": [
                    {"path": "/dev/sdb", "target": "vdb", "cache": "none", "io": "native", "serial": "x"},
                    {
                        "network": {
                            "protocol": "rbd",
                            "name": "pool/image",
                            "hosts": [{"name": "mon", "port": 6789}],
                            "username": "libvirt",
                            "secret_uuid": UUID,
                        },
                        "limits": {"total_iops_sec": 100},
                    },
                ],
                "networks": [
                    {"direct": "eth0", "direct_mode": "bridge", "link": "down"},
                    {"user": True, "filter": "f", "bandwidth": {"outbound": {"average": 10}}},
                ],
            },
            f"""<devices>
              <disk type='block' device='disk'><driver name='qemu' cache='none' io='native' /><source dev='/dev/sdb' />
                <target dev='vdb' /><serial>x</serial></disk>
              <disk type='network' device='disk'><source protocol='rbd' name='pool/image'>
                <host name='mon' port='6789' /><auth username='libvirt'><secret type='ceph' uuid='{UUID}' /></auth>
                </source><iotune><total_iops_sec>100</total_iops_sec></iotune></disk>
              <interface type='direct'><source dev='eth0' mode='bridge' />
                <link state='down' /></interface>
              <interface type='user'><filterref filter='f' />
                <bandwidth><outbound average='10' /></bandwidth></interface>
            </devices>""",
        ),
        (
            {
                "graphics": [{"port": 5901}],
                "video": {"model": "virtio", "heads": 2, "vram": "16MiB"},
                "serials": [{"type": "tcp", "host": "127.0.0.1", "port": 4000}],
                "channels": [{"name": "org.qemu.guest_agent.0"}, {"name": "b", "type": "pty"}],
                "watchdog": {"model": "none"},
                "rng": {"source": "/dev/urandom", "rate_bytes": 1024},
                "tpm": {"model": "tpm-crb", "version": "2.0"},
                "filesystems": [
                    {"source": "/vm/a", "target": "a"},
                    {"source": "/vm/b", "target": "b", "driver": "virtiofs"},
                    {"source": "/vm/c", "target": "c", "driver": "9p"},
                ],
                "host_devices": [{"pci": "0000:01:00.1"}, {"usb": "046D:c52b"}, {"mdev": UUID}],
            },
            f"""<devices>
              <graphics type='vnc' port='5901' autoport='no' />
              <video><model type='virtio' heads='2' vram='16384' /></video>
              <serial type='tcp'><source mode='bind' host='127.0.0.1' service='4000' /><protocol type='raw' /></serial>
              <channel><target type='virtio' name='org.qemu.guest_agent.0' /></channel>
              <channel type='pty'><target type='virtio' name='b' /></channel>
              <rng><rate bytes='1024' /><backend model='random'>/dev/urandom</backend></rng>
              <tpm model='tpm-crb'><backend type='emulator' version='2.0' /></tpm>
              <filesystem type='mount'><source dir='/vm/a' /><target dir='a' /></filesystem>
              <filesystem type='mount'><driver type='virtiofs' /><source dir='/vm/b' /><target dir='b' /></filesystem>
              <filesystem type='mount'><driver type='path' /><source dir='/vm/c' /><target dir='c' /></filesystem>
              <hostdev mode='subsystem' type='pci'>
                <source><address domain='0x0000' bus='0x01' slot='0x00' function='0x1' /></source></hostdev>
              <hostdev mode='subsystem' type='usb'>
                <source><vendor id='0x046d' /><product id='0xc52b' /></source></hostdev>
              <hostdev mode='subsystem' type='mdev'>
                <source><address uuid='{UUID}' /></source></hostdev>
            </devices>""",
        ),
        (
            {"kernel": "/vm/guest/vmlinuz", "initrd": "/vm/guest/initrd", "cmdline": "console=ttyS0 a=<b>"},
            "<os><kernel>/vm/guest/vmlinuz</kernel><initrd>/vm/guest/initrd</initrd>"
            "<cmdline>console=ttyS0 a=&lt;b&gt;</cmdline></os>",
        ),
        ({"kernel": ""}, "<os><kernel /></os>"),
        (
            {
                "disks": [
                    {"name": "root", "size": "20GiB"},
                    {"name": "data", "size": "1GiB", "format": "raw", "pool": "fast"},
                    {"volume": "shared.img", "bus": "scsi"},
                    {"path": "/vm/drives/old.img", "format": "raw", "bus": "ide"},
                ]
            },
            """<devices>
              <disk type='volume' device='disk'><source pool='default' volume='web-root.qcow2' /></disk>
              <disk type='volume' device='disk'><driver name='qemu' type='raw' />
                <source pool='fast' volume='web-data.raw' /></disk>
              <disk type='volume' device='disk'><source pool='default' volume='shared.img' />
                <target bus='scsi' /></disk>
              <disk type='file' device='disk'><driver name='qemu' type='raw' /><source file='/vm/drives/old.img' />
                <target bus='ide' /></disk>
            </devices>""",
        ),
        (
            {"cdrom": "guest.iso"},
            """<devices><disk type='file' device='cdrom'><source file='/vm/iso/guest.iso' /></disk></devices>""",
        ),
        (
            {"cdrom": "/srv/guest.iso"},
            """<devices><disk type='file' device='cdrom'><source file='/srv/guest.iso' /></disk></devices>""",
        ),
        (
            {"cdrom": ""},
            "<devices><disk type='file' device='cdrom' /></devices>",
        ),
        (
            {"networks": [{"network": "default"}, {"bridge": "br0", "mac": "52:54:00:AA:00:01", "model": "e1000e"}]},
            """<devices>
              <interface type='network'><source network='default' /></interface>
              <interface type='bridge'><mac address='52:54:00:aa:00:01' /><source bridge='br0' />
                <model type='e1000e' /></interface>
            </devices>""",
        ),
        (
            {"graphics": [{"type": "vnc", "password": "s3cret", "listen": "0.0.0.0"}, {"type": "spice"}]},
            """<devices>
              <graphics type='vnc' passwd='s3cret' listen='0.0.0.0'>
                <listen type='address' address='0.0.0.0' /></graphics>
              <graphics type='spice' />
            </devices>""",
        ),
        (
            {
                "xml": """<domain type="kvm"><memory>1024</memory><on_crash>preserve</on_crash><devices>
                    <disk type="file" device="cdrom"><target dev="sda" bus="sata"/><readonly/></disk>
                    <watchdog model="i6300esb"/>
                  </devices></domain>""",
                "memory": "1GiB",
                "cdrom": "a.iso",
                "domain_type": "qemu",
            },
            None,
        ),
    ],
)
def test_what_is_stated(options, xml):
    stated = wanted(**options)
    if xml is None:
        assert one_line(stated["domain"]) == one_line(
            f"""<domain type="qemu"><memory unit="KiB">1048576</memory><on_crash>preserve</on_crash><devices>
              <disk type="file" device="cdrom"><source file="/vm/iso/a.iso" /><target dev="sda" bus="sata" />
                <readonly /></disk><watchdog model="i6300esb" /></devices><name>web</name><uuid>{UUID}</uuid>
              <currentMemory unit="KiB">1048576</currentMemory></domain>"""
        )
    else:
        namespace = ' xmlns:ns0="urn:m"'  # ElementTree declares it at the root
        expected = "<domain>{}{}</domain>".format(IDENTITY, one_line(xml).replace("'", '"'))
        assert one_line(stated["domain"]).replace(namespace, "") == expected.replace(namespace, "")


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"state": "stopped"}, set()),
        ({"autostart": False}, {"autostart"}),
        ({"tags": []}, {"tags"}),
        ({"memory": "1GiB"}, {"domain"}),
        ({"disks": []}, {"domain", "exact"}),
        ({"disks": [{"name": "a", "size": "1GiB"}]}, {"domain", "exact", "volumes"}),
        ({"protected": False}, {"protected"}),
        ({"wait_for": "address", "state": "running"}, {"wait_for", "start_delay"}),
        ({"start_delay": 1, "state": "restarted"}, {"wait_for", "start_delay"}),
        ({"wait_for": "address", "start_delay": 1, "state": "stopped"}, set()),
        ({"wait_for": "address", "start_delay": 1, "state": "running", "wait": False}, set()),
        ({"state": "absent", "memory": "1GiB", "autostart": True}, {"remove_disks"}),
    ],
)
def test_what_is_not_stated_is_not_sent(options, keys):
    always = {"uuid", "name", "state", "apply", "allow_restart", "force", "shutdown_timeout", "wait", "wait_timeout"}
    assert set(wanted(**options)) - always == keys


def test_exact_lists_and_volumes():
    stated = wanted(
        disks=[
            {"name": "root", "size": "20GiB"},
            {"volume": "data", "size": "1GiB", "format": "raw", "pool": "fast"},
            {"volume": "x"},
        ],
        networks=[],
        graphics=[],
    )
    assert stated["exact"] == ["disk", "interface", "graphics"]
    assert stated["volumes"] == [
        {"pool": "default", "name": "web-root.qcow2", "capacity": 20 << 30, "format": "qcow2"},
        {"pool": "fast", "name": "data", "capacity": 1 << 30, "format": "raw"},
    ]


@pytest.mark.parametrize(
    ("options", "boot", "devices"),
    [
        ({}, "", ""),
        ({"kernel": "/k", "disks": [{"volume": "a"}]}, "", ""),
        (
            {"cdrom": "a.iso", "disks": [{"volume": "a"}], "networks": [{"network": "n"}]},
            "<boot dev='hd' /><boot dev='cdrom' /><boot dev='network' />",
            "",
        ),
        ({"cdrom": "a.iso"}, "<boot dev='cdrom' />", ""),
        (
            {"graphics": [{"type": "vnc"}]},
            "",
            "<input type='tablet' bus='usb' /><video><model type='vga' /></video>",
        ),
    ],
)
def test_what_a_new_machine_gets_besides(options, boot, devices):
    text = f"""<domain><os><type>hvm</type>{boot}</os><features><acpi /><apic /></features><clock offset='utc' />
      <devices><serial type='pty' /><console type='pty' />{devices}</devices></domain>"""
    assert one_line(wanted(creating=True, **options)["defaults"]) == one_line(text).replace("'", '"')


def test_the_drive_of_a_new_machine_has_a_bus():
    drive = '<disk type="file" device="cdrom"><source file="/vm/iso/a.iso" /><target bus="sata" /></disk>'
    assert drive in wanted(creating=True, cdrom="a.iso")["domain"]


@pytest.mark.parametrize(
    ("stated", "sent"),
    [
        ({}, {"files": {}}),
        (
            {"user_data": "#cloud-config\n", "network_config": {"version": 2}, "pool": "fast", "bus": "sata"},
            {
                "pool": "fast",
                "bus": "sata",
                "files": {
                    "user-data": "#cloud-config\n",
                    "meta-data": f'{{\n  "instance-id": "{UUID}",\n  "local-hostname": "web"\n}}\n',
                    "network-config": '{\n  "version": 2\n}\n',
                },
            },
        ),
        (
            {"meta_data": {"instance-id": "second", "local-hostname": "www"}},
            {
                "pool": "default",
                "bus": "",
                "files": {
                    "user-data": "#cloud-config\n",
                    "meta-data": '{\n  "instance-id": "second",\n  "local-hostname": "www"\n}\n',
                },
            },
        ),
    ],
)
def test_what_a_guest_is_told(stated, sent):
    assert wanted(cloud_init=stated)["cloud_init"] == sent
    assert "cloud_init" not in wanted(memory="1GiB")
    assert "cloud_init" not in wanted(cloud_init=stated, state="absent")


@pytest.mark.parametrize(
    ("name", "host"), [("Web 1", "Web-1"), ("a_b.example.org", "a-b.example.org"), ("-x-", "x"), ("ü", None)]
)
def test_the_name_of_a_host_follows_from_that_of_its_machine(name, host):
    sent = _domain.wanted(spec(name=name, cloud_init={"user_data": ""}), name, UUID, True)
    assert json.loads(sent["cloud_init"]["files"]["meta-data"]).get("local-hostname") == host
