# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a declaration, and sizes as people write them."""

from __future__ import annotations

import pytest
from ansible_collections.archipel.platform.plugins.module_utils import _declarations, _sizes, _spec

from .specs import spec

LINKS = (
    "give one of network (one of libvirt's), bridge (one of the host's), direct (a network device of the host) and user"
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1B", 1),
        ("512MiB", 512 << 20),
        ("2GiB", 2 << 30),
        (" 2 GiB ", 2 << 30),
        ("1.5GiB", 3 << 29),
        ("2G", 2 << 30),
        ("64K", 64 << 10),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes(text, size):
    assert _sizes.parse(text) == size


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("512", "'512' has no unit; write 512MiB or 512GiB"),
        ("2GB", "'2GB' has the unknown unit 'GB'; known are B, KiB, MiB, GiB, TiB"),
        ("2gib", "'2gib' has the unknown unit 'gib'; known are B, KiB, MiB, GiB, TiB"),
        ("big", "'big' is not a size; write a number and a unit, such as 2GiB"),
        ("-1GiB", "'-1GiB' is not a size; write a number and a unit, such as 2GiB"),
        ("0GiB", "'0GiB' is no whole, positive number of bytes"),
        ("0.3B", "'0.3B' is no whole, positive number of bytes"),
    ],
)
def test_sizes_that_make_no_sense(text, reason):
    with pytest.raises(ValueError, match="^{}$".format(reason.replace("(", r"\("))):
        _sizes.parse(text)


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        ({}, []),
        ({"memory": "2GiB", "vcpus": 2, "cdrom": "a.iso", "kernel": "/k", "initrd": "/i", "cmdline": "c"}, []),
        ({"name": None}, ["name: one of name and uuid is required"]),
        ({"name": "a/b"}, ["name: 'a/b' must not be empty, have a '/', or begin or end with a blank"]),
        ({"name": " a"}, ["name: ' a' must not be empty, have a '/', or begin or end with a blank"]),
        ({"uuid": "1234"}, ["uuid: '1234' is not a UUID such as 1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39"]),
        ({"uuid": "1AD53F2F-5B06-5D4E-9D1C-4D4F4B0A6F39"}, []),
        ({"memory": "2"}, ["memory: '2' has no unit; write 2MiB or 2GiB"]),
        ({"memory": "1000B"}, ["memory: '1000B' is no whole number of KiB"]),
        ({"vcpus": 0}, ["vcpus: must be at least 1"]),
        ({"tags": ["a;b"]}, ["tags: the tag 'a;b' must not have a ';', which separates tags"]),
        ({"cdrom": ""}, []),
        ({"cdrom": "/srv/a.iso"}, []),
        (
            {"cdrom": "sub/a.iso"},
            ["cdrom: 'sub/a.iso' must be a file's name in /vm/iso, an absolute path, or empty for an empty drive"],
        ),
        ({"disks": [{"path": "/vm/drives/a.qcow2"}, {"volume": "b"}, {"name": "c", "size": "1GiB"}]}, []),
        (
            {"disks": [{"name": "root"}]},
            [
                "disks[0]: give path (an existing file), network (storage elsewhere), volume (an existing volume), or "
                "size, clone or backing (a volume to be created)"
            ],
        ),
        (
            {"disks": [{"size": "1GiB"}]},
            ["disks[0]: a volume that is created needs name or volume, to be called something"],
        ),
        (
            {"disks": [{"path": "/a", "size": "1GiB", "pool": "p"}]},
            ["disks[0]: path is an existing file or device, so pool and size cannot be given"],
        ),
        ({"disks": [{"path": "a"}]}, ["disks[0].path: 'a' must be absolute"]),
        ({"disks": [{"volume": "../a"}]}, ["disks[0].volume: '../a' must not be empty or have a '/'"]),
        (
            {"disks": [{"name": "a", "size": "1"}, {"name": "a", "size": "1GiB"}]},
            ["disks[0].size: '1' has no unit; write 1MiB or 1GiB", "disks[1]: has the same storage as disks[0]"],
        ),
        (
            {"disks": [{"volume": "web-a.qcow2"}, {"name": "a", "size": "1GiB"}]},
            ["disks[1]: has the same storage as disks[0]"],
        ),
        ({"networks": [{"network": "default"}, {"bridge": "br0", "mac": "52:54:00:00:00:01"}]}, []),
        (
            {"networks": [{}, {"network": "a", "bridge": "b"}]},
            [
                "networks[0]: " + LINKS,
                "networks[1]: " + LINKS,
            ],
        ),
        (
            {"networks": [{"network": "a", "mac": "52:54:00:1"}, {"network": "a", "mac": "01:00:5e:00:00:01"}]},
            [
                "networks[0].mac: '52:54:00:1' is not of the form 52:54:00:12:34:56",
                "networks[1].mac: '01:00:5e:00:00:01' is a multicast address",
            ],
        ),
        (
            {"networks": [{"network": "a", "mac": "52:54:00:00:00:0A"}, {"network": "b", "mac": "52:54:00:00:00:0a"}]},
            ["networks[1].mac: '52:54:00:00:00:0a' is that of networks[0]"],
        ),
        (
            {"networks": [{"network": "a", "mac": "41135040001"}]},
            ["networks[0].mac: '41135040001' was taken for a number; put the address into quotes"],
        ),
        ({"graphics": [{"type": "vnc"}, {"type": "spice"}]}, []),
        ({"graphics": [{"type": "vnc"}, {}]}, ["graphics: only one can be of type vnc"]),
        (
            {"graphics": [{"type": "spice", "password": "long enough"}, {"password": "too long!"}]},
            ["graphics[1].password: VNC knows passwords of at most 8 characters"],
        ),
        ({"kernel": "vmlinuz"}, ["kernel: 'vmlinuz' must be an absolute path on the hypervisor"]),
        ({"kernel": "", "cmdline": "quiet"}, ["cmdline: means nothing without kernel"]),
        ({"memory": "1GiB", "max_memory": "2GiB", "vcpus": 2, "max_vcpus": 4, "cpu": {"cores": 4}}, []),
        ({"memory": "2GiB", "max_memory": "1GiB"}, ["max_memory: '1GiB' is less than the memory, '2GiB'"]),
        ({"max_memory": "1GiB"}, ["max_memory: needs memory, to tell how much of it the guest has now"]),
        ({"vcpus": 4, "max_vcpus": 2}, ["max_vcpus: 2 is less than vcpus, 4"]),
        (
            {"vcpus": 4, "cpu": {"sockets": 2, "cores": 3}},
            ["cpu: sockets x cores x threads are 6, and the virtual processors at most 4"],
        ),
        (
            {"cpu": {"mode": "host-model", "model": "EPYC"}},
            ["cpu.model: means nothing in the mode host-model, which takes the host's processor"],
        ),
        ({"cpu": {"mode": "custom"}}, ["cpu.model: is needed in the mode custom"]),
        (
            {"numa": [{"cpus": "0-1", "memory": "1GB"}, {"cpus": "all", "memory": "1GiB"}], "numa_nodes": "x"},
            [
                "numa[0].memory: '1GB' has the unknown unit 'GB'; known are B, KiB, MiB, GiB, TiB",
                "numa[1].cpus: 'all' is no list of processors such as 0-3,8",
                "numa_nodes: 'x' is no list of the host's nodes such as 0-1",
            ],
        ),
        (
            {"memory": "3GiB", "numa": [{"cpus": "0", "memory": "1GiB"}, {"cpus": "1", "memory": "1GiB"}]},
            ["numa: the nodes have 2GiB in all, and must have what memory says, '3GiB'"],
        ),
        (
            {"memory": "1GiB", "max_memory": "2GiB", "numa": [{"cpus": "0", "memory": "1.5GiB"}]},
            ["numa: the nodes have 1536MiB in all, and must have what max_memory says, '2GiB'"],
        ),
        ({"memory": "1GiB", "max_memory": "2GiB", "numa": [{"cpus": "0", "memory": "2048MiB"}]}, []),
        ({"numa": [{"cpus": "0", "memory": "2GiB"}]}, []),
        ({"boot": ["hd", "cdrom", "hd"]}, ["boot: hd is there twice"]),
        ({"clock": {"offset": "timezone"}}, ["clock.timezone: goes with the offset timezone, and only with it"]),
        (
            {"metadata": ["<a/>", "<b", "<x:c xmlns:x='urn:c'/>"]},
            [
                "metadata[0]: <a> must be of an XML namespace of its own",
                "metadata[1]: is not well-formed: unclosed token: line 1, column 0",
            ],
        ),
        (
            {"disks": [{"volume": "a", "target": "vda"}, {"volume": "b", "target": "vda"}]},
            ["disks[1].target: 'vda' is that of disks[0]"],
        ),
        (
            {"disks": [{"name": "a", "clone": "gold", "backing": "gold"}]},
            ["disks[0]: clone is a copy, and backing an overlay; give one of them"],
        ),
        (
            {"disks": [{"name": "a", "backing": "gold", "format": "raw"}]},
            ["disks[0].backing: only qcow2 knows backing files, raw does not"],
        ),
        (
            {"disks": [{"volume": "a", "limits": {"total_iops_sec": 1, "read_iops_sec": 1, "read_bytes_sec": -1}}]},
            [
                "disks[0].limits.read_bytes_sec: must be at least 0, which is no limit",
                "disks[0].limits: total_iops_sec excludes read_iops_sec",
            ],
        ),
        (
            {"networks": [{"user": True, "direct_mode": "bridge", "bandwidth": {"inbound": {"peak": 0}}}]},
            [
                "networks[0].direct_mode: means nothing without direct",
                "networks[0].bandwidth.inbound: needs average, in KiB a second",
                "networks[0].bandwidth.inbound.peak: must be at least 1",
            ],
        ),
        ({"graphics": [{"port": 80}]}, ["graphics[0].port: 80 must be from 5900 to 65535"]),
        (
            {"serials": [{"type": "tcp", "host": "::1", "path": "/x"}]},
            ["serials[0]: a port of type tcp has no path", "serials[0]: a port of type tcp needs port"],
        ),
        ({"channels": [{"name": "a"}, {"name": "a"}]}, ["channels: the name 'a' is there twice"]),
        (
            {"rng": {"source": "random", "rate_period": 1}},
            [
                "rng.source: 'random' must be a device of the host such as /dev/urandom, builtin, or none",
                "rng.rate_period: means nothing without rate_bytes",
            ],
        ),
        ({"filesystems": [{"source": "a", "target": "t"}]}, ["filesystems[0].source: 'a' must be absolute"]),
        (
            {"host_devices": [{"pci": "1:0.0"}, {"usb": "1", "mdev": "x"}]},
            [
                "host_devices[0].pci: '1:0.0' is not an address such as 0000:01:00.0",
                "host_devices[1]: give one of pci, usb and mdev",
                "host_devices[1].usb: '1' is not vendor and product such as 046d:c52b",
                "host_devices[1].mdev: 'x' is not a UUID",
            ],
        ),
        ({"cloud_init": {}}, []),
        ({"cloud_init": {"user_data": ""}}, []),
        ({"cloud_init": {"user_data": "#!/bin/sh\n", "meta_data": {"a": 1}, "bus": "sata", "pool": "fast"}}, []),
        (
            {"cloud_init": {"user_data": {"users": ["s3cret"]}, "pool": "a/b"}},
            [
                "cloud_init.user_data: must be a text whose first line says what it is, such as #cloud-config or "
                "#!/bin/sh; make one of a dictionary with the filter to_nice_yaml",
                "cloud_init.pool: 'a/b' must not be empty or have a '/'",
            ],
        ),
        (
            {"cloud_init": {"pool": "fast", "bus": "sata"}},
            [
                "cloud_init.pool: means nothing without user_data, meta_data or network_config",
                "cloud_init.bus: means nothing without user_data, meta_data or network_config",
            ],
        ),
        ({"wait_timeout": 0}, ["wait_timeout: must be more than 0 seconds"]),
        ({"start_delay": -1}, ["start_delay: must be at least 0 seconds"]),
        ({"start_delay": 90000}, ["start_delay: must be at most 86400 seconds, a day"]),
        ({"xml": "<domain/>"}, []),
        ({"xml": "<network/>"}, ["xml: must be a <domain/>, not <network/>"]),
        ({"xml": "<domain>"}, ["xml: is not well-formed: no element found: line 1, column 8"]),
        (
            {"xml": "<domain><name>db</name></domain>"},
            ["xml: its <name> is 'db', and the option name is 'web'"],
        ),
    ],
)
def test_problems(options, problems):
    assert _spec.problems(spec(**{"name": "web", **options})) == problems


