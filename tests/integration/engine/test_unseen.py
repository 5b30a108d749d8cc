# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What no guest of the lab can run with, declared in archipel_vm's options, as far as definition and plan.

The lab has no devices to hand over, no Ceph and no huge pages. Each is defined, changed and taken away again, against
the daemon: foretold exactly, and done once. tests/unit/agent/test_prediction.py has machines of Xen.
"""

from __future__ import annotations

import pytest
from test_typed import ADMIN, request

pytestmark = pytest.mark.usefixtures("anything_is_there")

BASE = {"memory": "64MiB", "machine": "q35", "domain_type": "qemu", "state": "present"}
RBD = {"protocol": "rbd", "name": "pool/image", "hosts": [{"name": f"mon{one}", "port": 6789} for one in (1, 2)]}
SHARED = {"source": "memfd", "access": "shared"}
# Each is a machine through its life: what is declared, and the terms that it then has.
LIVES = {
    "host_devices": [
        (
            {"host_devices": [{"pci": "0000:03:00.0"}, {"usb": "046d:c52b"}]},
            {
                "host_devices": [
                    "hostdev[pci,bus=3 domain=0 function=0 slot=0]",
                    "hostdev[usb,id=1133 id=50475]",
                ]
            },
        ),
        (
            {"host_devices": [{"usb": "046D:C52B"}, {"mdev": "1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39"}]},
            {
                "host_devices": [
                    "hostdev[usb,id=1133 id=50475]",
                    "hostdev[mdev,uuid=1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39]",
                ]
            },
        ),
        ({"host_devices": []}, {"host_devices": None}),
    ],
    "virtiofs": [
        (
            {"memory_backing": SHARED, "filesystems": [{"source": "/vm/share", "target": "share"}]},
            {"filesystems": [{"driver": "virtiofs", "source": "/vm/share", "target": "share"}]},
        ),
        ({"filesystems": []}, {"filesystems": None}),
    ],
    "numa": [
        (
            {
                "vcpus": 4,
                "memory": "256MiB",
                "numa": [{"cpus": "0-1", "memory": "128MiB"}, {"cpus": "2-3", "memory": "128MiB"}],
                "numa_nodes": "0",
            },
            {"numa": [{"cpus": "0-1", "memory": "128MiB"}, {"cpus": "2-3", "memory": "128MiB"}]},
        ),
        ({"cpu": {"model": "qemu64", "sockets": 2, "cores": 2}}, {"vcpus": 4}),
    ],
    "network disks": [
        ({"disks": [{"network": RBD, "format": "raw", "target": "vda"}]}, {}),
        ({"disks": []}, {"disks": None}),
    ],
    "huge pages": [({"memory_backing": {"hugepages": "2MiB"}}, {}), ({"memory_backing": SHARED}, {})],
}


@pytest.mark.parametrize("life", LIVES)
def test_it_is_foretold_and_defined(hypervisor, run, machine, life):
    for number, (given, expected) in enumerate(LIVES[life]):
        wanted = request(machine, {**BASE, **given} if not number else given, creating=not number)
        result = run(hypervisor.apply(ADMIN, **wanted))
        assert "error" not in result and "ignored" not in result, (given, result)
        assert result["changed"] and "define" in result["actions"]
        (found,) = run(hypervisor.ask("inventory", {"uuids": [machine["uuid"]], "details": True}, ADMIN))["vms"]
        for term, value in expected.items():
            assert found["definition"].get(term) == value, (given, found["definition"])
