# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of archipel_vm that are seldom stated: each is made, edited and taken back, and kept as it is stated."""

from __future__ import annotations

import pytest
from test_typed import ADMIN, request

BASE = {"memory": "64MiB", "vcpus": 4, "machine": "q35", "domain_type": "qemu", "state": "present"}
LAN = {"network": "lan", "mac": "52:54:00:00:00:0a", "model": "virtio"}
ISO = {"path": "/vm/iso/guest.iso", "target": "vda", "bus": "virtio", "format": "raw"}
SOCKET = {"type": "unix", "path": "/vm/engine-test/socket"}
TCP = {"type": "tcp", "host": "127.0.0.1", "port": 4001}
# Each is what is declared of one option, one after the other.
LIVES = {
    "disks": [
        [{**ISO, "limits": {"total_bytes_sec": 1000, "read_iops_sec": 7}}],
        [{**ISO, "limits": {"read_bytes_sec": 1000, "write_bytes_sec": 2000}}],
        [{**ISO, "limits": {"write_bytes_sec": 0, "total_iops_sec": 5}}],
        [{**ISO, "limits": {"total_bytes_sec": 3000}}],
        [{**ISO, "cache": "none", "io": "native", "discard": "unmap", "serial": "A B"}],
        [{**ISO, "cache": "writeback", "io": "threads", "discard": "ignore", "serial": "c"}],
    ],
    "networks": [
        [{**LAN, "bandwidth": {"inbound": {"average": 10, "peak": 20, "burst": 30}}, "link": "down"}],
        [{**LAN, "bandwidth": {"inbound": {"average": 10}, "outbound": {"average": 1}}, "link": "up"}],
        [{**LAN, "filter": "clean-traffic"}],
        [{"user": True, "mac": "52:54:00:00:00:0b", "model": "e1000e"}],
    ],
    "boot": [["network", "cdrom", "hd", "fd"], ["fd"], ["cdrom", "network"]],
    "on_reboot": ["destroy", "restart", "destroy"],
    "on_crash": ["restart", "preserve", "coredump-destroy", "coredump-restart", "destroy"],
    "memory_backing": [
        {"source": "memfd", "access": "private"},
        {"source": "file", "access": "shared"},
        {"hugepages": "2MiB", "source": "memfd"},
        {"hugepages": "1GiB"},
    ],
    "clock": [
        {
            "offset": "localtime",
            "timers": [{"name": "rtc", "tickpolicy": "catchup"}, {"name": "hpet", "present": False}],
        },
        {"offset": "utc", "timers": [{"name": "hpet", "present": True}, {"name": "pit", "tickpolicy": "delay"}]},
        {"offset": "timezone", "timezone": "Europe/Paris"},
        {"offset": "utc"},
    ],
    "cpu": [
        {"model": "Nehalem", "features": [{"name": "vmx", "policy": "disable"}, {"name": "aes"}]},
        {"model": "Nehalem", "features": [{"name": "aes", "policy": "forbid"}]},
        {"mode": "maximum", "sockets": 2, "cores": 2},
        {"model": "qemu64", "threads": 2, "cores": 2},
    ],
    "numa_nodes": ["0", "0-1", "1"],
    "watchdog": [
        {"model": "i6300esb", "action": "inject-nmi"},
        {"model": "i6300esb", "action": "pause"},
        {"model": "ib700", "action": "none"},
    ],
    "rng": [
        {"source": "/dev/random", "rate_bytes": 1000, "rate_period": 10},
        {"source": "/dev/urandom", "rate_bytes": 2000},
        {"source": "builtin"},
    ],
    "serials": [[SOCKET, {"type": "null"}], [TCP, SOCKET], [{"type": "file", "path": "/vm/engine-test/log"}]],
    "graphics": [
        [{"type": "vnc", "port": 5999, "listen": "0.0.0.0"}],
        [{"type": "vnc", "port": 5998, "listen": "::1"}, {"type": "spice", "port": 5997}],
    ],
    "video": [{"model": "virtio", "heads": 2}, {"model": "qxl", "vram": "32MiB"}, {"model": "bochs", "vram": "8MiB"}],
}
# Whose terms say all of what is stated.
TOLD = ("disks", "networks", "boot", "on_reboot", "on_crash", "watchdog", "serials", "graphics")


@pytest.mark.parametrize("option", LIVES)
def test_it_is_kept_as_it_is_stated(hypervisor, run, machine, option):
    for number, value in enumerate(LIVES[option]):
        given = {**({} if number else BASE), option: value}
        result = run(hypervisor.apply(ADMIN, **request(machine, given, creating=not number)))
        assert "error" not in result and "ignored" not in result, (value, result)
        assert result["changed"] and "define" in result["actions"], value
        (found,) = run(hypervisor.ask("inventory", {"uuids": [machine["uuid"]], "details": True}, ADMIN))["vms"]
        if option in TOLD:
            assert holds(found["definition"][option], value), (value, found["definition"][option])


def holds(told, stated):
    """Whether what is told has all that is stated but 0, which is none; what is not stated stays, and may be there."""
    if isinstance(stated, dict):
        return all(holds(told.get(name), value or None) for name, value in stated.items())
    if isinstance(stated, list):
        return len(told) == len(stated) and all(map(holds, told, stated))
    return told == stated