def test_all_problems_of_a_fleet_are_told_at_once():
    specs = [spec(name="a", memory="1"), spec(name="b"), spec(name="a", vcpus=0)]
    assert _declarations.problems(specs, ["vms[0]", "vms[1]", "vms[2]"]) == [
        "vms[0] (a): memory: '1' has no unit; write 1MiB or 1GiB",
        "vms[2] (a): vcpus: must be at least 1",
        "vms[2] (a): name 'a' is that of vms[0] too",
    ]


@pytest.mark.parametrize(
    ("migration", "problems"),
    [
        ({}, []),
        ({"bandwidth": "100MiB", "timeout": 30, "timeout_action": "postcopy", "downtime": 300}, []),
        ({"bandwidth": "100"}, ["migration.bandwidth: '100' has no unit; write 100MiB or 100GiB"]),
        ({"bandwidth": "1.5MiB"}, ["migration.bandwidth: '1.5MiB' is no whole number of MiB"]),
        ({"downtime": 0}, ["migration.downtime: 0 is not between 1 and 2000000"]),
        ({"compression": "zstd"}, ["migration.compression: zstd needs parallel_connections"]),
        ({"timeout_action": "pause"}, ["migration.timeout_action: pause needs timeout, after which it is done"]),
        (
            {"timeout": 120},
            ["migration.timeout: must be less than wait_timeout (120 s), at which the migration is given up"],
        ),
    ],
)
def test_migrations(migration, problems):
    assert _spec.problems(spec(name="web", migration=migration)) == problems


def test_a_migration_in_the_units_of_the_protocol():
    stated = spec(name="web", migration={"bandwidth": "1GiB", "downtime": 300})
    assert _spec.migration_of(stated) == {
        "bandwidth": 1024,
        "downtime": 300,
        "timeout_action": "abort",
        "auto_converge": False,
        "copy_storage": False,
    }
    assert _spec.migration_of(spec(name="web")) == {}
