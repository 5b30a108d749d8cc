# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Volumes on storage that hypervisors share, and copies of disks that break off."""

from __future__ import annotations

import uuid as uuidlib

import pytest
from people import DOMAIN, until
from repository import PATIENCE, Repository
from test_archipel_waiting import HALF_WAY

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


BREAKS = {
    # libvirt goes on with the copy.
    "agent": "systemctl kill --signal=KILL archipel-agent; systemctl start archipel-agent",
    # With its qemu-img, or that of this test would begin anew, on what is there by then.
    "libvirtd": "systemctl kill --signal=KILL --kill-who=all libvirtd; until virsh -q list; do sleep 1; done",
}


@pytest.mark.parametrize("daemon", BREAKS)
def test_half_a_copy_counts_for_nothing(platform, repository, daemon):
    here, there = platform.hypervisors[:2]
    golden, wrapper = "/vm/drives/storage-test-golden.raw", "/usr/local/sbin/qemu-img"
    disk = {"name": "root", "clone": "storage-test-golden.raw", "format": "qcow2"}
    repository.declare([{"name": NAME, "hypervisor": here, "disks": [disk]}])
    try:
        platform.run(here, f"head -c 8M /dev/urandom > {golden} && virsh -q pool-refresh default")
        platform.run(here, f"cat > {wrapper} <<'END'\n{HALF_WAY}END\nchmod 755 {wrapper}")
        repository.begin()
        repository.printed(f"{NAME}: copies its disks on {here}, [4-6][0-9] %, [34]MiB left$")
        platform.run(here, BREAKS[daemon])
        # It would wait for an answer for long.
        repository.close()
        assert is_there(platform)
        # The other hypervisor, which has not begun it, does not touch it.
        taken = {"name": f"{NAME}-2", "hypervisor": there, "disks": [{"volume": VOLUME}]}
        repository.declare([taken])
        half = f"default/{VOLUME} is a copy that is not at its end"
        until(lambda: half in repository.converge().get("msg", ""), PATIENCE)
        repository.declare([{"name": NAME, "hypervisor": here, "disks": [disk]}])
        # Who may not reach into the host waits for the end of what libvirt copies.
        platform.run(here, "touch /run/waiting-test")
        foretold = until_it_answers(repository, check=True)
        done = until_it_answers(repository)
        assert (foretold["summary"], done["summary"]) == ("create 1", "created 1"), done["msg"]
        platform.run(here, f"qemu-img compare -q {IMAGE} {golden} && test ! -e {IMAGE}.copying")
        assert not repository.converge()["changed"]
    finally:
        end = f"rm -f {wrapper} /run/waiting-test {golden}; until virsh -q pool-refresh default; do sleep 1; done"
        platform.run(here, f"touch /run/waiting-test; {end}")
        # One that has started meanwhile looks for this qemu-img for ever.
        platform.run(here, "systemctl restart libvirtd; until virsh -q list; do sleep 1; done")


def until_it_answers(repository, check: bool = False) -> dict:
    """What a converge ends with, once the agent is back to libvirt and the server."""
    found: list[dict] = []

    def look() -> bool:
        found.append(repository.converge(check))
        return not found[-1].get("failed")

    until(look, PATIENCE)
    return found[-1]


def test_a_copy_that_the_pool_has_no_room_for_is_not_begun(platform, repository):
    here, folder = platform.hypervisors[0], "/vm/narrow"
    sparse = {"name": "root", "pool": "storage-test", "format": "raw"}
    disk = {**sparse, "clone": "gold.raw"}
    pool = (
        f"mkdir -p {folder} && mount -t tmpfs -o size=16M none {folder} && head -c 9M /dev/urandom > {folder}/gold.raw"
    )
    end = f"virsh -q pool-destroy storage-test; umount {folder}; rmdir {folder}"
    platform.run(here, f"{pool} && virsh -q pool-create-as storage-test dir --target {folder}")
    try:
        repository.declare([{"name": NAME, "hypervisor": here, "disks": [disk]}])
        for check in (True, False):
            refused = repository.converge(check)["msg"]
            assert "the storage pool 'storage-test' has 7" in refused and "and 9MiB are written at once for" in refused
        # A volume that takes room as it fills may be larger than what is left.
        repository.declare([{"name": NAME, "hypervisor": here, "disks": [{**sparse, "size": "1GiB"}]}])
        assert repository.converge()["summary"] == "created 1"
        repository.declare([GONE])
        assert repository.converge()["summary"] == "removed 1"
    finally:
        platform.run(here, end)
