# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random declarations in archipel_vm's options and random edits of them, against the daemon.

Each is foretold exactly, done, done once, and moves no device that nobody named. ``ARCHIPEL_RANDOM_ROUNDS`` is how many
machines are made, one for each seed.
"""

from __future__ import annotations

import os
import random

import pytest
from module_utils import _domain, _spec

from archipel_agent import domain_xml

ROUNDS = int(os.environ.get("ARCHIPEL_RANDOM_ROUNDS", "4"))
EDITS = 6
ADMIN = "admin@archipel.test/test"


def filled(options, given):
    """``given`` as AnsibleModule hands it over: every option there, None or the default where it is not given."""
    result = {}
    for name, option in options.items():
        value = given.get(name, option.get("default"))
        if value is not None and "options" in option:
            fill = [filled(option["options"], one) for one in (value if isinstance(value, list) else [value])]
            value = fill if isinstance(value, list) else fill[0]
        result[name] = value
    assert not set(given) - set(options), set(given) - set(options)
    return result


def some(chance, values, least=0):
    return chance.sample(values, chance.randint(least, len(values)))


def disks(chance):
    found = [
        {"name": "a", "size": "1MiB"},
        {"name": "b", "size": "2MiB", "format": "raw", "bus": "scsi", "serial": "b1"},
        {"name": "c", "size": "1MiB", "cache": chance.choice(["none", "writeback"]), "discard": "unmap"},
        {"name": "d", "size": "1MiB", "bus": "sata", "limits": {"total_iops_sec": chance.choice([100, 200])}},
        {"name": "e", "size": "1MiB", "target": "vdz", "limits": {"read_bytes_sec": 1 << 20}},
    ]
    return [{**disk, "pool": "engine-test"} for disk in some(chance, found)]


def networks(chance):
    links = [
        {"network": "default", "link": chance.choice(["up", "down"])},
        {"network": "lan", "model": chance.choice(["virtio", "e1000"])},
        {"bridge": "virbr0", "mac": "52:54:00:00:00:0a", "bandwidth": {"inbound": {"average": chance.choice([8, 16])}}},
        {"user": True, "filter": "clean-traffic"},
        {"direct": "host0", "direct_mode": "bridge"},
    ]
    return some(chance, links)


CHOICES = {
    "title": lambda chance: chance.choice(["A title", "Another"]),
    "description": lambda chance: chance.choice(["For <people>", ""]) or "none",
    "metadata": lambda chance: [f"<m:note xmlns:m='urn:m'>{chance.randint(1, 3)}</m:note>"],
    "memory": lambda chance: chance.choice(["64MiB", "96MiB", "128MiB"]),
    "vcpus": lambda chance: chance.choice([1, 2, 4]),
    "max_vcpus": lambda chance: 4,
    "max_memory": lambda chance: "128MiB",
    "memory_backing": lambda chance: {"source": "memfd", "access": chance.choice(["shared", "private"])},
    "firmware": lambda chance: chance.choice(["bios", "efi"]),
    "boot": lambda chance: some(chance, ["hd", "cdrom", "network"], 1),
    "clock": lambda chance: chance.choice(
        [{"offset": "utc"}, {"offset": "localtime", "timers": [{"name": "rtc", "tickpolicy": "catchup"}]}]
    ),
    "on_reboot": lambda chance: chance.choice(["restart", "destroy"]),
    "on_crash": lambda chance: chance.choice(["destroy", "coredump-restart"]),
    "disks": disks,
    "cdrom": lambda chance: chance.choice(["", "guest.iso", "/vm/engine-test/b.iso"]),
    "cloud_init": lambda chance: chance.choice(
        [{}, {"pool": "engine-test", "bus": chance.choice(["scsi", "sata"]), "user_data": "#cloud-config\n# 'one'"}]
    ),
    "networks": networks,
    "graphics": lambda chance: [
        {"type": kind, "password": chance.choice(["one", "two"]), "listen": "127.0.0.1"}
        for kind in some(chance, ["vnc", "spice"])
    ],
    "video": lambda chance: {"model": chance.choice(["vga", "virtio", "qxl", "none"])},
    "serials": lambda chance: some(chance, [{}, {"type": "tcp", "host": "127.0.0.1", "port": 4001}, {"type": "null"}]),
    "channels": lambda chance: some(
        chance, [{"name": "org.qemu.guest_agent.0"}, {"name": "org.archipel.test.0", "type": "pty"}]
    ),
    "watchdog": lambda chance: {"model": chance.choice(["i6300esb", "none"]), "action": "reset"},
    "rng": lambda chance: {"source": chance.choice(["/dev/urandom", "builtin", "none"])},
    "filesystems": lambda chance: some(chance, [{"driver": "9p", "source": "/vm/guest", "target": "a"}]),
    "cpu": lambda chance: {"model": chance.choice(["qemu64", "Nehalem"])},
    "cmdline": lambda chance: chance.choice(["quiet", "console=ttyS0"]),
}
# What means something only beside others.
TOGETHER = {"max_vcpus": ["vcpus"], "max_memory": ["memory"], "cmdline": []}


def declaration(chance):
    """A few options, at random."""
    stated = {name: CHOICES[name](chance) for name in some(chance, sorted(CHOICES))}
    for name, others in TOGETHER.items():
        if name in stated:
            stated.update({other: stated.get(other, CHOICES[other](chance)) for other in others})
    if "cmdline" in stated:
        stated["kernel"] = "/vm/guest/vmlinuz"
    if chance.random() < 0.3:
        stated["xml"] = "<domain><devices><sound model='ich9'/></devices></domain>"
    return stated


def request(machine, given, creating):
    spec = filled(_spec.argument_spec(), {"name": machine["name"], **given})
    assert _spec.problems(spec) == []
    return _domain.wanted(spec, machine["name"], machine["uuid"], creating)


def places(xml):
    """The addresses of devices by what the device is: a disk its file, an interface its MAC, others their key."""
    devices = domain_xml.devices_of(domain_xml.parse_domain(xml))
    found = {}
    for key, device in zip(domain_xml.device_keys(devices), devices):
        if device.find("address") is None or device.tag in ("controller", "input", "serial"):
            continue
        name = domain_xml.attribute_of(device, "source", "file") if device.tag == "disk" else ""
        kind = domain_xml.attribute_of(device, "target", "bus") + device.get("model", "")
        found[(*key, name, kind)] = sorted(device.find("address").items())
    return found


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_random_declarations(hypervisor, run, machine, seed):
    chance = random.Random(seed)
    base = {"memory": "64MiB", "machine": chance.choice(["q35", "pc"]), "domain_type": "qemu", "state": "present"}
    before = {}
    for number in range(EDITS):
        given = {**base, **declaration(chance)} if not number else declaration(chance)
        wanted = request(machine, given, creating=number == 0)
        result = run(hypervisor.apply(ADMIN, **wanted))
        assert "error" not in result, (given, result)
        xml = run(hypervisor.dump(machine["uuid"]))
        assert "'one'" not in str(result) and "'two'" not in str(result)
        after = places(xml)
        moved = {key for key in before.keys() & after.keys() if before[key] != after[key]}
        assert not moved, (given, moved)
        before = after
