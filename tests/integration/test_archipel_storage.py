# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Volumes on storage that hypervisors share."""

from __future__ import annotations

import uuid as uuidlib

import pytest
from people import DOMAIN
from repository import Repository

NAME = "storage-test"
VOLUME = f"{NAME}-root.qcow2"
IMAGE = f"/vm/drives/{VOLUME}"
DEFAULTS = {"memory": "64MiB", "tags": ["storage-test"], "force": True, "shutdown_timeout": 1}
GONE = {"name": NAME, "state": "absent", "remove_disks": "owned"}
DISK = f"<disk type='volume' device='disk'><source pool='default' volume='{VOLUME}'/><target dev='vda'/></disk>"


@pytest.fixture
def repository(platform, tmp_path):
    found = Repository(platform, tmp_path, DEFAULTS)
    yield found
    found.close()
    found.declare([GONE])
    assert not found.converge().get("failed")
    for host in platform.hypervisors:
        platform.run(host, "virsh -q pool-refresh default")


def is_there(platform) -> bool:
    return bool(platform.run(platform.hypervisors[0], f"ls {IMAGE}", check=False))


@pytest.mark.parametrize("use", ["machine", "volume"])
def test_what_another_hypervisor_uses_stays(platform, repository, use):
    here, there = platform.hypervisors[:2]
    made = {"name": NAME, "hypervisor": here, "disks": [{"name": "root", "size": "8MiB"}]}
    repository.declare([made])
    assert repository.converge()["summary"] == "created 1"
    if use == "machine":
        xml = DOMAIN.format(name=f"{NAME}-other", uuid=uuidlib.uuid4(), devices=DISK)
        platform.run(there, f"cat > /tmp/{NAME}.xml <<'END'\n{xml}\nEND\nvirsh -q define /tmp/{NAME}.xml")
        end = f"rm /tmp/{NAME}.xml; virsh -q undefine {NAME}-other"
    else:
        over = f"--name {NAME}-over --capacity 8M --format qcow2 --backing-vol {IMAGE} --backing-vol-format qcow2"
        platform.run(there, f"virsh -q pool-refresh default; virsh -q vol-create-as default {over}")
        end = f"virsh -q vol-delete {NAME}-over default"
    try:
        repository.declare([GONE])
        assert repository.converge()["summary"] == "removed 1"
        assert is_there(platform)
    finally:
        platform.run(there, end)
        platform.run(there, f"virsh -q pool-refresh default; virsh -q vol-delete {VOLUME} default")


def test_no_volume_goes_while_a_hypervisor_is_silent_that_is_not_lost(platform, repository):
    here, there = platform.hypervisors[:2]
    repository.declare([{"name": NAME, "hypervisor": here, "disks": [{"name": "root", "size": "8MiB"}]}])
    assert repository.converge()["summary"] == "created 1"
    platform.run(there, "systemctl stop archipel-agent")
    try:
        repository.declare([GONE])
        refused = repository.converge()
        assert f"{there}, which may use volumes that are to be removed, does not say so" in refused["msg"]
        assert is_there(platform) and NAME in platform.run(here, "virsh list --all --name").split()
        repository.declare([{**GONE, "assume_lost": [there]}])
        assert repository.converge()["summary"] == "removed 1"
        assert not is_there(platform)
    finally:
        platform.run(there, "systemctl start archipel-agent")
